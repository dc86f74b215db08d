/* tests/nn/test_pool.c -- maximum and mean pooling. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/nn/numbers.h"
#include "trainer/nn/pool.h"
#include "trainer/nn/threads.h"

static const int shapes[][4] = {
    {2, 8, 8, 16}, {3, 7, 5, 3}, {1, 1, 1, 17}, {2, 2, 2, 5}}; /* NHWC */

struct bed {
    struct nn_pool pool;
    int n;
    size_t in, out;
    float *x, *y, *g, *dx;
    uint8_t *taken;
    void (*forward)(struct bed *bed);
};

static void max_forward(struct bed *bed)
{
    nn_maxpool_forward(&bed->pool, bed->n, bed->x, bed->y, bed->taken);
}

static void mean_forward(struct bed *bed)
{
    nn_avgpool_forward(&bed->pool, bed->n, bed->x, bed->y);
}

static void bed_open(struct bed *bed, const int shape[4], struct nn_pool pool,
                     void (*forward)(struct bed *))
{
    *bed = (struct bed){.pool = pool, .n = shape[0], .forward = forward};
    bed->in = (size_t)shape[0] * shape[1] * shape[2] * shape[3];
    bed->out = (size_t)shape[0] * pool.oh * pool.ow * shape[3];
    bed->x = numbers_new(1, bed->in);
    bed->y = numbers_new(2, bed->out);
    bed->g = numbers_new(3, bed->out);
    bed->dx = numbers_new(4, bed->in);
    bed->taken = calloc(bed->out, 1);
}

static void bed_close(struct bed *bed)
{
    free(bed->x);
    free(bed->y);
    free(bed->g);
    free(bed->dx);
    free(bed->taken);
}

static double objective(void *context)
{
    struct bed *bed = context;

    bed->forward(bed);
    return numbers_dot(bed->y, bed->g, bed->out);
}

static float largest_near(const struct bed *bed, int i, int oy, int ox, int c)
{
    float largest = -INFINITY;

    for (int y = 2 * oy - 1; y <= 2 * oy + 1; y++)
        for (int x = 2 * ox - 1; x <= 2 * ox + 1; x++)
            if (y >= 0 && y < bed->pool.h && x >= 0 && x < bed->pool.w)
                largest = fmaxf(
                    largest,
                    bed->x[(((size_t)i * bed->pool.h + (size_t)y) * bed->pool.w + x) * bed->pool.c +
                           c]);
    return largest;
}

static void maxpool_finds_the_largest_and_its_slope(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof(shapes) / sizeof(*shapes); s++) {
        const int *shape = shapes[s];
        struct bed bed;
        float *plain;
        size_t at = 0;

        bed_open(&bed, shape, nn_maxpool_make(shape[3], shape[1], shape[2]), max_forward);
        max_forward(&bed);
        for (int i = 0; i < bed.n; i++)
            for (int o = 0; o < bed.pool.oh * bed.pool.ow; o++)
                for (int c = 0; c < bed.pool.c; c++, at++)
                    assert_true(bed.y[at] ==
                                largest_near(&bed, i, o / bed.pool.ow, o % bed.pool.ow, c));
        plain = numbers_new(5, bed.out);
        nn_maxpool_forward(&bed.pool, bed.n, bed.x, plain, NULL);
        assert_memory_equal(plain, bed.y, bed.out * sizeof(float));
        free(plain);
        nn_maxpool_backward(&bed.pool, bed.n, bed.taken, bed.g, bed.dx);
        assert_int_equal(numbers_gradient_differs("maxpool", objective, &bed, bed.x, bed.dx, bed.in,
                                                  1e-4f, 1e-3),
                         0);
        bed_close(&bed);
    }
}

static void maxpool_passes_a_nan_on(void **state)
{
    const int shape[4] = {1, 4, 4, 16};
    struct bed bed;

    (void)state;
    bed_open(&bed, shape, nn_maxpool_make(16, 4, 4), max_forward);
    bed.x[0] = NAN;
    max_forward(&bed);
    assert_true(isnan(bed.y[0]) && !isnan(bed.y[1]));
    bed_close(&bed);
}

static void maxpool_gives_the_gradient_to_the_first_of_equals(void **state)
{
    const int shape[4] = {1, 2, 2, 1};
    struct bed bed;

    (void)state;
    bed_open(&bed, shape, nn_maxpool_make(1, 2, 2), max_forward);
    for (int i = 0; i < 4; i++)
        bed.x[i] = 1;
    max_forward(&bed);
    nn_maxpool_backward(&bed.pool, 1, bed.taken, bed.g, bed.dx);
    assert_true(bed.dx[0] == bed.g[0] && bed.dx[1] == 0 && bed.dx[2] == 0 && bed.dx[3] == 0);
    bed_close(&bed);
}

static void avgpool_is_the_mean_and_its_slope(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof(shapes) / sizeof(*shapes); s++) {
        const int *shape = shapes[s];
        const size_t rows = (size_t)shape[1] * shape[2], channels = (size_t)shape[3];
        struct bed bed;

        bed_open(&bed, shape, nn_avgpool_make(shape[3], shape[1], shape[2]), mean_forward);
        mean_forward(&bed);
        for (size_t at = 0; at < bed.out; at++) {
            double sum = 0;

            for (size_t row = 0; row < rows; row++)
                sum += bed.x[(at / channels * rows + row) * channels + at % channels];
            assert_true(fabs(bed.y[at] - sum / (double)rows) < 1e-6);
        }
        nn_avgpool_backward(&bed.pool, bed.n, bed.g, bed.dx);
        assert_int_equal(
            numbers_gradient_differs("avgpool", objective, &bed, bed.x, bed.dx, bed.in, 0.5f, 1e-4),
            0);
        bed_close(&bed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maxpool_finds_the_largest_and_its_slope),
        cmocka_unit_test(maxpool_passes_a_nan_on),
        cmocka_unit_test(maxpool_gives_the_gradient_to_the_first_of_equals),
        cmocka_unit_test(avgpool_is_the_mean_and_its_slope),
    };

    nn_threads_init(2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
