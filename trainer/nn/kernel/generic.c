/*
 * trainer/nn/kernel/generic.c -- the kernels in plain C: for CPUs that no other file knows, and to
 * compare the others with.
 *
 * Vectors of four floats, which any x86-64 has (and AArch64), two rows at a time: 8 vectors of sums
 * leave room in 16 registers for a row of B. A multiplication and an addition, each rounded.
 */
#include "trainer/nn/kernel/kernels_table.h"

#include <string.h>

#define FOUR    4 /* lanes */
#define VECTORS (NN_LANES / FOUR)
#define ROWS    2 /* at a time; divides NN_TILE_ROWS */

typedef float vector
    __attribute__((vector_size(FOUR * sizeof(float)), aligned(sizeof(float)), may_alias));

static vector vector_at(const float *x)
{
    return *(const vector *)x;
}

/* C += ROWS rows of A, `count` deep, B (count, width). */
static inline void add_products(vector sums[ROWS][VECTORS], const float *const a[ROWS],
                                size_t a_step, const float *b, size_t b_step, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t row = 0; row < ROWS; row++)
            for (size_t j = 0; j < VECTORS; j++)
                sums[row][j] += a[row][i * a_step] * vector_at(b + i * b_step + FOUR * j);
}

static void store(const vector sums[VECTORS], float *c, bool add)
{
    for (size_t j = 0; j < VECTORS; j++) {
        vector sum = sums[j];

        if (add)
            sum += vector_at(c + FOUR * j);
        memcpy(c + FOUR * j, &sum, sizeof(sum));
    }
}

/* ROWS rows of C for one panel of NN_LANES columns. */
static void product_rows(const struct nn_product *p, size_t row, size_t column)
{
    vector sums[ROWS][VECTORS] = {0};

    for (size_t s = 0; s < p->segments; s++) {
        const float *a[ROWS];

        for (size_t i = 0; i < ROWS; i++)
            a[i] = p->a + p->a_at[row + i] + p->segment_at[s];
        add_products(sums, a, 1, p->b + s * p->run * p->width + column, p->width, p->run);
    }
    for (size_t i = 0; i < ROWS; i++)
        store(sums[i], p->c + p->c_at[row + i] + column, p->add);
}

static void product(const struct nn_product *p)
{
    for (size_t row = 0; row < p->rows; row += ROWS)
        for (size_t column = 0; column < p->width; column += NN_LANES)
            product_rows(p, row, column);
}

static void outer_rows(const struct nn_outer *p, size_t tile, size_t row, size_t column)
{
    vector sums[ROWS][VECTORS] = {0};
    float *c = p->c + (tile * NN_TILE_ROWS + row) * p->width + column;
    const float *a[ROWS];

    for (size_t i = 0; i < ROWS; i++)
        a[i] = p->a + tile * p->a_tile + row + i;
    add_products(sums, a, p->a_step, p->b + column, p->b_step, p->pixels);
    for (size_t i = 0; i < ROWS; i++)
        store(sums[i], c + i * p->width, p->add);
}

static void outer(const struct nn_outer *p)
{
    for (size_t tile = 0; tile < p->tiles; tile++)
        for (size_t row = 0; row < NN_TILE_ROWS; row += ROWS)
            for (size_t column = 0; column < p->width; column += NN_LANES)
                outer_rows(p, tile, row, column);
}

static double spin(size_t rounds)
{
    volatile float factor = 0.5f, term = 0.5f, seen = 0; /* not for the compiler to know */
    const vector x = {factor, factor, factor, factor}, y = {term, term, term, term};
    vector sums[3 * VECTORS];

    for (size_t j = 0; j < 3 * VECTORS; j++) /* each its own, or one is computed for all */
        sums[j] = x + (float)j;
    for (size_t i = 0; i < rounds; i++)
        for (size_t j = 0; j < 3 * VECTORS; j++)
            sums[j] = sums[j] * x + y;
    for (size_t j = 0; j < 3 * VECTORS; j++)
        seen = sums[j][0];
    (void)seen;
    return (double)rounds * 3 * VECTORS * FOUR * 2;
}

static size_t panel_width(size_t n)
{
    (void)n;
    return NN_LANES;
}

const struct nn_kernels nn_kernels_generic = {
    .name = "generic",
    .panel_width = panel_width,
    .product = product,
    .outer = outer,
    .spin = spin,
};
