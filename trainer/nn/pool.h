/*
 * trainer/nn/pool.h -- the two poolings of a residual network: 3x3 maximum with stride 2 and
 * padding 1, and the mean of each whole channel.
 */
#ifndef NN_POOL_H
#define NN_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "trainer/nn/kernel/sink.h"

struct nn_scratch;

struct nn_pool {
    int c, h, w; /* of the input */
    int oh, ow;  /* of the output */
};

struct nn_pool nn_maxpool_make(int c, int h, int w);
struct nn_pool nn_avgpool_make(int c, int h, int w);

/** Scratch that nn_maxpool_forward needs. */
size_t nn_maxpool_private_floats(const struct nn_pool *pool);

/** y (n, OH, OW, C) from the rows (n, H, W, C) of a source. `taken` (n, OH, OW, C) notes which of
 * the nine taps was the largest (the first of equals; a NaN is larger than any number); NULL where
 * no backward follows. */
void nn_maxpool_forward(const struct nn_pool *pool, int n, const struct nn_source *x, float *y,
                        uint8_t *taken, const struct nn_scratch *scratch);
/** The gradient dx (n, H, W, C), overwritten, leaves through a sink: one block an image. */
void nn_maxpool_backward(const struct nn_pool *pool, int n, const uint8_t *taken, const float *dy,
                         const struct nn_sink *dx);

/** y (n, C) from x (n, H, W, C). Each image is summed by itself, row after row. */
void nn_avgpool_forward(const struct nn_pool *pool, int n, const float *x, float *y);
/** The gradient dx (n, H, W, C), overwritten, leaves through a sink: one block an image. */
void nn_avgpool_backward(const struct nn_pool *pool, int n, const float *dy,
                         const struct nn_sink *dx);

#endif
