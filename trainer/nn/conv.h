/*
 * trainer/nn/conv.h -- convolution (cross-correlation) without bias, forward and backward.
 *
 * Pictures are (N, H, W, C), filters (K, R, R, C). Each product is im2col of a tile into memory of
 * the computing thread and one single-threaded GEMM (Chellapilla, Puri, Simard, "High performance
 * convolutional neural networks for document processing", 2006); 1x1 with stride 1 is the GEMM
 * alone. In NHWC the taps of one filter row lie side by side in the picture, so im2col copies runs
 * of R*C floats.
 *
 * How work is cut depends on shapes only, never on the number of threads; and forward treats each
 * image by itself, so an image's result depends neither on its batch nor on its place in it.
 */
#ifndef NN_CONV_H
#define NN_CONV_H

#include <stddef.h>

struct nn_scratch;

struct nn_conv {
    int c, h, w; /* of the input */
    int k, r;    /* filters, and their height and width */
    int stride, pad;
    int oh, ow; /* of the output */
};

/* What a backward function does with the gradient that it is given to fill. */
enum nn_into { NN_OVERWRITE, NN_ADD };

struct nn_conv nn_conv_make(int c, int h, int w, int k, int r, int stride);

/** Scratch that the three functions below need for up to n images. */
size_t nn_conv_shared_floats(const struct nn_conv *conv, int n);
size_t nn_conv_private_floats(const struct nn_conv *conv);

/** y (n, OH, OW, K) from x (n, H, W, C) and w (K, R, R, C). */
void nn_conv_forward(const struct nn_conv *conv, int n, const float *x, const float *w, float *y,
                     const struct nn_scratch *scratch);

/** dx (n, H, W, C) from dy (n, OH, OW, K): overwritten or added to, as `into` says. */
void nn_conv_backward_data(const struct nn_conv *conv, int n, const float *dy, const float *w,
                           float *dx, enum nn_into into, const struct nn_scratch *scratch);

/** dw (K, R, R, C), overwritten, from x and dy. */
void nn_conv_backward_weights(const struct nn_conv *conv, int n, const float *x, const float *dy,
                              float *dw, const struct nn_scratch *scratch);

#endif
