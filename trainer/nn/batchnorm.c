#include "trainer/nn/batchnorm.h"

#include <math.h>
#include <string.h>

#include "trainer/nn/scratch.h"
#include "trainer/nn/simd.h"

/* Rows of a block and channels merged by one thread: part of the bits. A block's float sums are
 * short enough to lose nothing that matters; all longer sums are double. */
#define BLOCK_ROWS     128
#define MERGE_CHANNELS 16

static size_t blocks_of(size_t rows)
{
    return (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
}

static size_t block_rows(size_t rows, size_t block)
{
    const size_t left = rows - block * BLOCK_ROWS;

    return left < BLOCK_ROWS ? left : BLOCK_ROWS;
}

/* A block has two doubles and two floats per channel: partial results, and the sums that they come
 * from. Behind the blocks stand backward's three factors per channel. */
size_t nn_batchnorm_shared_floats(const struct nn_batchnorm *bn, size_t rows)
{
    return (blocks_of(rows) * 7 + 3) * (size_t)bn->c;
}

static double *partials_of(const struct nn_batchnorm *bn, size_t block,
                           const struct nn_scratch *scratch)
{
    return (double *)(void *)scratch->shared + block * 2 * (size_t)bn->c;
}

static float *sums_of(const struct nn_batchnorm *bn, size_t rows, size_t block,
                      const struct nn_scratch *scratch)
{
    return scratch->shared + blocks_of(rows) * (size_t)bn->c * 4 + block * 3 * (size_t)bn->c;
}

NN_CLONES static void add_rows(size_t rows, size_t c, const float *restrict x, float *restrict sum)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < c; j++)
            sum[j] += x[i * c + j];
}

NN_CLONES static void add_squares(size_t rows, size_t c, const float *restrict x,
                                  const float *restrict mean, float *restrict sum,
                                  float *restrict square)
{
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < c; j++) {
            const float centred = x[i * c + j] - mean[j];

            sum[j] += centred;
            square[j] += centred * centred;
        }
    }
}

/* One block's mean and M2 per channel by the corrected two-pass algorithm: the second pass also
 * finds by how much the first pass's float mean is off. */
static void measure_block(size_t rows, size_t c, const float *x, float *sums, double *partials)
{
    memset(sums, 0, 3 * c * sizeof(*sums));
    add_rows(rows, c, x, sums);
    for (size_t j = 0; j < c; j++)
        sums[j] /= (float)rows;
    add_squares(rows, c, x, sums, sums + c, sums + 2 * c);
    for (size_t j = 0; j < c; j++) {
        const double off = (double)sums[c + j] / (double)rows;

        partials[j] = sums[j] + off;
        partials[c + j] = sums[2 * c + j] - off * sums[c + j];
    }
}

/* a = a and b together, for channels [begin, end). Chan et al., equation 2.1. */
static void merge_moments(double *a, const double *b, size_t a_rows, size_t b_rows, size_t c,
                          size_t begin, size_t end)
{
    const double all = (double)(a_rows + b_rows), share = (double)b_rows / all;

    for (size_t j = begin; j < end; j++) {
        const double delta = b[j] - a[j];

        a[j] += delta * share;
        a[c + j] += b[c + j] + delta * delta * (double)a_rows * share;
    }
}

static void merge_sums(double *a, const double *b, size_t c, size_t begin, size_t end)
{
    for (size_t j = begin; j < end; j++) {
        a[j] += b[j];
        a[c + j] += b[c + j];
    }
}

enum partial { MOMENTS, SUMS };

/* Merge all blocks into the first: neighbours, then neighbours of neighbours. */
static void merge_blocks(const struct nn_batchnorm *bn, size_t rows, enum partial partial,
                         const struct nn_scratch *scratch)
{
    const size_t blocks = blocks_of(rows), c = (size_t)bn->c;

#pragma omp parallel for
    for (size_t begin = 0; begin < c; begin += MERGE_CHANNELS) {
        const size_t end = begin + MERGE_CHANNELS < c ? begin + MERGE_CHANNELS : c;

        for (size_t step = 1; step < blocks; step *= 2) {
            for (size_t i = 0; i + step < blocks; i += 2 * step) {
                double *a = partials_of(bn, i, scratch);
                const double *b = partials_of(bn, i + step, scratch);
                const size_t after = (i + 2 * step) * BLOCK_ROWS;
                const size_t b_end = after < rows ? after : rows;

                if (partial == MOMENTS)
                    merge_moments(a, b, step * BLOCK_ROWS, b_end - (i + step) * BLOCK_ROWS, c,
                                  begin, end);
                else
                    merge_sums(a, b, c, begin, end);
            }
        }
    }
}

static float inverse_deviation(double variance)
{
    return (float)(1 / sqrt(variance + NN_BATCHNORM_EPS));
}

void nn_batchnorm_measure(const struct nn_batchnorm *bn, size_t rows, const float *x, float *saved,
                          float *statistics, const struct nn_scratch *scratch)
{
    const size_t c = (size_t)bn->c, blocks = blocks_of(rows);
    const double *moments = partials_of(bn, 0, scratch);

#pragma omp parallel for
    for (size_t i = 0; i < blocks; i++)
        measure_block(block_rows(rows, i), c, x + i * BLOCK_ROWS * c, sums_of(bn, rows, i, scratch),
                      partials_of(bn, i, scratch));
    merge_blocks(bn, rows, MOMENTS, scratch);
    for (size_t j = 0; j < c; j++) {
        saved[j] = statistics[j] = (float)moments[j];
        saved[c + j] = inverse_deviation(moments[c + j] / (double)rows);
        statistics[c + j] = rows > 1 ? (float)(moments[c + j] / (double)(rows - 1)) : 0;
    }
}

void nn_batchnorm_recall(const struct nn_batchnorm *bn, const float *running, float *saved)
{
    for (int j = 0; j < bn->c; j++) {
        saved[j] = running[j];
        saved[bn->c + j] = inverse_deviation(running[bn->c + j]);
    }
}

NN_CLONES static void normalise(size_t rows, size_t c, const float *restrict x,
                                const float *restrict saved, const float *restrict weight,
                                const float *restrict bias, float *restrict y)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < c; j++)
            y[i * c + j] = (x[i * c + j] - saved[j]) * (saved[c + j] * weight[j]) + bias[j];
}

/* ReLU as "negative becomes 0", so that a NaN stays one and is noticed in the loss. */
NN_CLONES static void rectify(size_t count, float *restrict y)
{
    for (size_t i = 0; i < count; i++)
        y[i] = y[i] < 0 ? 0 : y[i];
}

NN_CLONES static void add(size_t count, const float *restrict x, float *restrict y)
{
    for (size_t i = 0; i < count; i++)
        y[i] += x[i];
}

void nn_batchnorm_forward(const struct nn_batchnorm *bn, size_t rows, const float *x,
                          const float *saved, const float *weight, const float *bias,
                          const float *residual, float *y)
{
    const size_t c = (size_t)bn->c, blocks = blocks_of(rows);

#pragma omp parallel for
    for (size_t i = 0; i < blocks; i++) { /* the steps of a block find it in cache */
        const size_t at = i * BLOCK_ROWS * c, count = block_rows(rows, i) * c;

        normalise(block_rows(rows, i), c, x + at, saved, weight, bias, y + at);
        if (residual != NULL)
            add(count, residual + at, y + at);
        if (bn->relu)
            rectify(count, y + at);
    }
}

NN_CLONES static void rectify_backward(size_t count, const float *restrict y, float *restrict dy)
{
    for (size_t i = 0; i < count; i++)
        dy[i] = y[i] <= 0 ? 0 : dy[i];
}

/* sums (2, c): of dy, and of dy (x - mean). */
NN_CLONES static void add_products(size_t rows, size_t c, const float *restrict x,
                                   const float *restrict mean, const float *restrict dy,
                                   float *restrict sum, float *restrict product)
{
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < c; j++) {
            const float g = dy[i * c + j];

            sum[j] += g;
            product[j] += g * (x[i * c + j] - mean[j]);
        }
    }
}

/* dx = slope (dy - share - (x - mean) pull): factors (3, c) are share, pull and slope. */
NN_CLONES static void normalise_backward(size_t rows, size_t c, const float *restrict x,
                                         const float *restrict mean, const float *restrict factors,
                                         float *restrict dy)
{
    const float *restrict share = factors, *restrict pull = factors + c;
    const float *restrict slope = factors + 2 * c;

    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < c; j++)
            dy[i * c + j] =
                slope[j] * (dy[i * c + j] - share[j] - (x[i * c + j] - mean[j]) * pull[j]);
}

/* What a block does before the sums are known: ReLU's and the addition's backward, and its own part
 * of the sums. */
static void backward_block(const struct nn_batchnorm *bn, size_t rows, size_t block,
                           const struct nn_batchnorm_backward *args,
                           const struct nn_scratch *scratch)
{
    const size_t c = (size_t)bn->c, at = block * BLOCK_ROWS * c;
    const size_t count = block_rows(rows, block) * c;
    float *sums = sums_of(bn, rows, block, scratch);
    double *partials = partials_of(bn, block, scratch);

    if (bn->relu)
        rectify_backward(count, args->y + at, args->dy + at);
    if (args->dresidual != NULL && args->dresidual_into == NN_ADD)
        add(count, args->dy + at, args->dresidual + at);
    else if (args->dresidual != NULL)
        memcpy(args->dresidual + at, args->dy + at, count * sizeof(float));
    memset(sums, 0, 2 * c * sizeof(*sums));
    add_products(block_rows(rows, block), c, args->x + at, args->saved, args->dy + at, sums,
                 sums + c);
    for (size_t j = 0; j < 2 * c; j++)
        partials[j] = sums[j];
}

void nn_batchnorm_backward(const struct nn_batchnorm *bn, size_t rows,
                           const struct nn_batchnorm_backward *args,
                           const struct nn_scratch *scratch)
{
    const size_t c = (size_t)bn->c, blocks = blocks_of(rows);
    const double *sums = partials_of(bn, 0, scratch);
    float *factors = sums_of(bn, rows, blocks, scratch);

#pragma omp parallel for
    for (size_t i = 0; i < blocks; i++)
        backward_block(bn, rows, i, args, scratch);
    merge_blocks(bn, rows, SUMS, scratch);
    for (size_t j = 0; j < c; j++) {
        const double inverse = args->saved[c + j];

        args->dbias[j] = (float)sums[j];
        args->dweight[j] = (float)(sums[c + j] * inverse);
        factors[j] = (float)(sums[j] / (double)rows);
        factors[c + j] = (float)(sums[c + j] * inverse * inverse / (double)rows);
        factors[2 * c + j] = (float)(inverse * args->weight[j]);
    }
#pragma omp parallel for
    for (size_t i = 0; i < blocks; i++)
        normalise_backward(block_rows(rows, i), c, args->x + i * BLOCK_ROWS * c, args->saved,
                           factors, args->dy + i * BLOCK_ROWS * c);
}
