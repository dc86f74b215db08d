/* tests/nn/test_conv.c -- convolution in all its forms, against plain loops in double. */
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
#include "trainer/nn/conv.h"
#include "trainer/nn/scratch.h"
#include "trainer/nn/threads.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define TOLERANCE    1e-5

static const struct form {
    const char *name;
    int n, c, h, w, k, r, stride;
} forms[] = {
    {"3x3", 3, 16, 9, 7, 24, 3, 1},
    {"3x3 stride 2, even", 2, 8, 8, 8, 16, 3, 2},
    {"3x3 stride 2, odd", 2, 8, 7, 9, 16, 3, 2},
    {"3x3 on one pixel", 3, 16, 1, 1, 16, 3, 1},
    {"3x3 stride 2 on two pixels", 3, 16, 2, 2, 16, 3, 2},
    {"3x3 in several tiles and groups", 2, 16, 40, 40, 16, 3, 1},
    {"3x3 in blocks of dw", 2, 256, 3, 3, 128, 3, 1},
    {"1x1", 5, 24, 6, 5, 40, 1, 1},
    {"1x1 in blocks of dw", 1, 128, 4, 4, 256, 1, 1},
    {"1x1 on one pixel", 1, 32, 1, 1, 48, 1, 1},
    {"1x1 stride 2", 3, 16, 8, 7, 32, 1, 2},
    {"7x7 stride 2", 2, 3, 33, 30, 16, 7, 2},
    {"7x7 stride 2, smaller than the filter", 2, 3, 4, 4, 16, 7, 2},
    {"one channel, one filter", 2, 1, 5, 5, 1, 3, 1},
    {"one channel, one filter, 1x1", 2, 1, 5, 5, 1, 1, 1},
    {"sixteen parts", 37, 16, 8, 8, 16, 3, 1},
};

struct bed {
    struct nn_conv conv;
    int n;
    size_t x_count, y_count, w_count;
    float *x, *w, *y, *dx, *dw, *dy;
    struct nn_scratch scratch;
};

static void bed_open(struct bed *bed, const struct form *form, int threads)
{
    struct err err = {0};
    struct nn_conv *conv = &bed->conv;

    nn_threads_init(threads);
    *bed = (struct bed){.n = form->n};
    *conv = nn_conv_make(form->c, form->h, form->w, form->k, form->r, form->stride);
    bed->x_count = (size_t)form->n * form->h * form->w * form->c;
    bed->y_count = (size_t)form->n * conv->oh * conv->ow * form->k;
    bed->w_count = (size_t)form->k * form->r * form->r * form->c;
    bed->x = numbers_new(1, bed->x_count);
    bed->w = numbers_new(2, bed->w_count);
    bed->y = numbers_new(3, bed->y_count);
    bed->dx = numbers_new(4, bed->x_count);
    bed->dw = numbers_new(5, bed->w_count);
    bed->dy = numbers_new(6, bed->y_count);
    assert_int_equal(nn_scratch_init(&bed->scratch, nn_conv_shared_floats(conv, form->n),
                                     nn_conv_private_floats(conv), &err),
                     0);
}

static void bed_close(struct bed *bed)
{
    free(bed->x);
    free(bed->w);
    free(bed->y);
    free(bed->dx);
    free(bed->dw);
    free(bed->dy);
    nn_scratch_release(&bed->scratch);
}

static void run(struct bed *bed, enum nn_into into)
{
    nn_conv_forward(&bed->conv, bed->n, bed->x, bed->w, bed->y, &bed->scratch);
    nn_conv_backward_data(&bed->conv, bed->n, bed->dy, bed->w, bed->dx, into, &bed->scratch);
    nn_conv_backward_weights(&bed->conv, bed->n, bed->x, bed->dy, bed->dw, &bed->scratch);
}

/* One filter's row at one output: the definition, for all three directions at once. */
static void naive_pixel(const struct bed *bed, size_t i, int oy, int ox, int k, double *y,
                        double *dx, double *dw)
{
    const struct nn_conv *conv = &bed->conv;
    const size_t out = ((i * conv->oh + (size_t)oy) * conv->ow + (size_t)ox) * conv->k + (size_t)k;

    for (int tap = 0; tap < conv->r * conv->r; tap++) {
        const int iy = oy * conv->stride - conv->pad + tap / conv->r;
        const int ix = ox * conv->stride - conv->pad + tap % conv->r;

        if (iy < 0 || iy >= conv->h || ix < 0 || ix >= conv->w)
            continue;
        for (int c = 0; c < conv->c; c++) {
            const size_t in = ((i * conv->h + (size_t)iy) * conv->w + (size_t)ix) * conv->c + c;
            const size_t weight = ((size_t)k * conv->r * conv->r + (size_t)tap) * conv->c + c;

            y[out] += (double)bed->x[in] * bed->w[weight];
            dx[in] += (double)bed->dy[out] * bed->w[weight];
            dw[weight] += (double)bed->dy[out] * bed->x[in];
        }
    }
}

static float *rounded(double *x, size_t count)
{
    float *y = malloc((count + 1) * sizeof(*y));

    for (size_t i = 0; i < count; i++)
        y[i] = (float)x[i];
    free(x);
    return y;
}

static void naive(const struct bed *bed, float **y, float **dx, float **dw)
{
    double *y_sum = calloc(bed->y_count, sizeof(double));
    double *dx_sum = calloc(bed->x_count, sizeof(double));
    double *dw_sum = calloc(bed->w_count, sizeof(double));

    for (size_t i = 0; i < (size_t)bed->n; i++)
        for (int oy = 0; oy < bed->conv.oh; oy++)
            for (int ox = 0; ox < bed->conv.ow; ox++)
                for (int k = 0; k < bed->conv.k; k++)
                    naive_pixel(bed, i, oy, ox, k, y_sum, dx_sum, dw_sum);
    *y = rounded(y_sum, bed->y_count);
    *dx = rounded(dx_sum, bed->x_count);
    *dw = rounded(dw_sum, bed->w_count);
}

static void conv_equals_plain_loops_in_every_form(void **state)
{
    int wrong = 0;

    (void)state;
    for (size_t f = 0; f < COUNT(forms); f++) {
        float *y, *dx, *dw, *before;
        struct bed bed;

        bed_open(&bed, &forms[f], 2);
        naive(&bed, &y, &dx, &dw);
        before = numbers_new(4, bed.x_count);
        run(&bed, NN_OVERWRITE);
        wrong += numbers_differ(forms[f].name, bed.y, y, bed.y_count, TOLERANCE);
        wrong += numbers_differ(forms[f].name, bed.dx, dx, bed.x_count, TOLERANCE);
        wrong += numbers_differ(forms[f].name, bed.dw, dw, bed.w_count, TOLERANCE);
        memcpy(bed.dx, before, bed.x_count * sizeof(float));
        run(&bed, NN_ADD);
        for (size_t i = 0; i < bed.x_count; i++)
            dx[i] += before[i];
        wrong += numbers_differ(forms[f].name, bed.dx, dx, bed.x_count, TOLERANCE);
        free(y);
        free(dx);
        free(dw);
        free(before);
        bed_close(&bed);
    }
    assert_int_equal(wrong, 0);
}

static double objective(void *context)
{
    struct bed *bed = context;

    nn_conv_forward(&bed->conv, bed->n, bed->x, bed->w, bed->y, &bed->scratch);
    return numbers_dot(bed->y, bed->dy, bed->y_count);
}

/* Linear in x and in w: a step of 1/2 is exact but for rounding. */
static void conv_backward_is_the_slope_of_forward(void **state)
{
    int wrong = 0;

    (void)state;
    for (size_t f = 0; f < COUNT(forms); f++) {
        struct bed bed;

        bed_open(&bed, &forms[f], 1);
        run(&bed, NN_OVERWRITE);
        wrong += numbers_gradient_differs(forms[f].name, objective, &bed, bed.x, bed.dx,
                                          bed.x_count, 0.5f, 1e-4);
        wrong += numbers_gradient_differs(forms[f].name, objective, &bed, bed.w, bed.dw,
                                          bed.w_count, 0.5f, 1e-4);
        bed_close(&bed);
    }
    assert_int_equal(wrong, 0);
}

static void conv_has_the_same_bits_for_any_number_of_threads(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(forms); f++) {
        struct bed one, many;

        bed_open(&one, &forms[f], 1);
        run(&one, NN_ADD);
        for (int threads = 2; threads <= 3; threads++) {
            bed_open(&many, &forms[f], threads);
            run(&many, NN_ADD);
            assert_memory_equal(one.y, many.y, one.y_count * sizeof(float));
            assert_memory_equal(one.dx, many.dx, one.x_count * sizeof(float));
            assert_memory_equal(one.dw, many.dw, one.w_count * sizeof(float));
            bed_close(&many);
        }
        bed_close(&one);
    }
}

static void conv_forward_gives_an_image_the_same_bits_alone(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(forms); f++) {
        struct bed bed;
        float *alone;

        bed_open(&bed, &forms[f], 2);
        run(&bed, NN_OVERWRITE);
        alone = numbers_new(9, bed.y_count);
        for (int i = 0; i < bed.n; i++) {
            const size_t x = bed.x_count / (size_t)bed.n, y = bed.y_count / (size_t)bed.n;

            nn_conv_forward(&bed.conv, 1, bed.x + (size_t)i * x, bed.w, alone, &bed.scratch);
            assert_memory_equal(alone, bed.y + (size_t)i * y, y * sizeof(float));
        }
        free(alone);
        bed_close(&bed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv_equals_plain_loops_in_every_form),
        cmocka_unit_test(conv_backward_is_the_slope_of_forward),
        cmocka_unit_test(conv_has_the_same_bits_for_any_number_of_threads),
        cmocka_unit_test(conv_forward_gives_an_image_the_same_bits_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
