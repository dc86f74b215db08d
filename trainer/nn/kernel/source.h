/*
 * trainer/nn/kernel/source.h -- how a layer reads the rows of its operand: its "prologue".
 *
 * A row is the C channels of one pixel; rows = N*H*W. Batch norm, addition and ReLU cost a pass
 * over memory each when they are layers of their own. Here they happen when the next convolution
 * fetches its rows (a source) and when a convolution leaves them (sink.h), while they are in cache.
 * So between two convolutions only the first one's raw result is stored.
 *
 * All functions treat channels independently and run on the calling thread.
 */
#ifndef NN_SOURCE_H
#define NN_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

/* (x - mean) * scale + bias, each (C): a batch norm whose statistics are known. */
struct nn_affine {
    const float *mean, *scale, *bias;
};

enum nn_source_kind {
    NN_SOURCE_PLAIN,    /* x */
    NN_SOURCE_SCALED,   /* ReLU(affine(x)): a batch norm's output */
    NN_SOURCE_JOINED,   /* ReLU(affine(x) + other), or + other_affine(other): a block's end */
    NN_SOURCE_GRADIENT, /* slope (other - share - (x - mean) pull): batch norm's backward; x is what
                           the batch norm read in forward, other the gradient of what it wrote */
};

struct nn_source {
    enum nn_source_kind kind;
    size_t c;
    const float *x, *other;                /* (rows, C) */
    struct nn_affine affine, other_affine; /* other_affine.mean NULL: other as it is */
    const struct nn_source
        *other_source; /* NN_SOURCE_JOINED: read in place of `other`, which is NULL */
    const float *mean, *share, *pull, *slope; /* (C), of NN_SOURCE_GRADIENT */
    float *store; /* (rows, C): the rows as read are left here too, for later readers. May be x
                     itself. NULL: not */
};

/** Read channels [begin, begin + count) of `rows` rows from `row` on into out, row i at out + i *
 * step. Nothing between the rows of out is touched. */
void nn_source_read(const struct nn_source *source, size_t row, size_t rows, size_t begin,
                    size_t count, float *out, size_t step);

/** Are the rows in memory as they are read? Then source->x may be used without a copy. */
bool nn_source_is_plain(const struct nn_source *source);

#endif
