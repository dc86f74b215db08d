/*
 * trainer/nn/pool.h -- the two poolings of a residual network: 3x3 maximum with stride 2 and
 * padding 1, and the mean of each whole channel.
 */
#ifndef NN_POOL_H
#define NN_POOL_H

#include <stdint.h>

struct nn_pool {
    int c, h, w; /* of the input */
    int oh, ow;  /* of the output */
};

struct nn_pool nn_maxpool_make(int c, int h, int w);
struct nn_pool nn_avgpool_make(int c, int h, int w);

/** y (n, OH, OW, C) from x (n, H, W, C). `taken` (n, OH, OW, C) notes which of the nine taps was
 * the largest (the first of equals; a NaN is larger than any number); NULL where no backward
 * follows. */
void nn_maxpool_forward(const struct nn_pool *pool, int n, const float *x, float *y,
                        uint8_t *taken);
/** dx (n, H, W, C), overwritten. */
void nn_maxpool_backward(const struct nn_pool *pool, int n, const uint8_t *taken, const float *dy,
                         float *dx);

/** y (n, C) from x (n, H, W, C). Each image is summed by itself, row after row. */
void nn_avgpool_forward(const struct nn_pool *pool, int n, const float *x, float *y);
/** dx (n, H, W, C), overwritten. */
void nn_avgpool_backward(const struct nn_pool *pool, int n, const float *dy, float *dx);

#endif
