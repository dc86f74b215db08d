/*
 * trainer/nn/linear.h -- the fully connected layer, forward and backward.
 *
 * It is a 1x1 convolution of pictures of one pixel, and computed as one: forward and backward to
 * the data treat each image by itself, so an image's row has the same bits alone and in any batch.
 */
#ifndef NN_LINEAR_H
#define NN_LINEAR_H

#include <stdbool.h>

#include "trainer/nn/conv/conv.h"

struct nn_scratch;

struct nn_linear {
    struct nn_conv conv; /* of c inputs and k outputs */
    bool relu;           /* y is ReLU of what stands below */
};

struct nn_linear nn_linear_make(int c, int k);

/** y (n, K) = x (n, C) w^T + bias, w (K, C). */
void nn_linear_forward(const struct nn_linear *linear, int n, const float *x, const float *w,
                       const float *bias, float *y, const struct nn_scratch *scratch);
/** With a ReLU: dy (n, K) = 0 where y is not above it; call it before the two below. */
void nn_linear_mask(const struct nn_linear *linear, int n, const float *y, float *dy);
/** dx (n, C), overwritten. */
void nn_linear_backward_data(const struct nn_linear *linear, int n, const float *dy, const float *w,
                             float *dx, const struct nn_scratch *scratch);
/** dw (K, C) and dbias (K), overwritten. */
void nn_linear_backward_weights(const struct nn_linear *linear, int n, const float *x,
                                const float *dy, float *dw, float *dbias,
                                const struct nn_scratch *scratch);

#endif
