/*
 * trainer/nn/conv/ahead.h -- memory that an algorithm will read soon, handed out to the calls of a
 * kernel: they fetch it into L2 while they compute. What is added last is handed out first.
 */
#ifndef NN_CONV_AHEAD_H
#define NN_CONV_AHEAD_H

#include <stddef.h>

struct nn_block;
struct nn_sink;
struct nn_source;
struct nn_strips;

#define NN_AHEAD_RANGES 96 /* more are left out */

/* All zero: nothing. */
struct nn_ahead {
    struct {
        const char *at;
        size_t lines; /* of the cache */
    } range[NN_AHEAD_RANGES];
    size_t ranges, piece; /* piece: lines */
};

/** Rows [from, to) of a matrix of c columns. */
void nn_ahead_add_rows(struct nn_ahead *ahead, const float *x, size_t c, size_t from, size_t to);

/** Rows [from, to) of what the source reads. */
void nn_ahead_add(struct nn_ahead *ahead, const struct nn_source *source, size_t from, size_t to);

/** What block `next` reads of the source and the block before it did not. Of windows that skip
 * pixels, the skipped ones of their lines too. */
void nn_ahead_add_block(struct nn_ahead *ahead, const struct nn_strips *strips,
                        const struct nn_block *block, const struct nn_block *next,
                        const struct nn_source *source);

/** Rows [from, to) of what the sink reads besides y. */
void nn_ahead_add_sink(struct nn_ahead *ahead, const struct nn_sink *sink, size_t from, size_t to);

/** All is added: cut it so that so many calls get all of it, if there are as many calls as ranges.
 * A piece is never of two ranges. */
void nn_ahead_cut(struct nn_ahead *ahead, size_t calls);

/** The next call's piece: its cache lines in *lines. NULL and 0: there is no more. */
const void *nn_ahead_next(struct nn_ahead *ahead, size_t *lines);

#endif
