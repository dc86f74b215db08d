/*
 * trainer/nn/linear.h -- the fully connected layer, forward and backward.
 *
 * Plain loops instead of a GEMM: every output is summed over the inputs in order, so an image's row
 * has the same bits alone and in any batch, and one image is no special case.
 */
#ifndef NN_LINEAR_H
#define NN_LINEAR_H

#include <stddef.h>

struct nn_scratch;

struct nn_linear {
    int c, k; /* inputs, outputs */
};

size_t nn_linear_shared_floats(const struct nn_linear *linear);

/** y (n, K) = x (n, C) w^T + bias, w (K, C). */
void nn_linear_forward(const struct nn_linear *linear, int n, const float *x, const float *w,
                       const float *bias, float *y, const struct nn_scratch *scratch);
/** dx (n, C), overwritten. */
void nn_linear_backward_data(const struct nn_linear *linear, int n, const float *dy, const float *w,
                             float *dx);
/** dw (K, C) and dbias (K), overwritten. */
void nn_linear_backward_weights(const struct nn_linear *linear, int n, const float *x,
                                const float *dy, float *dw, float *dbias);

#endif
