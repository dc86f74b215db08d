#include "trainer/nn/batchnorm.h"

#include <math.h>
#include <string.h>

#include "trainer/nn/kernel/simd.h"

/* Channels that one thread merges at a time: two cache lines of floats. */
#define GROUP 32

struct nn_batchnorm nn_batchnorm_at(float *floats, size_t c)
{
    return (struct nn_batchnorm){
        .mean = floats,
        .inverse = floats + c,
        .scale = floats + 2 * c,
        .offset = floats + 3 * c,
        .share = floats + 4 * c,
        .pull = floats + 5 * c,
    };
}

static size_t group_at(size_t c, size_t begin)
{
    return c - begin < GROUP ? c - begin : GROUP;
}

/* Rows of all blocks together. */
static double rows_of(const struct nn_batchnorm_sums *sums)
{
    double rows = 0;

    for (size_t i = 0; i < sums->blocks; i++)
        rows += sums->block_rows[i];
    return rows;
}

/* The block of `rows` rows with these sums of x - pivot and of its square joins what has been seen:
 * `seen` rows with this mean and M2. Chan et al., equation 2.1. */
NN_CLONES static void merge_moments(size_t count, double seen, double rows,
                                    const float *restrict sum, const float *restrict square,
                                    const float *restrict pivot, double *restrict mean,
                                    double *restrict m2)
{
    const double share = rows / (seen + rows), each = 1 / rows;

    for (size_t j = 0; j < count; j++) {
        const double off = sum[j] * each, delta = pivot[j] + off - mean[j];

        mean[j] += delta * share;
        m2[j] += square[j] - off * sum[j] + delta * delta * seen * share;
    }
}

static float inverse_deviation(double variance)
{
    return (float)(1 / sqrt(variance + NN_BATCHNORM_EPS));
}

static void measure_group(const struct nn_batchnorm *bn, const struct nn_batchnorm_sums *sums,
                          size_t begin, const float *weight, float *statistics)
{
    const size_t c = sums->c, count = group_at(c, begin);
    double mean[GROUP] = {0}, m2[GROUP] = {0}, seen = 0;

    for (size_t i = 0; i < sums->blocks; i++) {
        const float *block = sums->sums + i * NN_BLOCK_SUMS * c + begin;

        merge_moments(count, seen, sums->block_rows[i], block, block + c, block + 2 * c, mean, m2);
        seen += sums->block_rows[i];
    }
    for (size_t j = 0; j < count; j++) {
        const size_t k = begin + j;

        m2[j] = m2[j] < 0 ? 0 : m2[j]; /* by rounding; a NaN stays one */
        bn->mean[k] = statistics[k] = (float)mean[j];
        bn->inverse[k] = inverse_deviation(m2[j] / seen);
        bn->scale[k] = bn->inverse[k] * weight[k];
        statistics[c + k] = seen > 1 ? (float)(m2[j] / (seen - 1)) : 0;
    }
}

void nn_batchnorm_measure(const struct nn_batchnorm *bn, const struct nn_batchnorm_sums *sums,
                          const float *weight, float *statistics)
{
#pragma omp parallel for
    for (size_t begin = 0; begin < sums->c; begin += GROUP)
        measure_group(bn, sums, begin, weight, statistics);
}

void nn_batchnorm_recall(const struct nn_batchnorm *bn, size_t c, const float *running,
                         const float *weight, const float *bias)
{
    for (size_t j = 0; j < c; j++) {
        bn->scale[j] = inverse_deviation(running[c + j]) * weight[j];
        bn->offset[j] = bias[j] - running[j] * bn->scale[j];
    }
}

NN_CLONES static void merge_sums(size_t count, const float *restrict g, const float *restrict gx,
                                 double *restrict sum, double *restrict product)
{
    for (size_t j = 0; j < count; j++) {
        sum[j] += g[j];
        product[j] += gx[j];
    }
}

static void settle_group(const struct nn_batchnorm *bn, const struct nn_batchnorm_sums *sums,
                         int number, double rows, size_t begin, float *dweight, float *dbias)
{
    const size_t c = sums->c, count = group_at(c, begin);
    double sum[GROUP] = {0}, product[GROUP] = {0};

    for (size_t i = 0; i < sums->blocks; i++) {
        const float *block = sums->sums + i * NN_BLOCK_SUMS * c + begin;

        merge_sums(count, block, block + (size_t)(1 + number) * c, sum, product);
    }
    for (size_t j = 0; j < count; j++) {
        const double inverse = bn->inverse[begin + j];

        dbias[begin + j] = (float)sum[j];
        dweight[begin + j] = (float)(product[j] * inverse);
        bn->share[begin + j] = (float)(sum[j] / rows);
        bn->pull[begin + j] = (float)(product[j] * inverse * inverse / rows);
    }
}

void nn_batchnorm_settle(const struct nn_batchnorm *bn, const struct nn_batchnorm_sums *sums,
                         int number, float *dweight, float *dbias)
{
    const double rows = rows_of(sums);

#pragma omp parallel for
    for (size_t begin = 0; begin < sums->c; begin += GROUP)
        settle_group(bn, sums, number, rows, begin, dweight, dbias);
}

struct nn_affine nn_batchnorm_affine(const struct nn_batchnorm *bn, const float *bias)
{
    return (struct nn_affine){.mean = bn->mean, .scale = bn->scale, .bias = bias};
}
