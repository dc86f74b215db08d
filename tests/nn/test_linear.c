/* tests/nn/test_linear.c -- the fully connected layer. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "tests/nn/numbers.h"
#include "trainer/nn/kernel/scratch.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/nn/linear.h"

static const int shapes[][3] = {{4, 64, 10}, {1, 5, 2}, {3, 33, 101}}; /* N, C, K */

struct bed {
    struct nn_linear linear;
    int n;
    size_t x_count, y_count, w_count;
    float *x, *w, *bias, *y, *g, *dx, *dw, *dbias;
    struct nn_scratch scratch;
};

static void bed_open(struct bed *bed, const int shape[3], int threads)
{
    const size_t n = (size_t)shape[0], c = (size_t)shape[1], k = (size_t)shape[2];
    size_t shared = 0, own = 0;
    struct err err = {0};

    nn_threads_init(threads);
    *bed = (struct bed){.linear = nn_linear_make(shape[1], shape[2]), .n = shape[0]};
    bed->x_count = n * c;
    bed->y_count = n * k;
    bed->w_count = k * c;
    bed->x = numbers_new(1, n * c);
    bed->w = numbers_new(2, k * c);
    bed->bias = numbers_new(3, k);
    bed->y = numbers_new(4, n * k);
    bed->g = numbers_new(5, n * k);
    bed->dx = numbers_new(6, n * c);
    bed->dw = numbers_new(7, k * c);
    bed->dbias = numbers_new(8, k);
    for (int d = NN_FORWARD; d <= NN_BACKWARD_WEIGHTS; d++) {
        const struct nn_conv_size size =
            nn_conv_size(&bed->linear.conv, (enum nn_direction)d, bed->n);

        shared = size.shared > shared ? size.shared : shared;
        own = size.private > own ? size.private : own;
    }
    assert_int_equal(nn_scratch_init(&bed->scratch, shared, own, &err), 0);
}

static void bed_close(struct bed *bed)
{
    free(bed->x);
    free(bed->w);
    free(bed->bias);
    free(bed->y);
    free(bed->g);
    free(bed->dx);
    free(bed->dw);
    free(bed->dbias);
    nn_scratch_release(&bed->scratch);
}

static void run(struct bed *bed)
{
    nn_linear_forward(&bed->linear, bed->n, bed->x, bed->w, bed->bias, bed->y, &bed->scratch);
    nn_linear_backward_data(&bed->linear, bed->n, bed->g, bed->w, bed->dx, &bed->scratch);
    nn_linear_backward_weights(&bed->linear, bed->n, bed->x, bed->g, bed->dw, bed->dbias,
                               &bed->scratch);
}

static double objective(void *context)
{
    struct bed *bed = context;

    nn_linear_forward(&bed->linear, bed->n, bed->x, bed->w, bed->bias, bed->y, &bed->scratch);
    return numbers_dot(bed->y, bed->g, bed->y_count);
}

static void linear_forward_equals_plain_loops(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof(shapes) / sizeof(*shapes); s++) {
        const size_t c = (size_t)shapes[s][1], k = (size_t)shapes[s][2];
        struct bed bed;

        bed_open(&bed, shapes[s], 2);
        run(&bed);
        for (size_t i = 0; i < bed.y_count; i++) {
            const double sum = numbers_dot(bed.x + i / k * c, bed.w + i % k * c, c);

            assert_true(fabs(bed.y[i] - sum - bed.bias[i % k]) < 1e-5);
        }
        bed_close(&bed);
    }
}

static void linear_backward_is_the_slope_of_forward(void **state)
{
    int wrong = 0;

    (void)state;
    for (size_t s = 0; s < sizeof(shapes) / sizeof(*shapes); s++) {
        struct bed bed;

        bed_open(&bed, shapes[s], 1);
        run(&bed);
        wrong +=
            numbers_gradient_differs("x", objective, &bed, bed.x, bed.dx, bed.x_count, 0.5f, 1e-4);
        wrong +=
            numbers_gradient_differs("w", objective, &bed, bed.w, bed.dw, bed.w_count, 0.5f, 1e-4);
        wrong += numbers_gradient_differs("bias", objective, &bed, bed.bias, bed.dbias,
                                          (size_t)bed.linear.conv.k, 0.5f, 1e-4);
        bed_close(&bed);
    }
    assert_int_equal(wrong, 0);
}

static void linear_has_the_same_bits_for_any_number_of_threads_and_alone(void **state)
{
    struct bed one, many;

    (void)state;
    bed_open(&one, shapes[0], 1);
    run(&one);
    bed_open(&many, shapes[0], 3);
    run(&many);
    assert_memory_equal(one.y, many.y, one.y_count * sizeof(float));
    assert_memory_equal(one.dx, many.dx, one.x_count * sizeof(float));
    assert_memory_equal(one.dw, many.dw, one.w_count * sizeof(float));
    nn_linear_forward(&many.linear, 1, many.x + 3 * many.linear.conv.c, many.w, many.bias, many.y,
                      &many.scratch);
    assert_memory_equal(many.y, one.y + 3 * one.linear.conv.k,
                        (size_t)one.linear.conv.k * sizeof(float));
    bed_close(&one);
    bed_close(&many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_forward_equals_plain_loops),
        cmocka_unit_test(linear_backward_is_the_slope_of_forward),
        cmocka_unit_test(linear_has_the_same_bits_for_any_number_of_threads_and_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
