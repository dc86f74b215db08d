/* tests/nn/test_pool.c -- maximum and mean pooling, between a source and a sink. */
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
#include "trainer/nn/pool.h"

static const int shapes[][4] = {
    {2, 8, 8, 16}, {3, 7, 5, 3}, {1, 1, 1, 17}, {2, 2, 2, 5}}; /* NHWC */
#define SHAPES (sizeof(shapes) / sizeof(*shapes))

/* x is read through a batch norm (mean, scale, bias) and ReLU, or as it is. */
struct bed {
    struct nn_pool pool;
    int n;
    size_t in, out, c, rows; /* rows: of an image */
    float *x, *y, *g, *dx, *mean, *scale, *bias, *sums;
    uint32_t *block_rows;
    uint8_t *taken;
    struct nn_source source;
    struct nn_scratch scratch;
    void (*forward)(struct bed *bed);
};

static void max_forward(struct bed *bed)
{
    nn_maxpool_forward(&bed->pool, bed->n, &bed->source, bed->y, bed->taken, &bed->scratch);
}

static void mean_forward(struct bed *bed)
{
    nn_avgpool_forward(&bed->pool, bed->n, bed->x, bed->y);
}

static void bed_open(struct bed *bed, const int shape[4], struct nn_pool pool,
                     void (*forward)(struct bed *))
{
    struct err err = {0};

    *bed = (struct bed){.pool = pool, .n = shape[0], .forward = forward, .c = (size_t)pool.c};
    bed->rows = (size_t)shape[1] * shape[2];
    bed->in = (size_t)shape[0] * bed->rows * bed->c;
    bed->out = (size_t)shape[0] * pool.oh * pool.ow * bed->c;
    bed->x = numbers_new(1, bed->in);
    bed->y = numbers_new(2, bed->out);
    bed->g = numbers_new(3, bed->out);
    bed->dx = numbers_new(4, bed->in);
    bed->mean = numbers_new(5, bed->c);
    bed->scale = numbers_new(6, bed->c);
    bed->bias = numbers_new(7, bed->c);
    bed->sums = numbers_new(8, (size_t)bed->n * NN_BLOCK_SUMS * bed->c);
    bed->block_rows = calloc((size_t)bed->n, sizeof(*bed->block_rows));
    bed->taken = malloc(bed->out);
    memset(bed->taken, 0xff, bed->out);
    bed->source = (struct nn_source){.kind = NN_SOURCE_PLAIN, .c = bed->c, .x = bed->x};
    assert_int_equal(nn_scratch_init(&bed->scratch, 0, nn_maxpool_private_floats(&pool), &err), 0);
}

static void bed_close(struct bed *bed)
{
    float *all[] = {bed->x, bed->y, bed->g, bed->dx, bed->mean, bed->scale, bed->bias, bed->sums};

    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        free(all[i]);
    free(bed->block_rows);
    free(bed->taken);
    nn_scratch_release(&bed->scratch);
}

static struct nn_affine affine_of(const struct bed *bed)
{
    return (struct nn_affine){.mean = bed->mean, .scale = bed->scale, .bias = bed->bias};
}

static struct nn_sink plain_sink(const struct bed *bed)
{
    return (struct nn_sink){.kind = NN_SINK_PLAIN, .c = bed->c, .y = bed->dx};
}

/* The ReLU of one batch norm stands before the pool. */
static struct nn_sink mask_sink(const struct bed *bed)
{
    return (struct nn_sink){
        .kind = NN_SINK_MASK,
        .c = bed->c,
        .y = bed->dx,
        .sums = bed->sums,
        .block_rows = bed->block_rows,
        .affine = affine_of(bed),
        .norms = 1,
        .norm_x = {bed->x},
        .norm_mean = {bed->mean},
    };
}

/* Is what a mask sink says about image i true of the gradient that it left? */
static int sums_differ(const struct bed *bed, int i)
{
    const float *sums = bed->sums + (size_t)i * NN_BLOCK_SUMS * bed->c;
    int wrong = bed->block_rows[i] != bed->rows;

    for (size_t j = 0; j < bed->c; j++) {
        double sum = 0, product = 0;

        for (size_t row = 0; row < bed->rows; row++) {
            const size_t at = ((size_t)i * bed->rows + row) * bed->c + j;

            sum += bed->dx[at];
            product += bed->dx[at] * ((double)bed->x[at] - bed->mean[j]);
        }
        wrong += fabs(sums[j] - sum) > 1e-5 || fabs(sums[bed->c + j] - product) > 1e-5;
    }
    return wrong;
}

static double objective(void *context)
{
    struct bed *bed = context;

    bed->forward(bed);
    return numbers_dot(bed->y, bed->g, bed->out);
}

/* What the pool sees of x. */
static float seen(const struct bed *bed, size_t at)
{
    float out;

    nn_source_read(&bed->source, at / bed->c, 1, at % bed->c, 1, &out, 1);
    return out;
}

static float largest_near(const struct bed *bed, int i, int oy, int ox, int c)
{
    float largest = -INFINITY;

    for (int y = 2 * oy - 1; y <= 2 * oy + 1; y++)
        for (int x = 2 * ox - 1; x <= 2 * ox + 1; x++)
            if (y >= 0 && y < bed->pool.h && x >= 0 && x < bed->pool.w)
                largest = fmaxf(
                    largest,
                    seen(bed,
                         (((size_t)i * bed->pool.h + (size_t)y) * bed->pool.w + x) * bed->c + c));
    return largest;
}

static void check_largest(const struct bed *bed)
{
    size_t at = 0;

    for (int i = 0; i < bed->n; i++)
        for (int o = 0; o < bed->pool.oh * bed->pool.ow; o++)
            for (int c = 0; c < bed->pool.c; c++, at++)
                assert_true(bed->y[at] ==
                            largest_near(bed, i, o / bed->pool.ow, o % bed->pool.ow, c));
}

static void maxpool_finds_the_largest_and_its_slope(void **state)
{
    (void)state;
    for (size_t s = 0; s < SHAPES; s++) {
        const int *shape = shapes[s];
        struct bed bed;
        struct nn_sink sink;
        float *plain;

        bed_open(&bed, shape, nn_maxpool_make(shape[3], shape[1], shape[2]), max_forward);
        max_forward(&bed);
        check_largest(&bed);
        plain = numbers_new(5, bed.out);
        nn_maxpool_forward(&bed.pool, bed.n, &bed.source, plain, NULL, &bed.scratch);
        assert_memory_equal(plain, bed.y, bed.out * sizeof(float));
        free(plain);
        sink = plain_sink(&bed);
        nn_maxpool_backward(&bed.pool, bed.n, bed.taken, bed.g, &sink);
        assert_int_equal(numbers_gradient_differs("maxpool", objective, &bed, bed.x, bed.dx, bed.in,
                                                  1e-4f, 1e-3),
                         0);
        bed_close(&bed);
    }
}

static void maxpool_reads_through_a_batch_norm_and_leaves_its_sums(void **state)
{
    (void)state;
    for (size_t s = 0; s < SHAPES; s++) {
        const int *shape = shapes[s];
        struct bed bed;
        struct nn_sink sink;
        int wrong = 0;

        bed_open(&bed, shape, nn_maxpool_make(shape[3], shape[1], shape[2]), max_forward);
        bed.source.kind = NN_SOURCE_SCALED;
        bed.source.affine = affine_of(&bed);
        max_forward(&bed);
        check_largest(&bed);
        sink = mask_sink(&bed);
        nn_maxpool_backward(&bed.pool, bed.n, bed.taken, bed.g, &sink);
        for (int i = 0; i < bed.n; i++)
            wrong += sums_differ(&bed, i);
        assert_int_equal(wrong, 0);
        for (size_t at = 0; at < bed.in; at++) /* the sink's gradient is that of ReLU's input */
            bed.dx[at] *= bed.scale[at % bed.c];
        assert_int_equal(numbers_gradient_differs("maxpool of a batch norm", objective, &bed, bed.x,
                                                  bed.dx, bed.in, 1e-4f, 2e-3),
                         0);
        bed_close(&bed);
    }
}

static void maxpool_passes_a_nan_on(void **state)
{
    static const enum nn_source_kind kinds[] = {NN_SOURCE_PLAIN, NN_SOURCE_SCALED};
    const int shape[4] = {1, 4, 4, 16};

    (void)state;
    for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++) {
        struct bed bed;

        bed_open(&bed, shape, nn_maxpool_make(16, 4, 4), max_forward);
        bed.source.kind = kinds[k];
        bed.source.affine = affine_of(&bed);
        bed.x[0] = NAN;
        bed.x[(1 * 4 + 1) * 16 + 2] = NAN; /* seen by all four windows, in the middle of some */
        max_forward(&bed);
        assert_true(isnan(bed.y[0]) && !isnan(bed.y[1]) && !isnan(bed.y[16]));
        for (size_t o = 0; o < 4; o++)
            assert_true(isnan(bed.y[o * 16 + 2]));
        bed_close(&bed);
    }
}

static void maxpool_gives_the_gradient_to_the_first_of_equals(void **state)
{
    const int shape[4] = {1, 2, 2, 1};
    struct bed bed;
    struct nn_sink sink;

    (void)state;
    bed_open(&bed, shape, nn_maxpool_make(1, 2, 2), max_forward);
    for (int i = 0; i < 4; i++)
        bed.x[i] = 1;
    max_forward(&bed);
    sink = plain_sink(&bed);
    nn_maxpool_backward(&bed.pool, 1, bed.taken, bed.g, &sink);
    assert_true(bed.dx[0] == bed.g[0] && bed.dx[1] == 0 && bed.dx[2] == 0 && bed.dx[3] == 0);
    bed_close(&bed);
}

static void avgpool_is_the_mean_and_its_slope(void **state)
{
    (void)state;
    for (size_t s = 0; s < SHAPES; s++) {
        const int *shape = shapes[s];
        struct bed bed;
        struct nn_sink sink;

        bed_open(&bed, shape, nn_avgpool_make(shape[3], shape[1], shape[2]), mean_forward);
        mean_forward(&bed);
        for (size_t at = 0; at < bed.out; at++) {
            double sum = 0;

            for (size_t row = 0; row < bed.rows; row++)
                sum += bed.x[(at / bed.c * bed.rows + row) * bed.c + at % bed.c];
            assert_true(fabs(bed.y[at] - sum / (double)bed.rows) < 1e-6);
        }
        sink = plain_sink(&bed);
        nn_avgpool_backward(&bed.pool, bed.n, bed.g, &sink);
        assert_int_equal(
            numbers_gradient_differs("avgpool", objective, &bed, bed.x, bed.dx, bed.in, 0.5f, 1e-4),
            0);
        bed_close(&bed);
    }
}

/* The pool reads a join: the mask is the sign of what it wrote. */
static void avgpool_masks_its_gradient_and_leaves_sums(void **state)
{
    (void)state;
    for (size_t s = 0; s < SHAPES; s++) {
        const int *shape = shapes[s];
        struct bed bed;
        struct nn_sink sink;
        float *out;
        int wrong = 0;

        bed_open(&bed, shape, nn_avgpool_make(shape[3], shape[1], shape[2]), mean_forward);
        out = numbers_new(9, bed.in);
        sink = mask_sink(&bed);
        sink.out = out;
        nn_avgpool_backward(&bed.pool, bed.n, bed.g, &sink);
        for (size_t at = 0; at < bed.in; at++) {
            const float g = bed.g[at / bed.c / bed.rows * bed.c + at % bed.c];

            wrong += bed.dx[at] != (out[at] > 0 ? g / (float)bed.rows : 0);
        }
        for (int i = 0; i < bed.n; i++)
            wrong += sums_differ(&bed, i);
        assert_int_equal(wrong, 0);
        free(out);
        bed_close(&bed);
    }
}

/* Forward and backward of both, through a batch norm where there can be one. */
static void run_both(struct bed *bed, float *mean, float *mean_dx)
{
    struct nn_sink sink = mask_sink(bed);
    const struct nn_pool whole = nn_avgpool_make(bed->pool.c, bed->pool.h, bed->pool.w);

    sink.y = mean_dx;
    nn_avgpool_forward(&whole, bed->n, bed->x, mean);
    nn_avgpool_backward(&whole, bed->n, bed->g, &sink);
    sink.y = bed->dx;
    bed->source.kind = NN_SOURCE_SCALED;
    bed->source.affine = affine_of(bed);
    max_forward(bed);
    nn_maxpool_backward(&bed->pool, bed->n, bed->taken, bed->g, &sink);
}

static void pools_have_the_same_bits_for_any_number_of_threads(void **state)
{
    const int shape[4] = {5, 9, 6, 16};
    enum { MEANS = 5 * 16, INPUTS = 5 * 9 * 6 * 16 };
    float mean[2][MEANS], mean_dx[2][INPUTS];
    struct bed one, many;

    (void)state;
    nn_threads_init(1);
    bed_open(&one, shape, nn_maxpool_make(16, 9, 6), max_forward);
    run_both(&one, mean[0], mean_dx[0]);
    for (int threads = 2; threads <= 3; threads++) {
        nn_threads_init(threads);
        bed_open(&many, shape, nn_maxpool_make(16, 9, 6), max_forward);
        run_both(&many, mean[1], mean_dx[1]);
        assert_memory_equal(mean[0], mean[1], sizeof(mean[0]));
        assert_memory_equal(mean_dx[0], mean_dx[1], sizeof(mean_dx[0]));
        assert_memory_equal(one.y, many.y, one.out * sizeof(float));
        assert_memory_equal(one.taken, many.taken, one.out);
        assert_memory_equal(one.dx, many.dx, one.in * sizeof(float));
        for (int i = 0; i < one.n; i++)
            assert_memory_equal(one.sums + (size_t)i * NN_BLOCK_SUMS * 16,
                                many.sums + (size_t)i * NN_BLOCK_SUMS * 16, 2 * 16 * sizeof(float));
        bed_close(&many);
    }
    bed_close(&one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maxpool_finds_the_largest_and_its_slope),
        cmocka_unit_test(maxpool_reads_through_a_batch_norm_and_leaves_its_sums),
        cmocka_unit_test(maxpool_passes_a_nan_on),
        cmocka_unit_test(maxpool_gives_the_gradient_to_the_first_of_equals),
        cmocka_unit_test(avgpool_is_the_mean_and_its_slope),
        cmocka_unit_test(avgpool_masks_its_gradient_and_leaves_sums),
        cmocka_unit_test(pools_have_the_same_bits_for_any_number_of_threads),
    };

    nn_threads_init(2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
