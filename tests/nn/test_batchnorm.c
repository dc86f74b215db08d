/* tests/nn/test_batchnorm.c -- batch normalisation between the sums of a sink and the factors of a
 * source: the way that a layer's rows take through all three. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/nn/numbers.h"
#include "trainer/nn/batchnorm.h"
#include "trainer/nn/kernel/threads.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define NORMS        2

/* What the ReLU sees. */
enum ending {
    ALONE,         /* bn(x) */
    WITH_RESIDUAL, /* bn(x) + residual */
    WITH_NORM,     /* bn(x) + bn'(x') */
};

static const struct form {
    const char *name;
    enum ending ending;
    size_t rows, c;
    size_t block_rows[4]; /* of the blocks in turn, over and over; 0 ends the list */
} forms[] = {
    {"one block", ALONE, 50, 5, {50}},
    {"blocks of one row", ALONE, 20, 16, {1}},
    {"unequal blocks", ALONE, 300, 17, {128, 1, 7}},
    {"residual", WITH_RESIDUAL, 129, 16, {64}},
    {"residual, unequal blocks", WITH_RESIDUAL, 300, 33, {9, 128, 2, 30}},
    {"two norms", WITH_NORM, 200, 20, {49}},
    {"two norms, more channels than a thread takes", WITH_NORM, 500, 101, {100, 3}},
};

struct bed {
    const struct form *form;
    size_t rows, c, count, blocks;
    float *x[NORMS], *weight[NORMS], *bias[NORMS], *floats[NORMS], *statistics[NORMS];
    float *dx[NORMS], *dweight[NORMS], *dbias[NORMS];
    struct nn_batchnorm bn[NORMS];
    float *residual, *y, *g, *dresidual;
    float *sums;
    uint32_t *block_rows;
};

static size_t rows_of_block(const struct form *form, size_t block)
{
    size_t kinds = 0;

    while (kinds < COUNT(form->block_rows) && form->block_rows[kinds] > 0)
        kinds++;
    return form->block_rows[block % kinds];
}

/* Two clouds of x around 1 and -1 and small other addends keep every output away from ReLU's
 * corner, where differences are no slope. */
static void draw(struct bed *bed, int i)
{
    const uint32_t seed = 10 * (uint32_t)i;

    bed->x[i] = numbers_new(seed + 1, bed->count);
    for (size_t at = 0; at < bed->count; at++) /* means far from 0 */
        bed->x[i][at] = 0.3f * bed->x[i][at] + (bed->x[i][at] < 0 ? -1 : 1) + (float)(at % bed->c);
    bed->weight[i] = numbers_new(seed + 2, bed->c);
    bed->bias[i] = numbers_new(seed + 3, bed->c);
    for (size_t j = 0; j < bed->c; j++) {
        bed->weight[i][j] = (1 + 0.4f * bed->weight[i][j]) * (i == 0 ? 1 : 0.05f);
        bed->bias[i][j] *= i == 0 ? 0.1f : 0.02f;
    }
}

static void bed_open(struct bed *bed, const struct form *form, int threads)
{
    nn_threads_init(threads);
    *bed = (struct bed){.form = form, .rows = form->rows, .c = form->c};
    bed->count = bed->rows * bed->c;
    for (size_t row = 0; row < bed->rows; row += rows_of_block(form, bed->blocks - 1))
        bed->blocks++;
    for (int i = 0; i < NORMS; i++) {
        draw(bed, i);
        bed->floats[i] = numbers_new(4, NN_BATCHNORM_ARRAYS * bed->c);
        bed->bn[i] = nn_batchnorm_at(bed->floats[i], bed->c);
        bed->statistics[i] = numbers_new(5, 2 * bed->c);
        bed->dx[i] = numbers_new(6, bed->count);
        bed->dweight[i] = numbers_new(7, bed->c);
        bed->dbias[i] = numbers_new(8, bed->c);
    }
    bed->residual = numbers_new(30, bed->count);
    for (size_t at = 0; at < bed->count; at++)
        bed->residual[at] *= 0.1f;
    bed->y = numbers_new(31, bed->count);
    bed->g = numbers_new(32, bed->count);
    bed->dresidual = numbers_new(33, bed->count);
    bed->sums = numbers_new(34, bed->blocks * NN_BLOCK_SUMS * bed->c);
    bed->block_rows = calloc(bed->blocks, sizeof(*bed->block_rows));
}

static void bed_close(struct bed *bed)
{
    for (int i = 0; i < NORMS; i++) {
        float *of_norm[] = {bed->x[i],          bed->weight[i], bed->bias[i],    bed->floats[i],
                            bed->statistics[i], bed->dx[i],     bed->dweight[i], bed->dbias[i]};

        for (size_t k = 0; k < COUNT(of_norm); k++)
            free(of_norm[k]);
    }
    free(bed->residual);
    free(bed->y);
    free(bed->g);
    free(bed->dresidual);
    free(bed->sums);
    free(bed->block_rows);
}

static int norms_of(const struct form *form)
{
    return form->ending == WITH_NORM ? 2 : 1;
}

/* A layer leaves all rows, block after block, each block in two calls. */
static struct nn_batchnorm_sums leave(const struct bed *bed, struct nn_sink sink)
{
    size_t row = 0;

    sink.c = bed->c;
    sink.sums = bed->sums;
    sink.block_rows = bed->block_rows;
    for (size_t block = 0; block < bed->blocks; block++) {
        const size_t left = bed->rows - row, full = rows_of_block(bed->form, block);
        const size_t rows = full < left ? full : left, some = (rows + 1) / 2;

        nn_sink_rows(&sink, block, true, row, some, 0, bed->c);
        if (rows > some)
            nn_sink_rows(&sink, block, false, row + some, rows - some, 0, bed->c);
        row += rows;
    }
    return (struct nn_batchnorm_sums){bed->blocks, bed->c, bed->sums, bed->block_rows};
}

static void forward(struct bed *bed)
{
    struct nn_source source = {.kind = NN_SOURCE_SCALED, .c = bed->c, .x = bed->x[0]};

    for (int i = 0; i < norms_of(bed->form); i++) {
        const struct nn_sink sink = {.kind = NN_SINK_MEASURE, .y = bed->x[i]};
        const struct nn_batchnorm_sums sums = leave(bed, sink);

        nn_batchnorm_measure(&bed->bn[i], &sums, bed->weight[i], bed->statistics[i]);
    }
    source.affine = nn_batchnorm_affine(&bed->bn[0], bed->bias[0]);
    if (bed->form->ending != ALONE)
        source.kind = NN_SOURCE_JOINED;
    source.other = bed->form->ending == WITH_NORM ? bed->x[1] : bed->residual;
    if (bed->form->ending == WITH_NORM)
        source.other_affine = nn_batchnorm_affine(&bed->bn[1], bed->bias[1]);
    nn_source_read(&source, 0, bed->rows, 0, bed->c, bed->y, bed->c);
}

/* dx through the source with which the convolution before the batch norm reads its gradient. */
static void read_gradient(struct bed *bed, int i)
{
    const struct nn_batchnorm *bn = &bed->bn[i];
    const struct nn_source source = {
        .kind = NN_SOURCE_GRADIENT,
        .c = bed->c,
        .x = bed->x[i],
        .other = bed->dresidual,
        .mean = bn->mean,
        .share = bn->share,
        .pull = bn->pull,
        .slope = bn->scale,
    };

    nn_source_read(&source, 0, bed->rows, 0, bed->c, bed->dx[i], bed->c);
}

static void run(struct bed *bed)
{
    struct nn_sink sink = {
        .kind = NN_SINK_MASK,
        .y = bed->dresidual,
        .out = bed->form->ending == ALONE ? NULL : bed->y,
        .affine = nn_batchnorm_affine(&bed->bn[0], bed->bias[0]),
        .norms = norms_of(bed->form),
        .norm_x = {bed->x[0], bed->x[1]},
        .norm_mean = {bed->bn[0].mean, bed->bn[1].mean},
    };
    struct nn_batchnorm_sums sums;

    forward(bed);
    memcpy(bed->dresidual, bed->g, bed->count * sizeof(float));
    sums = leave(bed, sink);
    for (int i = 0; i < sink.norms; i++) {
        nn_batchnorm_settle(&bed->bn[i], &sums, i, bed->dweight[i], bed->dbias[i]);
        read_gradient(bed, i);
    }
}

/* Mean and sum of squares about it of channel j, straight from the definition. */
static void moments(const struct bed *bed, int i, size_t j, double *mean, double *m2)
{
    *mean = *m2 = 0;
    for (size_t row = 0; row < bed->rows; row++)
        *mean += bed->x[i][row * bed->c + j] / (double)bed->rows;
    for (size_t row = 0; row < bed->rows; row++)
        *m2 += pow(bed->x[i][row * bed->c + j] - *mean, 2);
}

static int statistics_differ(const struct bed *bed, int i, size_t j)
{
    double mean, m2;

    moments(bed, i, j, &mean, &m2);
    return fabs(bed->statistics[i][j] - mean) > 3e-7 * (1 + fabs(mean)) ||
           fabs(bed->statistics[i][bed->c + j] - m2 / (double)(bed->rows - 1)) > 5e-6;
}

static double normed(const struct bed *bed, int i, size_t j, float x)
{
    double mean, m2;

    moments(bed, i, j, &mean, &m2);
    return (x - mean) / sqrt(m2 / (double)bed->rows + NN_BATCHNORM_EPS) * bed->weight[i][j] +
           bed->bias[i][j];
}

static int channel_differs(const struct bed *bed, size_t j)
{
    double largest = 0;

    for (int i = 0; i < norms_of(bed->form); i++)
        if (statistics_differ(bed, i, j))
            return 1;
    for (size_t at = j; at < bed->count; at += bed->c) {
        double y = normed(bed, 0, j, bed->x[0][at]);

        if (bed->form->ending == WITH_NORM)
            y += normed(bed, 1, j, bed->x[1][at]);
        if (bed->form->ending == WITH_RESIDUAL)
            y += bed->residual[at];
        largest = fmax(largest, fabs((y < 0 ? 0 : y) - bed->y[at]));
    }
    return largest > 1e-5;
}

static void batchnorm_forward_equals_its_definition(void **state)
{
    int wrong = 0;

    (void)state;
    for (size_t f = 0; f < COUNT(forms); f++) {
        struct bed bed;

        bed_open(&bed, &forms[f], 2);
        forward(&bed);
        for (size_t j = 0; j < bed.c; j++) {
            if (channel_differs(&bed, j)) {
                print_error("%s: channel %zu\n", forms[f].name, j);
                wrong++;
            }
        }
        bed_close(&bed);
    }
    assert_int_equal(wrong, 0);
}

static double objective(void *context)
{
    struct bed *bed = context;

    forward(bed);
    return numbers_dot(bed->y, bed->g, bed->count);
}

static int slopes_differ(struct bed *bed, int i)
{
    const char *name = bed->form->name;

    return numbers_gradient_differs(name, objective, bed, bed->x[i], bed->dx[i], bed->count, 1e-2f,
                                    1e-2) +
           numbers_gradient_differs(name, objective, bed, bed->weight[i], bed->dweight[i], bed->c,
                                    1e-2f, 1e-2) +
           numbers_gradient_differs(name, objective, bed, bed->bias[i], bed->dbias[i], bed->c,
                                    1e-2f, 1e-2);
}

static void batchnorm_backward_is_the_slope_of_forward(void **state)
{
    int wrong = 0;

    (void)state;
    for (size_t f = 0; f < COUNT(forms); f++) {
        struct bed bed;

        bed_open(&bed, &forms[f], 1);
        run(&bed);
        for (int i = 0; i < norms_of(&forms[f]); i++)
            wrong += slopes_differ(&bed, i);
        if (forms[f].ending == WITH_RESIDUAL)
            wrong += numbers_gradient_differs(forms[f].name, objective, &bed, bed.residual,
                                              bed.dresidual, bed.count, 1e-2f, 1e-2);
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
            for (int i = 0; i < norms_of(&forms[f]); i++) {
                assert_memory_equal(one.dx[i], many.dx[i], one.count * sizeof(float));
                assert_memory_equal(one.dweight[i], many.dweight[i], one.c * sizeof(float));
                assert_memory_equal(one.dbias[i], many.dbias[i], one.c * sizeof(float));
                assert_memory_equal(one.statistics[i], many.statistics[i],
                                    2 * one.c * sizeof(float));
            }
            bed_close(&many);
        }
        bed_close(&one);
    }
}

static void batchnorm_survives_a_single_row(void **state)
{
    static const struct form single = {"one row", ALONE, 1, 16, {1}};
    struct bed bed;

    (void)state;
    bed_open(&bed, &single, 1);
    for (size_t j = 0; j < bed.c; j++)
        bed.bias[0][j] = j % 2 == 0 ? 0.5f : -0.5f;
    run(&bed);
    for (size_t j = 0; j < bed.c; j++) {
        const bool open = j % 2 == 0;

        assert_true(bed.statistics[0][j] == bed.x[0][j] && bed.statistics[0][bed.c + j] == 0);
        assert_true(bed.y[j] == (open ? bed.bias[0][j] : 0));
        assert_true(bed.dx[0][j] == 0 && bed.dweight[0][j] == 0);
        assert_true(bed.dbias[0][j] == (open ? bed.g[j] : 0));
    }
    bed_close(&bed);
}

static void batchnorm_of_a_constant_channel_is_its_bias(void **state)
{
    static const struct form form = {"constant", ALONE, 77, 16, {30, 1}};
    struct bed bed;

    (void)state;
    bed_open(&bed, &form, 1);
    for (size_t at = 3; at < bed.count; at += bed.c)
        bed.x[0][at] = 1000.1f;
    bed.bias[0][3] = 0.25f;
    run(&bed);
    assert_true(bed.statistics[0][3] == 1000.1f && bed.statistics[0][bed.c + 3] == 0);
    assert_true(fabs(bed.bn[0].inverse[3] * sqrt(NN_BATCHNORM_EPS) - 1) < 1e-6);
    for (size_t at = 3; at < bed.count; at += bed.c)
        assert_true(bed.y[at] == 0.25f && isfinite(bed.dx[0][at]));
    assert_true(bed.dweight[0][3] == 0);
    bed_close(&bed);
}

static void batchnorm_statistics_are_right_when_the_mean_is_a_thousand_deviations(void **state)
{
    static const struct form cuts[] = {
        {"one block", ALONE, 3136, 19, {3136}},
        {"blocks of one row", ALONE, 1024, 19, {1}},
        {"unequal blocks", ALONE, 3136, 19, {1000, 1, 128}},
    };

    (void)state;
    for (size_t f = 0; f < COUNT(cuts); f++) {
        struct bed bed;

        bed_open(&bed, &cuts[f], 1);
        for (size_t at = 0; at < bed.count; at++)
            bed.x[0][at] += 1000;
        forward(&bed);
        for (size_t j = 0; j < bed.c; j++) {
            double mean, m2;

            moments(&bed, 0, j, &mean, &m2);
            assert_true(fabs(bed.statistics[0][j] / mean - 1) < 1e-7);
            assert_true(fabs(bed.statistics[0][bed.c + j] * (double)(bed.rows - 1) / m2 - 1) <
                        1e-5);
            assert_true(fabs(bed.bn[0].inverse[j] * sqrt(m2 / (double)bed.rows) - 1) < 1e-5);
        }
        bed_close(&bed);
    }
}

static void batchnorm_shows_a_nan_in_its_own_channel_only(void **state)
{
    static const struct form form = {"nan", ALONE, 20, 16, {7}};
    struct bed bed;

    (void)state;
    bed_open(&bed, &form, 1);
    bed.x[0][9 * 16 + 3] = NAN;
    forward(&bed);
    assert_true(isnan(bed.statistics[0][3]) && isnan(bed.statistics[0][16 + 3]));
    for (size_t at = 0; at < bed.count; at++)
        assert_int_equal(isnan(bed.y[at]) != 0, at % 16 == 3);
    bed_close(&bed);
}

static void batchnorm_recalls_running_statistics_as_a_slope_and_an_offset(void **state)
{
    enum { CHANNELS = 37 };
    float running[2 * CHANNELS], weight[CHANNELS], bias[CHANNELS];
    float floats[NN_BATCHNORM_ARRAYS * CHANNELS];
    const struct nn_batchnorm bn = nn_batchnorm_at(floats, CHANNELS);

    (void)state;
    numbers_fill(1, running, 2 * CHANNELS);
    numbers_fill(2, weight, CHANNELS);
    numbers_fill(3, bias, CHANNELS);
    for (size_t j = 0; j < CHANNELS; j++)
        running[CHANNELS + j] = j == 5 ? 0 : fabsf(running[CHANNELS + j]);
    nn_batchnorm_recall(&bn, CHANNELS, running, weight, bias);
    for (size_t j = 0; j < CHANNELS; j++) {
        const double scale = weight[j] / sqrt(running[CHANNELS + j] + NN_BATCHNORM_EPS);
        const double offset = bias[j] - running[j] * scale;

        assert_true(fabs(bn.scale[j] - scale) <= 1e-6 * fabs(scale));
        assert_true(fabs(bn.offset[j] - offset) <= 1e-6 * (1 + fabs(running[j] * scale)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batchnorm_forward_equals_its_definition),
        cmocka_unit_test(batchnorm_backward_is_the_slope_of_forward),
        cmocka_unit_test(batchnorm_has_the_same_bits_for_any_number_of_threads),
        cmocka_unit_test(batchnorm_survives_a_single_row),
        cmocka_unit_test(batchnorm_of_a_constant_channel_is_its_bias),
        cmocka_unit_test(batchnorm_statistics_are_right_when_the_mean_is_a_thousand_deviations),
        cmocka_unit_test(batchnorm_shows_a_nan_in_its_own_channel_only),
        cmocka_unit_test(batchnorm_recalls_running_statistics_as_a_slope_and_an_offset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
