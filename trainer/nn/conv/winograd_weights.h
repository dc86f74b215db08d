/*
 * trainer/nn/conv/winograd_weights.h -- backward to the weights by F(m x m, 3x3), m = 4 or 2. Of
 * use to winograd.c, whose tables hold it; arguments and promises are those of conv.h.
 */
#ifndef NN_CONV_WINOGRAD_WEIGHTS_H
#define NN_CONV_WINOGRAD_WEIGHTS_H

#include <stddef.h>

struct nn_conv;
struct nn_conv_backward_weights;
struct nn_conv_size;
struct nn_scratch;

void nn_winograd_backward_weights(const struct nn_conv_backward_weights *args, size_t m,
                                  const struct nn_scratch *scratch);

struct nn_conv_size nn_winograd_weights_size(const struct nn_conv *conv, size_t n, size_t m);

#endif
