/*
 * trainer/nn/shortcut.h -- the shortcut without parameters of the CIFAR networks.
 *
 * Source: He et al. 2015, section 4.2, option A: every second pixel in both directions, and zeros
 * for the channels that the input does not have. The paper does not say where the zeros stand; here
 * they come after the input's channels.
 */
#ifndef NN_SHORTCUT_H
#define NN_SHORTCUT_H

struct nn_shortcut {
    int c, h, w;   /* of the input */
    int k, oh, ow; /* of the output, k >= c */
};

struct nn_shortcut nn_shortcut_make(int c, int h, int w, int k);

/** y (n, OH, OW, K) from x (n, H, W, C). */
void nn_shortcut_forward(const struct nn_shortcut *shortcut, int n, const float *x, float *y);
/** dx (n, H, W, C), overwritten. */
void nn_shortcut_backward(const struct nn_shortcut *shortcut, int n, const float *dy, float *dx);

#endif
