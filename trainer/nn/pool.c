#include "trainer/nn/pool.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "trainer/nn/kernel/scratch.h"
#include "trainer/nn/kernel/simd.h"

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

/* The column that tap column `tap` of output column `ox` sees; negative outside. */
static int column_of(const struct nn_pool *pool, int ox, int tap)
{
    const int x = ox * STRIDE - PAD + tap;

    return x < pool->w ? x : -1;
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

/* Columns of one output pixel in one row of the picture. `first`: nothing was taken yet. */
static bool maxpool_taps(const struct nn_pool *pool, const float *line, int tap_row, int ox,
                         bool first, float *y, uint8_t *taken)
{
    const size_t c = (size_t)pool->c;

    for (int i = 0; i < SIDE; i++) {
        const int column = column_of(pool, ox, i), tap = tap_row * SIDE + i;

        if (column < 0)
            continue;
        if (first)
            memcpy(y, line + (size_t)column * c, c * sizeof(*y));
        if (first && taken != NULL)
            memset(taken, tap, c);
        if (!first && taken != NULL)
            take_larger_noted(c, line + (size_t)column * c, (uint8_t)tap, y, taken);
        else if (!first)
            take_larger(c, line + (size_t)column * c, y);
        first = false;
    }
    return first;
}

size_t nn_maxpool_private_floats(const struct nn_pool *pool)
{
    return (size_t)SIDE * pool->w * pool->c;
}

void nn_maxpool_forward(const struct nn_pool *pool, int n, const struct nn_source *x, float *y,
                        uint8_t *taken, const struct nn_scratch *scratch)
{
    const size_t line = (size_t)pool->w * pool->c, row = (size_t)pool->ow * pool->c;

#pragma omp parallel for
    for (int job = 0; job < n * pool->oh; job++) {
        const int top = job % pool->oh * STRIDE - PAD;
        float *const lines = nn_scratch_mine(scratch);
        bool inside[SIDE];

        for (int i = 0; i < SIDE; i++) { /* the rows of the picture as they are read */
            const int in = top + i;

            inside[i] = in >= 0 && in < pool->h;
            if (inside[i])
                nn_source_read(x, ((size_t)(job / pool->oh) * pool->h + (size_t)in) * pool->w,
                               (size_t)pool->w, 0, (size_t)pool->c, lines + (size_t)i * line,
                               (size_t)pool->c);
        }
        for (int ox = 0; ox < pool->ow; ox++) {
            const size_t at = (size_t)job * row + (size_t)ox * pool->c;
            bool none = true;

            for (int i = 0; i < SIDE; i++)
                if (inside[i])
                    none = maxpool_taps(pool, lines + (size_t)i * line, i, ox, none, y + at,
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

/* What output row `oy` of an image gives back to the row of the picture that its tap row sees. */
static void give_back_row(const struct nn_pool *pool, int oy, int tap_row, const uint8_t *taken,
                          const float *dy, float *line)
{
    const size_t c = (size_t)pool->c;

    for (int ox = 0; ox < pool->ow; ox++) {
        const size_t out = ((size_t)oy * pool->ow + (size_t)ox) * c;

        for (int i = 0; i < SIDE; i++) {
            const int column = column_of(pool, ox, i);

            if (column >= 0)
                give_back(c, (uint8_t)(tap_row * SIDE + i), taken + out, dy + out,
                          line + (size_t)column * c);
        }
    }
}

void nn_maxpool_backward(const struct nn_pool *pool, int n, const uint8_t *taken, const float *dy,
                         const struct nn_sink *dx)
{
    const size_t line = (size_t)pool->w * pool->c, out = (size_t)pool->oh * pool->ow * pool->c;

#pragma omp parallel for
    for (int i = 0; i < n; i++) {
        for (int y = 0; y < pool->h; y++) { /* a row is whole before the next begins */
            float *const row = dx->y + ((size_t)i * pool->h + (size_t)y) * line;

            memset(row, 0, line * sizeof(*row));
            for (int tap_row = SIDE - 1; tap_row >= 0; tap_row--) {
                const int above = y + PAD - tap_row;

                if (above >= 0 && above % STRIDE == 0 && above / STRIDE < pool->oh)
                    give_back_row(pool, above / STRIDE, tap_row, taken + (size_t)i * out,
                                  dy + (size_t)i * out, row);
            }
            nn_sink_rows(dx, (size_t)i, y == 0, ((size_t)i * pool->h + (size_t)y) * pool->w,
                         (size_t)pool->w, 0, (size_t)pool->c);
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

void nn_avgpool_backward(const struct nn_pool *pool, int n, const float *dy,
                         const struct nn_sink *dx)
{
    const size_t rows = (size_t)pool->h * pool->w, c = (size_t)pool->c;

#pragma omp parallel for
    for (int i = 0; i < n; i++) {
        for (size_t row = 0; row < rows; row++)
            for (size_t j = 0; j < c; j++)
                dx->y[((size_t)i * rows + row) * c + j] = dy[(size_t)i * c + j] / (float)rows;
        nn_sink_rows(dx, (size_t)i, true, (size_t)i * rows, rows, 0, c);
    }
}
