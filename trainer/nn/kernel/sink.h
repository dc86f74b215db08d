/*
 * trainer/nn/kernel/sink.h -- what happens to rows as a layer leaves them, still in cache: its
 * "epilogue". The other half of source.h.
 */
#ifndef NN_SINK_H
#define NN_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/nn/kernel/source.h"

/*
 * Sums over the rows of a block, in floats; blocks are merged in double by batchnorm.h. A block is
 * a set of rows that one task of a layer leaves; which rows depends on the layer's shape only.
 *
 * In forward (2, C): sums of x - pivot and of its squares, where pivot is the block's first row (so
 * a mean of a thousand deviations loses nothing), kept in a third (C).
 * In backward (1 + norms, C): sums of g, and of g (x - mean) for each batch norm.
 */
#define NN_BLOCK_SUMS 3

enum nn_sink_kind {
    NN_SINK_PLAIN,   /* nothing */
    NN_SINK_MEASURE, /* sums for the batch norm that reads y */
    NN_SINK_FINISH,  /* y = y + bias [+ residual], then ReLU: evaluation, batch norm folded into the
                        filters */
    NN_SINK_MASK,    /* backward: zero the gradient y where the ReLU was shut; sums for the batch
                        norms before it */
};

struct nn_sink {
    enum nn_sink_kind kind;
    size_t c;
    float *y; /* (rows, C): where the layer writes */
    bool add; /* the layer adds to what y holds */

    float *sums;          /* (blocks, NN_BLOCK_SUMS, C) */
    uint32_t *block_rows; /* (blocks): counted here; only the calls with begin 0 do */

    const float *bias, *residual; /* NN_SINK_FINISH: (C); (rows, C) or NULL */
    bool relu;                    /* NN_SINK_FINISH: is there one */

    /* NN_SINK_MASK: norms (1 or 2) batch norms end in the ReLU; norm_x are what they read,
     * norm_mean their means. The ReLU was open where `out`, its result, is positive; or, where that
     * is not stored (NULL), where affine(norm_x[0]) is, or affine(norm_x[0]) + other, or
     * affine(norm_x[0]) + other_affine(other), as in source.h. `other` with other_affine is
     * norm_x[1] in a network, and fetched ahead as that only. */
    const float *out, *other;
    struct nn_affine affine, other_affine;
    int norms;
    const float *norm_x[2], *norm_mean[2];
};

/** Treat channels [begin, begin + count) of rows [row, row + rows) of y, just written. `first`: the
 * first rows of this block for these channels. A block's rows come in order. */
void nn_sink_rows(const struct nn_sink *sink, size_t block, bool first, size_t row, size_t rows,
                  size_t begin, size_t count);

#endif
