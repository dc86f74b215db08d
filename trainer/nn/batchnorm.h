/*
 * trainer/nn/batchnorm.h -- batch normalisation, with what follows it in a residual network:
 * addition and ReLU.
 *
 *     y = f((x - mean) / sqrt(variance + eps) * weight + bias [+ residual]),   f = ReLU or the
 * identity
 *
 * Source: Ioffe and Szegedy, "Batch normalization", ICML 2015. Statistics are merged as (mean, M2)
 * from blocks of rows (Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for
 * computing sample variances", 1979), in double, in a tree whose shape depends on the number of
 * rows only. A row is one pixel of one image: rows = N*H*W.
 */
#ifndef NN_BATCHNORM_H
#define NN_BATCHNORM_H

#include <stdbool.h>
#include <stddef.h>

#include "trainer/nn/conv.h" /* enum nn_into */

struct nn_scratch;

#define NN_BATCHNORM_EPS 1e-5

struct nn_batchnorm {
    int c;
    bool relu;
};

/** Floats of shared scratch for up to `rows` rows. */
size_t nn_batchnorm_shared_floats(const struct nn_batchnorm *bn, size_t rows);

/** Means and variances of x (rows, C) as they normalise (divided by rows) and as running statistics
 * want them (unbiased: divided by rows - 1; 0 for a single row). `saved` (2, C): mean and
 * 1/sqrt(variance + eps), for forward and backward. `statistics` (2, C): mean and unbiased
 * variance. */
void nn_batchnorm_measure(const struct nn_batchnorm *bn, size_t rows, const float *x, float *saved,
                          float *statistics, const struct nn_scratch *scratch);

/** `saved` from running statistics (2, C: means, variances), for evaluation. */
void nn_batchnorm_recall(const struct nn_batchnorm *bn, const float *running, float *saved);

/** y (rows, C) from x; residual (rows, C) is added before ReLU, or NULL. */
void nn_batchnorm_forward(const struct nn_batchnorm *bn, size_t rows, const float *x,
                          const float *saved, const float *weight, const float *bias,
                          const float *residual, float *y);

/** What backward reads and writes; all (rows, C) or (C). */
struct nn_batchnorm_backward {
    const float *x, *y, *saved, *weight; /* as forward had them; y may be NULL without ReLU */
    float *dy;                           /* in: the gradient of y; out: the gradient of x */
    float *dweight, *dbias;              /* overwritten */
    float *dresidual;                    /* gradient of residual, or NULL */
    enum nn_into dresidual_into;
};

void nn_batchnorm_backward(const struct nn_batchnorm *bn, size_t rows,
                           const struct nn_batchnorm_backward *args,
                           const struct nn_scratch *scratch);

#endif
