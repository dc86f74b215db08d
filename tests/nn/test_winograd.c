/* tests/nn/test_winograd.c -- Winograd's convolutions against plain loops in double. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "tests/nn/numbers.h"
#include "trainer/nn/conv/algorithm.h"
#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/scratch.h"
#include "trainer/nn/kernel/threads.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

#define SKIPPED 77 /* ctest's SKIP_RETURN_CODE */

/* max|error| / rms(exact) */
#define TOLERANCE_4 4e-5
#define TOLERANCE_2 2e-5

static const struct form {
    const char *name;
    int n, c, h, w, k;
} forms[] = {
    {"one pixel", 3, 16, 1, 1, 16},
    {"two by two", 3, 16, 2, 2, 16},
    {"one channel", 2, 1, 5, 5, 1},
    {"three channels", 2, 3, 9, 6, 5},
    {"five channels", 2, 5, 6, 9, 3},
    {"one image", 1, 16, 8, 8, 16},
    {"24 to 40", 2, 24, 9, 7, 40},
    {"40 to 24", 3, 40, 7, 11, 24},
    {"tiles of 4 and 3", 5, 32, 7, 7, 32},
    {"sixteen parts", 201, 5, 8, 8, 16},
    {"rows of tiles", 1, 64, 33, 30, 64},
    {"wide", 2, 136, 5, 6, 216},
    {"wide, several passes", 290, 640, 1, 1, 48},
    {"wide, blocks that end in an image", 39, 136, 17, 1, 216},
    {"more tiles than rows of a product", 1, 3, 3, 1030, 3},
};

struct bed {
    const struct nn_conv_algorithm *algorithm;
    struct nn_conv conv;
    int n;
    size_t x_count, y_count, w_count;
    float *x, *w, *y, *dx, *dw, *dy, *scale;
    float *y_sums, *dx_sums;
    uint32_t *y_rows, *dx_rows;
    struct nn_scratch scratch;
    /* Of a batch norm on either side: (C or K) */
    float *mean, *slope, *bias, *pull;
};

static size_t most(size_t a, size_t b)
{
    return a > b ? a : b;
}

static struct nn_conv_size size_of(const struct bed *bed)
{
    struct nn_conv_size size = {0};

    for (int d = NN_FORWARD; d <= NN_BACKWARD_WEIGHTS; d++) {
        const struct nn_conv_size here = bed->algorithm->size(&bed->conv, d, bed->n);

        size.shared = most(size.shared, here.shared);
        size.private = most(size.private, here.private);
    }
    return size;
}

static void bed_open(struct bed *bed, const struct nn_conv_algorithm *algorithm,
                     const struct form *form, int threads)
{
    struct err err = {0};
    struct nn_conv *conv = &bed->conv;
    size_t y_blocks, dx_blocks;
    struct nn_conv_size size;

    nn_threads_init(threads);
    *bed = (struct bed){.algorithm = algorithm, .n = form->n};
    *conv = nn_conv_make(form->c, form->h, form->w, form->k, 3, 1);
    bed->x_count = (size_t)form->n * form->h * form->w * form->c;
    bed->y_count = (size_t)form->n * conv->oh * conv->ow * form->k;
    bed->w_count = (size_t)form->k * 9 * form->c;
    bed->x = numbers_new(1, bed->x_count);
    bed->w = numbers_new(2, bed->w_count);
    bed->y = numbers_new(3, bed->y_count);
    bed->dx = numbers_new(4, bed->x_count);
    bed->dw = numbers_new(5, bed->w_count);
    bed->dy = numbers_new(6, bed->y_count);
    bed->scale = numbers_new(7, (size_t)form->k);
    bed->mean = numbers_new(8, 1024);
    bed->slope = numbers_new(9, 1024);
    bed->bias = numbers_new(10, 1024);
    bed->pull = numbers_new(11, 1024);
    for (size_t i = 0; i < 1024; i++) { /* most ReLUs are open somewhere */
        bed->slope[i] = 0.5f + fabsf(bed->slope[i]);
        bed->bias[i] *= 0.25f;
        bed->mean[i] *= 0.5f;
    }
    y_blocks = algorithm->size(conv, NN_FORWARD, form->n).blocks;
    dx_blocks = algorithm->size(conv, NN_BACKWARD_DATA, form->n).blocks;
    bed->y_sums = numbers_new(12, y_blocks * NN_BLOCK_SUMS * form->k);
    bed->dx_sums = numbers_new(13, dx_blocks * NN_BLOCK_SUMS * form->c);
    bed->y_rows = calloc(y_blocks, sizeof(uint32_t));
    bed->dx_rows = calloc(dx_blocks, sizeof(uint32_t));
    size = size_of(bed);
    assert_int_equal(nn_scratch_init(&bed->scratch, size.shared, size.private, &err), 0);
}

static void bed_close(struct bed *bed)
{
    free(bed->x);
    free(bed->w);
    free(bed->y);
    free(bed->dx);
    free(bed->dw);
    free(bed->dy);
    free(bed->scale);
    free(bed->mean);
    free(bed->slope);
    free(bed->bias);
    free(bed->pull);
    free(bed->y_sums);
    free(bed->dx_sums);
    free(bed->y_rows);
    free(bed->dx_rows);
    nn_scratch_release(&bed->scratch);
}

/* How x and dy are read and y and dx are left. */
enum manner { PLAIN, FUSED };

static struct nn_source source_of(const struct bed *bed, enum manner manner, bool gradient)
{
    struct nn_source source = {
        .kind = NN_SOURCE_PLAIN,
        .c = gradient ? (size_t)bed->conv.k : (size_t)bed->conv.c,
        .x = gradient ? bed->dy : bed->x,
    };

    if (manner == PLAIN)
        return source;
    if (gradient) {
        source.kind = NN_SOURCE_GRADIENT;
        source.x = bed->y_count > 0 ? bed->dy : NULL;
        source.other = bed->dy;
        source.mean = bed->mean;
        source.share = bed->bias;
        source.pull = bed->pull;
        source.slope = bed->slope;
        return source;
    }
    source.kind = NN_SOURCE_SCALED;
    source.affine = (struct nn_affine){bed->mean, bed->slope, bed->bias};
    return source;
}

static void run_forward(struct bed *bed, enum manner manner, bool add, const float *scale)
{
    const struct nn_conv_forward args = {
        .conv = &bed->conv,
        .n = bed->n,
        .x = source_of(bed, manner, false),
        .w = bed->w,
        .scale = scale,
        .y = {.kind = manner == PLAIN ? NN_SINK_PLAIN : NN_SINK_MEASURE,
              .c = (size_t)bed->conv.k,
              .y = bed->y,
              .add = add,
              .sums = bed->y_sums,
              .block_rows = bed->y_rows},
    };

    bed->algorithm->forward(&args, &bed->scratch);
}

static void run_backward_data(struct bed *bed, enum manner manner, bool add)
{
    const struct nn_conv_backward_data args = {
        .conv = &bed->conv,
        .n = bed->n,
        .dy = source_of(bed, manner, true),
        .w = bed->w,
        .dx = {.kind = manner == PLAIN ? NN_SINK_PLAIN : NN_SINK_MASK,
               .c = (size_t)bed->conv.c,
               .y = bed->dx,
               .add = add,
               .sums = bed->dx_sums,
               .block_rows = bed->dx_rows,
               .affine = {bed->mean, bed->slope, bed->bias},
               .norms = 1,
               .norm_x = {bed->x},
               .norm_mean = {bed->mean}},
    };

    bed->algorithm->backward_data(&args, &bed->scratch);
}

static void run_backward_weights(struct bed *bed, enum manner manner, float *store)
{
    struct nn_conv_backward_weights args = {
        .conv = &bed->conv,
        .n = bed->n,
        .x = source_of(bed, manner, false),
        .dy = source_of(bed, manner, true),
        .dw = bed->dw,
    };

    args.dy.store = store;
    bed->algorithm->backward_weights(&args, &bed->scratch);
}

static void run(struct bed *bed, enum manner manner, bool add)
{
    run_forward(bed, manner, add, NULL);
    run_backward_data(bed, manner, add);
    run_backward_weights(bed, manner, NULL);
}

/* What the convolution reads, as plain numbers. */
static float *as_read(const struct nn_source *source, size_t count)
{
    float *rows = malloc((count + 1) * sizeof(float));

    nn_source_read(source, 0, count / source->c, 0, source->c, rows, source->c);
    return rows;
}

struct exact {
    double *y, *dx, *dw;
};

/* One tap at one output: the definition, for all three directions at once. */
static void naive_tap(const struct bed *bed, const float *x, const float *dy, size_t in, size_t out,
                      size_t tap, struct exact *sums)
{
    const size_t c = (size_t)bed->conv.c, k = (size_t)bed->conv.k;

    for (size_t f = 0; f < k; f++) {
        const float *w = bed->w + (f * 9 + tap) * c;
        double *dw = sums->dw + (f * 9 + tap) * c, sum = 0;

        for (size_t j = 0; j < c; j++) {
            sum += (double)x[in * c + j] * w[j];
            sums->dx[in * c + j] += (double)dy[out * k + f] * w[j];
            dw[j] += (double)dy[out * k + f] * x[in * c + j];
        }
        sums->y[out * k + f] += sum;
    }
}

static struct exact naive(const struct bed *bed, const float *x, const float *dy)
{
    const int h = bed->conv.h, w = bed->conv.w;
    struct exact sums = {
        .y = calloc(bed->y_count, sizeof(double)),
        .dx = calloc(bed->x_count, sizeof(double)),
        .dw = calloc(bed->w_count, sizeof(double)),
    };

    for (int pixel = 0; pixel < bed->n * h * w; pixel++) {
        for (int tap = 0; tap < 9; tap++) {
            const int y = pixel / w % h + tap / 3 - 1, column = pixel % w + tap % 3 - 1;

            if (y >= 0 && y < h && column >= 0 && column < w)
                naive_tap(bed, x, dy, (size_t)(pixel + (tap / 3 - 1) * w + tap % 3 - 1),
                          (size_t)pixel, (size_t)tap, &sums);
        }
    }
    return sums;
}

static void exact_free(struct exact *exact)
{
    free(exact->y);
    free(exact->dx);
    free(exact->dw);
}

static double error_of(const float *x, const double *exact, size_t count)
{
    double error = 0, square = 0;

    for (size_t i = 0; i < count; i++) {
        const double difference = fabs((double)x[i] - exact[i]);

        if (!(difference <= error))
            error = difference;
        square += exact[i] * exact[i];
    }
    return error / sqrt(square / (double)count);
}

static void errors_are_small(const struct nn_conv_algorithm *algorithm, double tolerance)
{
    int wrong = 0;

    for (size_t f = 0; f < COUNT(forms); f++) {
        struct exact exact;
        struct bed bed;
        double y, dx, dw;

        bed_open(&bed, algorithm, &forms[f], 2);
        exact = naive(&bed, bed.x, bed.dy);
        run(&bed, PLAIN, false);
        y = error_of(bed.y, exact.y, bed.y_count);
        dx = error_of(bed.dx, exact.dx, bed.x_count);
        dw = error_of(bed.dw, exact.dw, bed.w_count);
        print_message("%-9s %-34s %8.1e %8.1e %8.1e\n", algorithm->name, forms[f].name, y, dx, dw);
        wrong += !(y <= tolerance) + !(dx <= tolerance) + !(dw <= tolerance);
        exact_free(&exact);
        bed_close(&bed);
    }
    assert_int_equal(wrong, 0);
}

static void winograd4_is_exact_enough_in_every_form(void **state)
{
    (void)state;
    errors_are_small(&nn_conv_winograd4, TOLERANCE_4);
}

static void winograd2_is_exact_enough_in_every_form(void **state)
{
    (void)state;
    errors_are_small(&nn_conv_winograd2, TOLERANCE_2);
}

/* --- with sources and sinks --- */

static float *copy_of(const float *x, size_t count)
{
    float *copy = malloc((count + 1) * sizeof(float));

    memcpy(copy, x, count * sizeof(float));
    return copy;
}

/* Sums over blocks against sums over all rows, in double: pivots are undone. */
static int forward_sums_differ(const struct bed *bed, const char *what)
{
    const size_t k = (size_t)bed->conv.k, rows = bed->y_count / k;
    const size_t blocks = bed->algorithm->size(&bed->conv, NN_FORWARD, bed->n).blocks;
    size_t counted = 0;
    int wrong = 0;

    for (size_t b = 0; b < blocks; b++)
        counted += bed->y_rows[b];
    wrong += counted != rows;
    for (size_t f = 0; f < k; f++) {
        double sum = 0, square = 0, exact = 0, exact_square = 0;

        for (size_t b = 0; b < blocks; b++) {
            const float *s = bed->y_sums + b * NN_BLOCK_SUMS * k + f;
            const double n = bed->y_rows[b], pivot = s[2 * k];

            sum += s[0] + n * pivot;
            square += s[k] + 2 * pivot * s[0] + n * pivot * pivot;
        }
        for (size_t i = 0; i < rows; i++) {
            exact += bed->y[i * k + f];
            exact_square += (double)bed->y[i * k + f] * bed->y[i * k + f];
        }
        wrong += !(fabs(sum - exact) <= 1e-4 * sqrt(exact_square * (double)rows));
        wrong += !(fabs(square - exact_square) <= 1e-4 * exact_square);
    }
    if (wrong > 0)
        print_message("%s: %d sums differ\n", what, wrong);
    return wrong;
}

/* In backward, the sums over the masked gradient. */
static int backward_sums_differ(const struct bed *bed, const char *what)
{
    const size_t c = (size_t)bed->conv.c, rows = bed->x_count / c;
    const size_t blocks = bed->algorithm->size(&bed->conv, NN_BACKWARD_DATA, bed->n).blocks;
    size_t counted = 0;
    int wrong = 0;

    for (size_t b = 0; b < blocks; b++)
        counted += bed->dx_rows[b];
    wrong += counted != rows;
    for (size_t j = 0; j < c; j++) {
        double sum = 0, product = 0, exact = 0, exact_product = 0, scale = 1e-30;

        for (size_t b = 0; b < blocks; b++) {
            sum += bed->dx_sums[b * NN_BLOCK_SUMS * c + j];
            product += bed->dx_sums[b * NN_BLOCK_SUMS * c + c + j];
        }
        for (size_t i = j; i < bed->x_count; i += c) {
            exact += bed->dx[i];
            exact_product += (double)bed->dx[i] * ((double)bed->x[i] - bed->mean[j]);
            scale += fabs(bed->dx[i]);
        }
        wrong += !(fabs(sum - exact) <= 1e-5 * scale);
        wrong += !(fabs(product - exact_product) <= 2e-5 * scale);
    }
    if (wrong > 0)
        print_message("%s: %d sums of backward differ\n", what, wrong);
    return wrong;
}

/* dx as the sink should have left it, from exact sums. */
static void mask(const struct bed *bed, double *dx, const float *before)
{
    const size_t c = (size_t)bed->conv.c;

    for (size_t i = 0; i < bed->x_count; i++) {
        const size_t j = i % c;
        const float z = (bed->x[i] - bed->mean[j]) * bed->slope[j] + bed->bias[j];

        dx[i] = z <= 0 ? 0 : dx[i] + before[i];
    }
}

static int fused_differs(const struct nn_conv_algorithm *algorithm, const struct form *form,
                         double tolerance)
{
    struct bed bed;
    struct nn_source x, dy;
    float *x_read, *dy_read, *y_before, *dx_before, *store;
    struct exact exact;
    int wrong = 0;

    bed_open(&bed, algorithm, form, 2);
    x = source_of(&bed, FUSED, false);
    dy = source_of(&bed, FUSED, true);
    x_read = as_read(&x, bed.x_count);
    dy_read = as_read(&dy, bed.y_count);
    y_before = copy_of(bed.y, bed.y_count);
    dx_before = copy_of(bed.dx, bed.x_count);
    store = numbers_new(20, bed.y_count);
    exact = naive(&bed, x_read, dy_read);
    run_forward(&bed, FUSED, true, NULL);
    run_backward_data(&bed, FUSED, true);
    run_backward_weights(&bed, FUSED, store);
    for (size_t i = 0; i < bed.y_count; i++)
        exact.y[i] += y_before[i];
    mask(&bed, exact.dx, dx_before);
    wrong += !(error_of(bed.y, exact.y, bed.y_count) <= tolerance);
    wrong += !(error_of(bed.dx, exact.dx, bed.x_count) <= tolerance);
    wrong += !(error_of(bed.dw, exact.dw, bed.w_count) <= tolerance);
    wrong += memcmp(store, dy_read, bed.y_count * sizeof(float)) != 0;
    if (wrong > 0)
        print_message("%s %s: %d of 4 results differ\n", algorithm->name, form->name, wrong);
    wrong += forward_sums_differ(&bed, form->name);
    wrong += backward_sums_differ(&bed, form->name);
    exact_free(&exact);
    free(x_read);
    free(dy_read);
    free(y_before);
    free(dx_before);
    free(store);
    bed_close(&bed);
    return wrong;
}

static void winograd_reads_sources_and_leaves_to_sinks(void **state)
{
    int wrong = 0;

    (void)state;
    for (size_t f = 0; f < COUNT(forms); f++) {
        wrong += fused_differs(&nn_conv_winograd4, &forms[f], TOLERANCE_4);
        wrong += fused_differs(&nn_conv_winograd2, &forms[f], TOLERANCE_2);
    }
    assert_int_equal(wrong, 0);
}

/* A source that is stored over itself: neighbours of a block must not be changed twice. */
static void winograd_stores_what_it_reads_in_forward(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(forms); f++) {
        for (int in_place = 0; in_place < 2; in_place++) {
            struct bed bed;
            struct nn_conv_forward args = {0};
            float *expected, *x_read, *store;

            bed_open(&bed, &nn_conv_winograd4, &forms[f], 2);
            run_forward(&bed, FUSED, false, NULL);
            expected = copy_of(bed.y, bed.y_count);
            args = (struct nn_conv_forward){
                .conv = &bed.conv,
                .n = bed.n,
                .x = source_of(&bed, FUSED, false),
                .w = bed.w,
                .y = {.c = (size_t)bed.conv.k, .y = bed.y},
            };
            x_read = as_read(&args.x, bed.x_count);
            store = numbers_new(20, bed.x_count);
            args.x.store = in_place ? bed.x : store;
            bed.algorithm->forward(&args, &bed.scratch);
            assert_memory_equal(bed.y, expected, bed.y_count * sizeof(float));
            assert_memory_equal(args.x.store, x_read, bed.x_count * sizeof(float));
            free(expected);
            free(x_read);
            free(store);
            bed_close(&bed);
        }
    }
}

static void winograd_scales_filters(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(forms); f++) {
        struct bed bed;
        struct exact exact;

        bed_open(&bed, &nn_conv_winograd4, &forms[f], 1);
        run_forward(&bed, PLAIN, false, bed.scale);
        for (size_t i = 0; i < bed.w_count; i++)
            bed.w[i] *= bed.scale[i / (9 * (size_t)bed.conv.c)];
        exact = naive(&bed, bed.x, bed.dy);
        assert_true(error_of(bed.y, exact.y, bed.y_count) <= TOLERANCE_4);
        exact_free(&exact);
        bed_close(&bed);
    }
}

/* --- bits --- */

/* The sums and the rows of each block, as the sink of a direction got them. */
static void sums_are_same(const struct bed *one, const struct bed *many, bool forward)
{
    const enum nn_direction direction = forward ? NN_FORWARD : NN_BACKWARD_DATA;
    const size_t channels = (size_t)(forward ? one->conv.k : one->conv.c);
    const size_t blocks = one->algorithm->size(&one->conv, direction, one->n).blocks;

    assert_memory_equal(forward ? one->y_sums : one->dx_sums,
                        forward ? many->y_sums : many->dx_sums,
                        blocks * NN_BLOCK_SUMS * channels * sizeof(float));
    assert_memory_equal(forward ? one->y_rows : one->dx_rows,
                        forward ? many->y_rows : many->dx_rows, blocks * sizeof(uint32_t));
}

static void winograd_has_the_same_bits_for_any_number_of_threads(void **state)
{
    static const struct nn_conv_algorithm *const both[] = {&nn_conv_winograd4, &nn_conv_winograd2};

    (void)state;
    for (size_t i = 0; i < 2 * COUNT(forms); i++) {
        const struct form *form = &forms[i / 2];
        struct bed one, many;

        bed_open(&one, both[i % 2], form, 1);
        run(&one, FUSED, true);
        for (int threads = 2; threads <= 3; threads++) {
            bed_open(&many, both[i % 2], form, threads);
            run(&many, FUSED, true);
            assert_memory_equal(one.y, many.y, one.y_count * sizeof(float));
            assert_memory_equal(one.dx, many.dx, one.x_count * sizeof(float));
            assert_memory_equal(one.dw, many.dw, one.w_count * sizeof(float));
            sums_are_same(&one, &many, true);
            sums_are_same(&one, &many, false);
            bed_close(&many);
        }
        bed_close(&one);
    }
}

static void winograd_gives_an_image_the_same_bits_alone(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(forms); f++) {
        struct bed bed, alone;
        struct form single = forms[f];

        single.n = 1;
        bed_open(&bed, &nn_conv_winograd4, &forms[f], 2);
        bed_open(&alone, &nn_conv_winograd4, &single, 2);
        run_forward(&bed, PLAIN, false, NULL);
        for (int i = 0; i < bed.n; i++) {
            memcpy(alone.x, bed.x + (size_t)i * alone.x_count, alone.x_count * sizeof(float));
            run_forward(&alone, PLAIN, false, NULL);
            assert_memory_equal(alone.y, bed.y + (size_t)i * alone.y_count,
                                alone.y_count * sizeof(float));
        }
        bed_close(&alone);
        bed_close(&bed);
    }
}

/* An instruction set that this CPU lacks (CONVOY_ISA) is a skip, a name that nobody knows is not.
 */
static int check_environment(void)
{
    struct err err = {0};

    if (nn_kernels_check(&err) == 0)
        return 0;
    fprintf(stderr, "%s\n", err.msg);
    return strstr(err.msg, "this CPU") != NULL ? SKIPPED : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(winograd4_is_exact_enough_in_every_form),
        cmocka_unit_test(winograd2_is_exact_enough_in_every_form),
        cmocka_unit_test(winograd_reads_sources_and_leaves_to_sinks),
        cmocka_unit_test(winograd_stores_what_it_reads_in_forward),
        cmocka_unit_test(winograd_scales_filters),
        cmocka_unit_test(winograd_has_the_same_bits_for_any_number_of_threads),
        cmocka_unit_test(winograd_gives_an_image_the_same_bits_alone),
    };
    const int status = check_environment();

    return status != 0 ? status : cmocka_run_group_tests(tests, NULL, NULL);
}
