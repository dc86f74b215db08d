/* tests/nn/test_conv.c -- every algorithm of convolution, in every direction and with everything
 * that stands before and behind it, against plain loops in double. */
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
#include "tests/nn/conv_bed.h"
#include "tests/nn/numbers.h"
#include "trainer/nn/kernel/kernels.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

#define SKIPPED 77 /* ctest's SKIP_RETURN_CODE */

/* max|error| / rms(exact) */
static const struct {
    const struct nn_conv_algorithm *algorithm;
    double tolerance;
} algorithms[] = {
    {&nn_conv_gemm, 2e-5},      {&nn_conv_direct, 2e-5},      {&nn_conv_winograd4, 4e-5},
    {&nn_conv_winograd2, 2e-5}, {&nn_conv_winograd4s2, 2e-5},
};

static const struct form forms[] = {
    {"3x3", 3, 16, 9, 7, 24, 3, 1},
    {"3x3 odd channels", 2, 19, 8, 11, 21, 3, 1},
    {"3x3 stride 2, even", 2, 8, 8, 8, 16, 3, 2},
    {"3x3 stride 2, odd", 2, 37, 7, 9, 45, 3, 2},
    {"3x3 stride 2, 1 line", 2, 16, 1, 6, 16, 3, 2},
    {"3x3 stride 2, odd, equal blocks", 2, 8, 47, 48, 8, 3, 2},
    {"3x3 stride 2, more tiles than rows", 1, 3, 3, 2060, 3, 3, 2},
    {"3x3 stride 2, wide", 9, 136, 13, 9, 856, 3, 2},
    {"3x3 stride 2, edges of 1 and 2", 9, 24, 9, 12, 40, 3, 2},
    {"3x3 stride 2, edges of 3 and 2", 3, 40, 22, 19, 24, 3, 2},
    {"3x3 stride 3", 2, 8, 11, 10, 16, 3, 3},
    {"3x3 on one pixel", 3, 16, 1, 1, 16, 3, 1},
    {"3x3 stride 2 on one pixel", 1, 16, 1, 1, 16, 3, 2},
    {"3x3 stride 2 on two pixels", 3, 16, 2, 2, 16, 3, 2},
    {"3x3 in several blocks", 2, 16, 25, 22, 16, 3, 1},
    {"3x3 stride 2, blocks", 5, 16, 15, 14, 32, 3, 2},
    {"3x3 in several chunks", 2, 150, 4, 3, 33, 3, 1},
    {"3x3 stride 2, chunks", 2, 70, 5, 4, 150, 3, 2},
    {"1x1", 5, 24, 6, 5, 40, 1, 1},
    {"1x1 in several blocks", 9, 33, 9, 9, 17, 1, 1},
    {"1x1 in several chunks", 1, 530, 4, 4, 260, 1, 1},
    {"1x1 in more chunks", 2, 1040, 3, 3, 33, 1, 1},
    {"1x1 on one pixel", 1, 32, 1, 1, 48, 1, 1},
    {"1x1 stride 2", 3, 16, 8, 7, 32, 1, 2},
    {"1x1 stride 2, blocks", 3, 64, 27, 26, 16, 1, 2},
    {"1x1 stride 2, chunks", 3, 270, 7, 6, 300, 1, 2},
    {"1x1 stride 2, wide", 2, 530, 5, 4, 8, 1, 2},
    {"1x1 stride 2 on one pixel", 2, 16, 1, 1, 16, 1, 2},
    {"5x5", 2, 5, 9, 6, 18, 5, 1},
    {"7x7 stride 2", 2, 3, 33, 30, 16, 7, 2},
    {"7x7 stride 2, small", 2, 3, 4, 4, 70, 7, 2},
    {"one channel, one filter", 2, 1, 5, 5, 1, 3, 1},
    {"one channel, 1x1", 2, 1, 5, 5, 1, 1, 1},
    {"3x3 of many pictures", 37, 16, 8, 8, 16, 3, 1},
    {"1x1 in sixteen parts", 33, 3, 32, 32, 5, 1, 1},
    {"3x3 stride 2, sixteen parts", 228, 3, 23, 23, 5, 3, 2},
    {"7x7 stride 2, two parts", 17, 3, 33, 30, 16, 7, 2},
};

static const struct use uses[] = {
    {.name = "plain"},
    {.name = "measured", .sink = NN_SINK_MEASURE, .x = NN_SOURCE_SCALED},
    {.name = "joined, stored", .sink = NN_SINK_MEASURE, .x = NN_SOURCE_JOINED, .store = true},
    {.name = "joined twice, stored in place",
     .sink = NN_SINK_MEASURE,
     .x = NN_SOURCE_JOINED,
     .both = true,
     .store = true,
     .in_place = true},
    {.name = "finished", .sink = NN_SINK_FINISH, .scale = true, .residual = true, .relu = true},
    {.name = "finished without more", .sink = NN_SINK_FINISH, .x = NN_SOURCE_SCALED},
    {.name = "added", .direction = NN_BACKWARD_DATA, .add = true},
    {.name = "overwritten", .direction = NN_BACKWARD_DATA},
    {.name = "masked by output",
     .direction = NN_BACKWARD_DATA,
     .dy = NN_SOURCE_GRADIENT,
     .sink = NN_SINK_MASK,
     .by_output = true,
     .norms = 2},
    {.name = "masked by input, added, stored",
     .direction = NN_BACKWARD_DATA,
     .dy = NN_SOURCE_GRADIENT,
     .store = true,
     .sink = NN_SINK_MASK,
     .add = true,
     .norms = 1},
    {.name = "masked by a join, stored in place",
     .direction = NN_BACKWARD_DATA,
     .dy = NN_SOURCE_GRADIENT,
     .store = true,
     .in_place = true,
     .sink = NN_SINK_MASK,
     .by_join = true,
     .norms = 1},
    {.name = "plain", .direction = NN_BACKWARD_WEIGHTS},
    {.name = "scaled and gradient, stored in place",
     .direction = NN_BACKWARD_WEIGHTS,
     .x = NN_SOURCE_SCALED,
     .dy = NN_SOURCE_GRADIENT,
     .store = true,
     .in_place = true},
    {.name = "joined and gradient, stored",
     .direction = NN_BACKWARD_WEIGHTS,
     .x = NN_SOURCE_JOINED,
     .dy = NN_SOURCE_GRADIENT,
     .store = true},
};

static const char *const directions[] = {"forward", "backward data", "backward weights"};

static bool takes(size_t a, const struct form *form, enum nn_direction direction)
{
    const struct nn_conv conv =
        nn_conv_make(form->c, form->h, form->w, form->k, form->r, form->stride);

    return algorithms[a].algorithm->takes(&conv, direction);
}

/* Call check(algorithm's number, form, use) for all that there are; returns the sum. */
static int for_all(int (*check)(size_t, const struct form *, const struct use *))
{
    int wrong = 0;

    for (size_t f = 0; f < COUNT(forms); f++)
        for (size_t u = 0; u < COUNT(uses); u++)
            for (size_t a = 0; a < COUNT(algorithms); a++)
                if (takes(a, &forms[f], uses[u].direction))
                    wrong += check(a, &forms[f], &uses[u]);
    return wrong;
}

static double error_of(const float *x, const double *exact, size_t count)
{
    double error = 0, squares = 0;

    for (size_t i = 0; i < count; i++) {
        const double difference = fabs(x[i] - exact[i]);

        squares += exact[i] * exact[i];
        error = !(difference <= error) ? difference : error; /* a NaN sticks */
    }
    return error == 0 ? 0 : error / sqrt(squares / (double)count);
}

static double worst[COUNT(forms)][COUNT(algorithms)][3];

static int is_exact(size_t a, const struct form *form, const struct use *use)
{
    double *seen = &worst[form - forms][a][use->direction];
    const double tolerance = algorithms[a].tolerance;
    struct bed bed;
    double *exact, error;
    char what[128];
    int wrong;

    snprintf(what, sizeof(what), "%s, %s, %s, %s", algorithms[a].algorithm->name, form->name,
             directions[use->direction], use->name);
    bed_open(&bed, form, use, algorithms[a].algorithm);
    exact = bed_exact(&bed, use);
    bed_run(&bed, use, algorithms[a].algorithm, 2);
    error = error_of(bed.result, exact, bed.result_count);
    *seen = !(error <= *seen) ? error : *seen;
    if (!(error <= tolerance))
        fprintf(stderr, "%s: off by %.3g\n", what, error);
    wrong = !(error <= tolerance) + bed_sums_differ(&bed, use, what);
    if (use->store) {
        const bool forward = use->direction == NN_FORWARD;

        if (memcmp(bed.stored, bed.read, (forward ? bed.x_count : bed.y_count) * sizeof(float))) {
            fprintf(stderr, "%s: stored something else than it read\n", what);
            wrong++;
        }
    }
    free(exact);
    bed_close(&bed);
    return wrong;
}

/* One line for each form; a direction that an algorithm does not take is a dash. */
static void print_worst(void)
{
    printf("max|error| / rms(exact), in 1e-6: %-14s", "");
    for (size_t a = 0; a < COUNT(algorithms); a++)
        printf(" | %-20s", algorithms[a].algorithm->name);
    printf("\n%-48s", "");
    for (size_t a = 0; a < COUNT(algorithms); a++)
        printf(" | %6s %6s %6s", "fwd", "data", "wts");
    for (size_t f = 0; f < COUNT(forms); f++) {
        printf("\n%-31s %2d %4d %2dx%-2d %3d", forms[f].name, forms[f].n, forms[f].c, forms[f].h,
               forms[f].w, forms[f].k);
        for (size_t a = 0; a < COUNT(algorithms); a++) {
            printf(" |");
            for (int d = NN_FORWARD; d <= NN_BACKWARD_WEIGHTS; d++)
                if (takes(a, &forms[f], (enum nn_direction)d))
                    printf(" %6.2f", 1e6 * worst[f][a][d]);
                else
                    printf(" %6s", "-");
        }
    }
    printf("\n");
}

static void conv_equals_plain_loops_in_double(void **state)
{
    const int wrong = for_all(is_exact);

    (void)state;
    print_worst();
    assert_int_equal(wrong, 0);
}

static int is_same_for_threads(size_t a, const struct form *form, const struct use *use)
{
    int wrong = 0;
    struct bed one, many;

    bed_open(&one, form, use, algorithms[a].algorithm);
    bed_run(&one, use, algorithms[a].algorithm, 1);
    for (int threads = 2; threads <= 3; threads++) {
        const size_t sums = one.blocks * NN_BLOCK_SUMS * one.sink.c;

        bed_open(&many, form, use, algorithms[a].algorithm);
        bed_run(&many, use, algorithms[a].algorithm, threads);
        wrong += memcmp(one.result, many.result, one.result_count * sizeof(float)) != 0;
        if (one.blocks > 0) {
            wrong += memcmp(one.sink.sums, many.sink.sums, sums * sizeof(float)) != 0;
            wrong += memcmp(one.sink.block_rows, many.sink.block_rows,
                            one.blocks * sizeof(uint32_t)) != 0;
        }
        if (wrong > 0)
            fprintf(stderr, "%s, %s, %s, %s: other bits with %d threads\n",
                    algorithms[a].algorithm->name, form->name, directions[use->direction],
                    use->name, threads);
        bed_close(&many);
    }
    bed_close(&one);
    return wrong;
}

static void conv_has_the_same_bits_for_any_number_of_threads(void **state)
{
    (void)state;
    assert_int_equal(for_all(is_same_for_threads), 0);
}

/* Each image of a batch against the same image as a batch of its own. */
static int is_same_alone(size_t a, const struct form *form, const struct use *use)
{
    const struct form single = {form->name, 1,       form->c, form->h,
                                form->w,    form->k, form->r, form->stride};
    int wrong = 0;
    struct bed all;

    if (use->direction != NN_FORWARD || use->x != NN_SOURCE_PLAIN)
        return 0;
    bed_open(&all, form, use, algorithms[a].algorithm);
    bed_run(&all, use, algorithms[a].algorithm, 2);
    for (size_t i = 0; i < (size_t)all.n; i++) {
        struct bed alone;

        bed_open(&alone, &single, use, algorithms[a].algorithm);
        alone.x.x = all.x.x + i * alone.x_count;
        alone.sink.bias = all.sink.bias;
        if (use->residual)
            alone.sink.residual = all.sink.residual + i * alone.y_count;
        bed_run(&alone, use, algorithms[a].algorithm, 1);
        wrong += memcmp(alone.result, all.result + i * alone.y_count,
                        alone.y_count * sizeof(float)) != 0;
        bed_close(&alone);
    }
    if (wrong > 0)
        fprintf(stderr, "%s, %s, %s: %d images are different alone\n",
                algorithms[a].algorithm->name, form->name, use->name, wrong);
    bed_close(&all);
    return wrong;
}

static void conv_forward_gives_an_image_the_same_bits_alone(void **state)
{
    (void)state;
    assert_int_equal(for_all(is_same_alone), 0);
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
        cmocka_unit_test(conv_equals_plain_loops_in_double),
        cmocka_unit_test(conv_has_the_same_bits_for_any_number_of_threads),
        cmocka_unit_test(conv_forward_gives_an_image_the_same_bits_alone),
    };
    const int status = check_environment();

    return status != 0 ? status : cmocka_run_group_tests(tests, NULL, NULL);
}
