/* tests/nn/test_shortcut.c -- the CIFAR networks' shortcut without parameters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/nn/numbers.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/nn/shortcut.h"

#define N 3
#define C 4
#define K 10

struct bed {
    struct nn_shortcut shortcut;
    size_t in, out;
    float *x, *y, *g, *dx;
};

static void bed_open(struct bed *bed, int h, int w)
{
    *bed = (struct bed){.shortcut = nn_shortcut_make(C, h, w, K)};
    bed->in = (size_t)N * h * w * C;
    bed->out = (size_t)N * bed->shortcut.oh * bed->shortcut.ow * K;
    bed->x = numbers_new(1, bed->in);
    bed->y = numbers_new(2, bed->out);
    bed->g = numbers_new(3, bed->out);
    bed->dx = numbers_new(4, bed->in);
}

static void bed_close(struct bed *bed)
{
    free(bed->x);
    free(bed->y);
    free(bed->g);
    free(bed->dx);
}

static double objective(void *context)
{
    struct bed *bed = context;

    nn_shortcut_forward(&bed->shortcut, N, bed->x, bed->y);
    return numbers_dot(bed->y, bed->g, bed->out);
}

static void shortcut_takes_every_second_pixel_and_pads_channels_with_zeros(void **state)
{
    struct bed bed;

    (void)state;
    bed_open(&bed, 5, 4);
    assert_int_equal(bed.shortcut.oh, 3);
    assert_int_equal(bed.shortcut.ow, 2);
    nn_shortcut_forward(&bed.shortcut, N, bed.x, bed.y);
    for (size_t i = 0; i < bed.out; i++) {
        const size_t k = i % K, x = i / K % 2, y = i / K / 2 % 3, n = i / K / 6;
        const float expected = k < C ? bed.x[((n * 5 + 2 * y) * 4 + 2 * x) * C + k] : 0;

        assert_true(bed.y[i] == expected);
    }
    bed_close(&bed);
}

static void shortcut_backward_is_the_slope_of_forward(void **state)
{
    struct bed bed;

    (void)state;
    bed_open(&bed, 5, 4);
    nn_shortcut_backward(&bed.shortcut, N, bed.g, bed.dx);
    assert_int_equal(
        numbers_gradient_differs("shortcut", objective, &bed, bed.x, bed.dx, bed.in, 0.5f, 1e-5),
        0);
    bed_close(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shortcut_takes_every_second_pixel_and_pads_channels_with_zeros),
        cmocka_unit_test(shortcut_backward_is_the_slope_of_forward),
    };

    nn_threads_init(2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
