/* tests/nn/test_batchnorm.c -- batch normalisation with addition and ReLU. */
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
#include "trainer/nn/batchnorm.h"
#include "trainer/nn/scratch.h"
#include "trainer/nn/threads.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static const struct form {
    const char *name;
    size_t rows;
    int c;
    bool relu, residual;
    enum nn_into into;
} forms[] = {
    {"plain", 50, 5, false, false, NN_OVERWRITE},
    {"relu", 128, 16, true, false, NN_OVERWRITE},
    {"addition", 129, 16, false, true, NN_OVERWRITE},
    {"addition, gradient added", 300, 17, false, true, NN_ADD},
    {"addition and relu, three blocks", 300, 20, true, true, NN_OVERWRITE},
    {"addition and relu, many blocks", 1500, 33, true, true, NN_ADD},
};

struct bed {
    struct nn_batchnorm bn;
    const struct form *form;
    size_t rows, c, count;
    float *x, *weight, *bias, *residual, *y, *g, *dy, *dresidual, *dweight, *dbias;
    float *saved, *statistics;
    struct nn_scratch scratch;
};

static void bed_open(struct bed *bed, const struct form *form, int threads)
{
    struct err err = {0};

    nn_threads_init(threads);
    *bed = (struct bed){.form = form, .rows = form->rows, .c = (size_t)form->c};
    bed->bn = (struct nn_batchnorm){.c = form->c, .relu = form->relu};
    bed->count = bed->rows * bed->c;
    bed->x = numbers_new(1, bed->count);
    for (size_t i = 0; i < bed->count; i++) /* means far from 0 */
        bed->x[i] += (float)(i % bed->c);
    bed->weight = numbers_new(2, bed->c);
    bed->bias = numbers_new(3, bed->c);
    bed->residual = numbers_new(4, bed->count);
    bed->y = numbers_new(5, bed->count);
    bed->g = numbers_new(6, bed->count);
    bed->dy = numbers_new(6, bed->count);
    bed->dresidual = numbers_new(7, bed->count);
    bed->dweight = numbers_new(8, bed->c);
    bed->dbias = numbers_new(9, bed->c);
    bed->saved = numbers_new(10, 2 * bed->c);
    bed->statistics = numbers_new(11, 2 * bed->c);
    assert_int_equal(
        nn_scratch_init(&bed->scratch, nn_batchnorm_shared_floats(&bed->bn, bed->rows), 0, &err),
        0);
}

static void bed_close(struct bed *bed)
{
    float *all[] = {bed->x,       bed->weight, bed->bias,  bed->residual,
                    bed->y,       bed->g,      bed->dy,    bed->dresidual,
                    bed->dweight, bed->dbias,  bed->saved, bed->statistics};

    for (size_t i = 0; i < COUNT(all); i++)
        free(all[i]);
    nn_scratch_release(&bed->scratch);
}

static void forward(struct bed *bed)
{
    nn_batchnorm_measure(&bed->bn, bed->rows, bed->x, bed->saved, bed->statistics, &bed->scratch);
    nn_batchnorm_forward(&bed->bn, bed->rows, bed->x, bed->saved, bed->weight, bed->bias,
                         bed->form->residual ? bed->residual : NULL, bed->y);
}

static void run(struct bed *bed)
{
    const struct nn_batchnorm_backward args = {
        .x = bed->x,
        .y = bed->y,
        .saved = bed->saved,
        .weight = bed->weight,
        .dy = bed->dy,
        .dweight = bed->dweight,
        .dbias = bed->dbias,
        .dresidual = bed->form->residual ? bed->dresidual : NULL,
        .dresidual_into = bed->form->into,
    };

    forward(bed);
    nn_batchnorm_backward(&bed->bn, bed->rows, &args, &bed->scratch);
}

/* Mean and sum of squares about it of channel j, straight from the definition. */
static void moments(const struct bed *bed, size_t j, double *mean, double *m2)
{
    *mean = *m2 = 0;
    for (size_t i = 0; i < bed->rows; i++)
        *mean += bed->x[i * bed->c + j] / (double)bed->rows;
    for (size_t i = 0; i < bed->rows; i++)
        *m2 += pow(bed->x[i * bed->c + j] - *mean, 2);
}

static int channel_differs(const struct bed *bed, size_t j)
{
    double mean, m2, largest = 0;

    moments(bed, j, &mean, &m2);
    if (fabs(bed->statistics[j] - mean) > 1e-6 * (1 + fabs(mean)) ||
        fabs(bed->statistics[bed->c + j] - m2 / (double)(bed->rows - 1)) > 1e-5)
        return 1;
    for (size_t i = j; i < bed->count; i += bed->c) {
        double y = (bed->x[i] - mean) / sqrt(m2 / (double)bed->rows + NN_BATCHNORM_EPS);

        y = y * bed->weight[j] + bed->bias[j] + (bed->form->residual ? bed->residual[i] : 0);
        y = bed->form->relu && y < 0 ? 0 : y;
        largest = fmax(largest, fabs(y - bed->y[i]));
    }
    return largest > 1e-5;
}

static void batchnorm_forward_equals_its_definition(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(forms); f++) {
        struct bed bed;

        bed_open(&bed, &forms[f], 2);
        forward(&bed);
        for (size_t j = 0; j < bed.c; j++)
            assert_int_equal(channel_differs(&bed, j), 0);
        bed_close(&bed);
    }
}

/* Move all outputs away from ReLU's corner, where differences are no slope: by the residual, or
 * else whole channels by their bias. */
static void leave_corner(struct bed *bed)
{
    if (!bed->form->relu)
        return;
    for (size_t j = 0; j < bed->c; j++)
        bed->bias[j] += bed->form->residual ? 0 : j % 2 == 0 ? 10.0f : -10.0f;
    bed->bn.relu = false;
    forward(bed);
    bed->bn.relu = true;
    for (size_t i = 0; i < bed->count; i++)
        bed->residual[i] += bed->y[i] < 0 ? -0.1f : 0.1f;
}

static double objective(void *context)
{
    struct bed *bed = context;

    forward(bed);
    return numbers_dot(bed->y, bed->g, bed->count);
}

static void batchnorm_backward_is_the_slope_of_forward(void **state)
{
    int wrong = 0;

    (void)state;
    for (size_t f = 0; f < COUNT(forms); f++) {
        const char *name = forms[f].name;
        struct bed bed;

        bed_open(&bed, &forms[f], 1);
        leave_corner(&bed);
        run(&bed);
        if (forms[f].into == NN_ADD) { /* take away what was there */
            float *before = numbers_new(7, bed.count);

            for (size_t i = 0; i < bed.count; i++)
                bed.dresidual[i] -= before[i];
            free(before);
        }
        wrong +=
            numbers_gradient_differs(name, objective, &bed, bed.x, bed.dy, bed.count, 1e-2f, 1e-2);
        wrong += numbers_gradient_differs(name, objective, &bed, bed.weight, bed.dweight, bed.c,
                                          1e-2f, 1e-2);
        wrong += numbers_gradient_differs(name, objective, &bed, bed.bias, bed.dbias, bed.c, 1e-2f,
                                          1e-2);
        if (forms[f].residual)
            wrong += numbers_gradient_differs(name, objective, &bed, bed.residual, bed.dresidual,
                                              bed.count, 1e-2f, 1e-2);
        bed_close(&bed);
    }
    assert_int_equal(wrong, 0);
}

static void batchnorm_has_the_same_bits_for_any_number_of_threads(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(forms); f++) {
        struct bed one, many;

        bed_open(&one, &forms[f], 1);
        run(&one);
        for (int threads = 2; threads <= 3; threads++) {
            bed_open(&many, &forms[f], threads);
            run(&many);
            assert_memory_equal(one.y, many.y, one.count * sizeof(float));
            assert_memory_equal(one.dy, many.dy, one.count * sizeof(float));
            assert_memory_equal(one.dresidual, many.dresidual, one.count * sizeof(float));
            assert_memory_equal(one.dweight, many.dweight, one.c * sizeof(float));
            assert_memory_equal(one.statistics, many.statistics, 2 * one.c * sizeof(float));
            bed_close(&many);
        }
        bed_close(&one);
    }
}

static void batchnorm_survives_a_single_row(void **state)
{
    static const struct form single = {"one row", 1, 16, false, false, NN_OVERWRITE};
    struct bed bed;

    (void)state;
    bed_open(&bed, &single, 1);
    run(&bed);
    for (size_t j = 0; j < bed.c; j++) {
        assert_true(bed.statistics[bed.c + j] == 0);
        assert_true(bed.y[j] == bed.bias[j]);
        assert_true(bed.dy[j] == 0);
        assert_true(bed.dweight[j] == 0 && bed.dbias[j] == bed.g[j]);
    }
    bed_close(&bed);
}

static void batchnorm_variance_is_right_when_the_mean_is_a_thousand_times_larger(void **state)
{
    static const struct form form = {"offset", 1024, 16, false, false, NN_OVERWRITE};
    struct bed bed;

    (void)state;
    bed_open(&bed, &form, 1);
    for (size_t i = 0; i < bed.count; i++)
        bed.x[i] += 1000;
    forward(&bed);
    for (size_t j = 0; j < bed.c; j++) {
        double mean, m2;

        moments(&bed, j, &mean, &m2);
        assert_true(fabs(bed.statistics[bed.c + j] * (double)(bed.rows - 1) / m2 - 1) < 1e-5);
    }
    bed_close(&bed);
}

static void batchnorm_keeps_a_nan_through_relu(void **state)
{
    static const struct form form = {"nan", 20, 16, true, false, NN_OVERWRITE};
    struct bed bed;

    (void)state;
    bed_open(&bed, &form, 1);
    bed.x[3] = NAN;
    forward(&bed);
    assert_true(isnan(bed.y[3]));
    bed_close(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batchnorm_forward_equals_its_definition),
        cmocka_unit_test(batchnorm_backward_is_the_slope_of_forward),
        cmocka_unit_test(batchnorm_has_the_same_bits_for_any_number_of_threads),
        cmocka_unit_test(batchnorm_survives_a_single_row),
        cmocka_unit_test(batchnorm_variance_is_right_when_the_mean_is_a_thousand_times_larger),
        cmocka_unit_test(batchnorm_keeps_a_nan_through_relu),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
