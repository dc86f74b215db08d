#include "trainer/nn/pool.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "trainer/nn/simd.h"

#define SIDE   3
#define STRIDE 2
#define PAD    1

struct nn_pool nn_maxpool_make(int c, int h, int w)
{
    return (struct nn_pool){
        .c = c,
        .h = h,
        .w = w,
        .oh = (h + 2 * PAD - SIDE) / STRIDE + 1,
        .ow = (w + 2 * PAD - SIDE) / STRIDE + 1,
    };
}

struct nn_pool nn_avgpool_make(int c, int h, int w)
{
    return (struct nn_pool){.c = c, .h = h, .w = w, .oh = 1, .ow = 1};
}

/* Where tap (0..8) of output (oy, ox) is in the picture, in floats; negative outside. */
static ptrdiff_t tap_at(const struct nn_pool *pool, int oy, int ox, int tap)
{
    const int y = oy * STRIDE - PAD + tap / SIDE, x = ox * STRIDE - PAD + tap % SIDE;

    if (y < 0 || y >= pool->h || x < 0 || x >= pool->w)
        return -1;
    return ((ptrdiff_t)y * pool->w + x) * pool->c;
}

NN_CLONES static void take_larger(size_t c, const float *restrict x, float *restrict y)
{
    for (size_t j = 0; j < c; j++)
        y[j] = x[j] > y[j] || x[j] != x[j] ? x[j] : y[j];
}

NN_CLONES static void take_larger_noted(size_t c, const float *restrict x, uint8_t tap,
                                        float *restrict y, uint8_t *restrict taken)
{
    for (size_t j = 0; j < c; j++) {
        const bool larger = x[j] > y[j] || x[j] != x[j];

        y[j] = larger ? x[j] : y[j];
        taken[j] = larger ? tap : taken[j];
    }
}

static void maxpool_pixel(const struct nn_pool *pool, const float *x, int oy, int ox, float *y,
                          uint8_t *taken)
{
    const size_t c = (size_t)pool->c;
    bool first = true;

    for (int tap = 0; tap < SIDE * SIDE; tap++) {
        const ptrdiff_t at = tap_at(pool, oy, ox, tap);

        if (at < 0)
            continue;
        if (first)
            memcpy(y, x + at, c * sizeof(*y));
        if (first && taken != NULL)
            memset(taken, tap, c);
        if (!first && taken != NULL)
            take_larger_noted(c, x + at, (uint8_t)tap, y, taken);
        else if (!first)
            take_larger(c, x + at, y);
        first = false;
    }
}

void nn_maxpool_forward(const struct nn_pool *pool, int n, const float *x, float *y, uint8_t *taken)
{
    const size_t in = (size_t)pool->h * pool->w * pool->c, row = (size_t)pool->ow * pool->c;

#pragma omp parallel for
    for (int job = 0; job < n * pool->oh; job++) {
        const float *image = x + (size_t)(job / pool->oh) * in;

        for (int ox = 0; ox < pool->ow; ox++) {
            const size_t at = (size_t)job * row + (size_t)ox * pool->c;

            maxpool_pixel(pool, image, job % pool->oh, ox, y + at,
                          taken == NULL ? NULL : taken + at);
        }
    }
}

NN_CLONES static void give_back(size_t c, uint8_t tap, const uint8_t *restrict taken,
                                const float *restrict dy, float *restrict dx)
{
    for (size_t j = 0; j < c; j++)
        dx[j] += taken[j] == tap ? dy[j] : 0;
}

void nn_maxpool_backward(const struct nn_pool *pool, int n, const uint8_t *taken, const float *dy,
                         float *dx)
{
    const size_t in = (size_t)pool->h * pool->w * pool->c;

#pragma omp parallel for
    for (int i = 0; i < n; i++) { /* windows overlap: one thread per image */
        float *image = dx + (size_t)i * in;

        memset(image, 0, in * sizeof(*image));
        for (int o = 0; o < pool->oh * pool->ow; o++) {
            const size_t out = ((size_t)i * pool->oh * pool->ow + (size_t)o) * pool->c;

            for (int tap = 0; tap < SIDE * SIDE; tap++) {
                const ptrdiff_t at = tap_at(pool, o / pool->ow, o % pool->ow, tap);

                if (at >= 0)
                    give_back((size_t)pool->c, (uint8_t)tap, taken + out, dy + out, image + at);
            }
        }
    }
}

NN_CLONES static void mean_rows(size_t rows, size_t c, const float *restrict x, float *restrict y)
{
    memset(y, 0, c * sizeof(*y));
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < c; j++)
            y[j] += x[i * c + j];
    for (size_t j = 0; j < c; j++)
        y[j] /= (float)rows;
}

void nn_avgpool_forward(const struct nn_pool *pool, int n, const float *x, float *y)
{
    const size_t rows = (size_t)pool->h * pool->w, c = (size_t)pool->c;

#pragma omp parallel for
    for (int i = 0; i < n; i++)
        mean_rows(rows, c, x + (size_t)i * rows * c, y + (size_t)i * c);
}

void nn_avgpool_backward(const struct nn_pool *pool, int n, const float *dy, float *dx)
{
    const size_t rows = (size_t)pool->h * pool->w, c = (size_t)pool->c;

#pragma omp parallel for
    for (int i = 0; i < n; i++)
        for (size_t row = 0; row < rows; row++)
            for (size_t j = 0; j < c; j++)
                dx[((size_t)i * rows + row) * c + j] = dy[(size_t)i * c + j] / (float)rows;
}
