/* trainer/optim/sgd.c -- see sgd.h. */
#include "trainer/optim/sgd.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>

#define THREADS_FLOATS 32768 /* 128 KB: below, waking threads costs more than the work */

/* The norm is cut three times, each time as a function of count only: into PARTS for the threads,
 * these into blocks, and a block's squares go to LANES running sums, which the compiler keeps in
 * vector registers. */
#define PARTS        64
#define BLOCK_FLOATS 4096
#define LANES        8

/* The build does not contract: each operation rounds by itself, on every instruction set alike. */
static void step_plain(const struct optim_sgd *sgd, float lr, float *w, float *m,
                       const float *gradient, size_t count)
{
    const float momentum = sgd->momentum, weight_decay = sgd->weight_decay;

#pragma omp parallel for simd schedule(static) if (parallel : count >= THREADS_FLOATS)
    for (size_t i = 0; i < count; i++) {
        const float g = gradient[i] + weight_decay * w[i];

        m[i] = momentum * m[i] + g;
        w[i] -= lr * m[i];
    }
}

static void step_nesterov(const struct optim_sgd *sgd, float lr, float *w, float *m,
                          const float *gradient, size_t count)
{
    const float momentum = sgd->momentum, weight_decay = sgd->weight_decay;

#pragma omp parallel for simd schedule(static) if (parallel : count >= THREADS_FLOATS)
    for (size_t i = 0; i < count; i++) {
        const float g = gradient[i] + weight_decay * w[i];

        m[i] = momentum * m[i] + g;
        w[i] -= lr * (g + momentum * m[i]);
    }
}

void optim_sgd_step(const struct optim_sgd *sgd, float lr, float *w, float *m,
                    const float *gradient, size_t count)
{
    if (sgd->nesterov)
        step_nesterov(sgd, lr, w, m, gradient, count);
    else
        step_plain(sgd, lr, w, m, gradient, count);
}

static double sum_lanes(const double *lane, int count)
{
    return count == 1 ? lane[0]
                      : sum_lanes(lane, count / 2) + sum_lanes(lane + count / 2, count / 2);
}

static double square_block(const float *x, size_t count)
{
    double lane[LANES] = {0};
    size_t i = 0;

    for (; i + LANES <= count; i += LANES) {
        for (size_t j = 0; j < LANES; j++)
            lane[j] += (double)x[i + j] * (double)x[i + j];
    }
    for (size_t j = 0; i + j < count; j++)
        lane[j] += (double)x[i + j] * (double)x[i + j];
    return sum_lanes(lane, LANES);
}

/* Halves of whole blocks, down to one block. */
static double square_part(const float *x, size_t count)
{
    const size_t blocks = (count + BLOCK_FLOATS - 1) / BLOCK_FLOATS;
    const size_t left = blocks / 2 * BLOCK_FLOATS;

    if (blocks <= 1)
        return square_block(x, count);
    return square_part(x, left) + square_part(x + left, count - left);
}

double optim_norm(const float *x, size_t count)
{
    const size_t length = count / PARTS + (count % PARTS != 0);
    double part[PARTS] = {0};

#pragma omp parallel for schedule(static) if (count >= THREADS_FLOATS)
    for (int p = 0; p < PARTS; p++) {
        const size_t begin = (size_t)p * length;

        if (begin < count)
            part[p] = square_part(x + begin, count - begin < length ? count - begin : length);
    }
    return sqrt(sum_lanes(part, PARTS));
}

double optim_clip(float *gradient, size_t count, double max_norm)
{
    const double norm = optim_norm(gradient, count);
    const float factor = (float)(max_norm / norm);

    assert(max_norm > 0);
    if (!(norm > max_norm))
        return norm;
#pragma omp parallel for simd schedule(static) if (parallel : count >= THREADS_FLOATS)
    for (size_t i = 0; i < count; i++)
        gradient[i] *= factor;
    return norm;
}
