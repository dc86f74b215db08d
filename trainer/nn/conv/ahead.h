/*
 * trainer/nn/conv/ahead.h -- memory that the next block of an algorithm will want, handed out to
 * the kernel calls of this block in equal pieces: they fetch it into L2 while they compute.
 */
#ifndef NN_CONV_AHEAD_H
#define NN_CONV_AHEAD_H

#include <stddef.h>

struct nn_block;
struct nn_sink;
struct nn_source;
struct nn_strips;

#define NN_AHEAD_RANGES 24 /* more are left out */

/* All zero: nothing. */
struct nn_ahead {
    struct {
        const char *at, *end;
    } range[NN_AHEAD_RANGES];
    size_t ranges, lines; /* lines: of each piece */
};

/** Rows [from, to) of a matrix of c columns. */
void nn_ahead_add_rows(struct nn_ahead *ahead, const float *x, size_t c, size_t from, size_t to);

/** Rows [from, to) of what the source reads. */
void nn_ahead_add(struct nn_ahead *ahead, const struct nn_source *source, size_t from, size_t to);

/** What block `next` reads of the source and the block before it did not. Of windows that skip
 * pixels, the skipped ones between them too. */
void nn_ahead_add_block(struct nn_ahead *ahead, const struct nn_strips *strips,
                        const struct nn_block *block, const struct nn_block *next,
                        const struct nn_source *source);

/** Rows [from, to) of what the sink reads besides y. */
void nn_ahead_add_sink(struct nn_ahead *ahead, const struct nn_sink *sink, size_t from, size_t to);

/** In so many pieces. */
void nn_ahead_cut(struct nn_ahead *ahead, size_t pieces);

/** The next piece: its cache lines in *lines. NULL and 0: there are no more. */
const void *nn_ahead_next(struct nn_ahead *ahead, size_t *lines);

/** The next `pieces` pieces; fewer where a range ends. */
const void *nn_ahead_take(struct nn_ahead *ahead, size_t pieces, size_t *lines);

#endif
