/*
 * trainer/nn/batchnorm.h -- batch normalisation: what stands between the sums that a layer's sink
 * leaves and the factors that a source multiplies with (kernel/sink.h).
 *
 *     y = (x - mean) / sqrt(variance + eps) * weight + bias
 *
 * Source: Ioffe and Szegedy, "Batch normalization", ICML 2015. Blocks are merged as (mean, M2) in
 * double, one after the other (Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm
 * for computing sample variances", 1979). A row is one pixel of one image: rows = N*H*W.
 */
#ifndef NN_BATCHNORM_H
#define NN_BATCHNORM_H

#include <stddef.h>
#include <stdint.h>

#include "trainer/nn/kernel/sink.h"

#define NN_BATCHNORM_EPS 1e-5

/* What a sink left: NN_BLOCK_SUMS runs of C floats a block, and how many rows it was. */
struct nn_batchnorm_sums {
    size_t blocks, c;
    const float *sums;          /* (blocks, NN_BLOCK_SUMS, C) */
    const uint32_t *block_rows; /* (blocks) */
};

/* One batch norm's values between forward and backward, all (C). */
struct nn_batchnorm {
    float *mean, *inverse; /* of this micro-batch; inverse = 1 / sqrt(variance + eps) */
    float *scale;          /* inverse * weight: slope in forward and in backward */
    float *offset;         /* evaluation: bias - mean * scale */
    float *share, *pull;   /* backward: dx = scale (g - share - (x - mean) pull) */
};
#define NN_BATCHNORM_ARRAYS 6

/** The six arrays one behind the other from `floats` on. */
struct nn_batchnorm nn_batchnorm_at(float *floats, size_t c);

/** After forward (NN_SINK_MEASURE): mean, inverse and scale. `statistics` (2, C): the mean and the
 * unbiased variance (divided by rows - 1; 0 for a single row), for running statistics. */
void nn_batchnorm_measure(const struct nn_batchnorm *bn, const struct nn_batchnorm_sums *sums,
                          const float *weight, float *statistics);

/** For evaluation, from running statistics (2, C: means, variances): scale and offset. */
void nn_batchnorm_recall(const struct nn_batchnorm *bn, size_t c, const float *running,
                         const float *weight, const float *bias);

/** After the gradient of ReLU(y) is whole (NN_SINK_MASK, of which this is norm number `number`):
 * share and pull; dweight and dbias (C), overwritten. */
void nn_batchnorm_settle(const struct nn_batchnorm *bn, const struct nn_batchnorm_sums *sums,
                         int number, float *dweight, float *dbias);

/** x as the batch norm's readers see it after ReLU: forward. */
struct nn_affine nn_batchnorm_affine(const struct nn_batchnorm *bn, const float *bias);

#endif
