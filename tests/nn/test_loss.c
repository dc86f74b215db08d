/* tests/nn/test_loss.c -- softmax cross entropy, label smoothing, and what is counted. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/nn/numbers.h"
#include "trainer/nn/loss.h"
#include "trainer/nn/model.h"

#define N 3
#define K 7

struct bed {
    struct nn_loss loss;
    float z[N * K], dz[N * K];
    int32_t labels[N];
};

static void bed_init(struct bed *bed, float smoothing)
{
    *bed = (struct bed){
        .loss = {.classes = K, .scale = 0.25f, .label_smoothing = smoothing},
        .labels = {0, 6, 3},
    };
    numbers_fill(1, bed->z, N * K);
}

/* In double and from the definition: the score itself is rounded to NN_LOSS_UNIT. */
static double objective(void *context)
{
    struct bed *bed = context;
    double sum = 0;

    for (int i = 0; i < N; i++) {
        double partition = 0;

        for (int j = 0; j < K; j++)
            partition += exp(bed->z[i * K + j]);
        for (int j = 0; j < K; j++) {
            const double smoothing = bed->loss.label_smoothing;
            const double target = smoothing / K + (j == bed->labels[i] ? 1 - smoothing : 0);

            sum -= target * log(exp(bed->z[i * K + j]) / partition);
        }
    }
    return sum * bed->loss.scale;
}

static void loss_and_gradient_equal_the_definition_with_and_without_smoothing(void **state)
{
    static const float smoothings[] = {0, 0.1f, 0.9f};

    (void)state;
    for (size_t s = 0; s < sizeof(smoothings) / sizeof(*smoothings); s++) {
        struct nn_score score = {0};
        struct bed bed;

        bed_init(&bed, smoothings[s]);
        nn_loss_score(&bed.loss, N, bed.z, bed.labels, bed.dz, &score);
        assert_true(fabs((double)score.loss / NN_LOSS_UNIT * bed.loss.scale - objective(&bed)) <
                    1e-6);
        assert_int_equal(
            numbers_gradient_differs("loss", objective, &bed, bed.z, bed.dz, N * K, 1e-3f, 1e-4),
            0);
    }
}

#define TABLE_N 6
#define TABLE_K 5

struct line {
    double smoothing, weights[TABLE_K], loss, dz[TABLE_N * TABLE_K];
};

static int read_line(FILE *file, struct line *line)
{
    if (fscanf(file, "%lf", &line->smoothing) != 1)
        return 0;
    for (int i = 0; i < TABLE_K; i++)
        assert_int_equal(fscanf(file, "%lf", &line->weights[i]), 1);
    assert_int_equal(fscanf(file, "%lf", &line->loss), 1);
    for (int i = 0; i < TABLE_N * TABLE_K; i++)
        assert_int_equal(fscanf(file, "%lf", &line->dz[i]), 1);
    return 1;
}

/* The hash of make_loss.py. */
static float logit(uint32_t i)
{
    uint32_t h = (i ^ (i >> 16)) * 0x85EBCA6Bu;

    h = (h ^ (h >> 13)) * 0xC2B2AE35u;
    return 4 * ((float)((h ^ (h >> 16)) >> 8) * 0x1p-23f - 1);
}

static void check_line(const struct line *line)
{
    static const int32_t labels[TABLE_N] = {0, 4, 2, 2, 1, 4};
    float z[TABLE_N * TABLE_K], dz[TABLE_N * TABLE_K];
    struct nn_loss loss = {.classes = TABLE_K,
                           .label_smoothing = (float)line->smoothing,
                           .class_weights = line->weights};
    struct nn_score score = {0};
    double sum = 0;

    for (uint32_t i = 0; i < TABLE_N * TABLE_K; i++)
        z[i] = logit(i);
    for (int i = 0; i < TABLE_N; i++)
        sum += line->weights[labels[i]];
    loss.scale = 1 / (float)sum;
    nn_loss_score(&loss, TABLE_N, z, labels, dz, &score);
    if (!(fabs((double)score.loss / NN_LOSS_UNIT / sum - line->loss) <= 1e-6 * (1 + line->loss)))
        fail_msg("smoothing %g, weight %g: loss %.9g, PyTorch has %.9g", line->smoothing,
                 line->weights[0], (double)score.loss / NN_LOSS_UNIT / sum, line->loss);
    for (int i = 0; i < TABLE_N * TABLE_K; i++)
        if (!(fabs(dz[i] - line->dz[i]) <= 1e-6))
            fail_msg("smoothing %g, weight %g: gradient %d is %.9g, PyTorch has %.9g",
                     line->smoothing, line->weights[0], i, (double)dz[i], line->dz[i]);
}

static void loss_with_class_weights_and_smoothing_equals_pytorchs(void **state)
{
    FILE *const file = fopen("loss.table", "r");
    struct line line;
    int lines = 0;

    (void)state;
    assert_non_null(file);
    for (; read_line(file, &line); lines++)
        check_line(&line);
    fclose(file);
    assert_int_equal(lines, 9);
}

/* Not just the same numbers: a run without weights keeps its bits. */
static void weights_of_one_change_no_bit(void **state)
{
    static const double ones[K] = {1, 1, 1, 1, 1, 1, 1};
    struct nn_score plain = {0}, weighed = {0};
    struct bed a, b;

    (void)state;
    bed_init(&a, 0);
    bed_init(&b, 0);
    b.loss.class_weights = ones;
    nn_loss_score(&a.loss, N, a.z, a.labels, a.dz, &plain);
    nn_loss_score(&b.loss, N, b.z, b.labels, b.dz, &weighed);
    assert_memory_equal(a.dz, b.dz, sizeof a.dz);
    assert_int_equal(plain.loss, weighed.loss);
}

static void loss_is_finite_for_huge_logits_and_capped(void **state)
{
    static const float z[] = {1e30f, -1e30f, 0};
    const struct nn_loss loss = {.classes = 3};
    struct nn_score score = {0};

    (void)state;
    nn_loss_score(&loss, 1, z, &(int32_t){0}, NULL, &score);
    assert_int_equal(score.loss, 0);
    nn_loss_score(&loss, 1, z, &(int32_t){1}, NULL, &score);
    assert_int_equal(score.loss, (int64_t)(NN_LOSS_MAX * NN_LOSS_UNIT));
    assert_int_equal(score.nonfinite, 0);
}

static void loss_counts_images_that_are_not_finite(void **state)
{
    static const float z[] = {0, NAN, 0, 1, INFINITY, 0, 0, 1, 0};
    static const int32_t labels[] = {0, 0, 1};
    const struct nn_loss loss = {.classes = 3};
    struct nn_score score = {0};

    (void)state;
    nn_loss_score(&loss, 3, z, labels, NULL, &score);
    assert_int_equal(score.images, 3);
    assert_int_equal(score.nonfinite, 2);
    assert_int_equal(score.correct, 1);
}

static void score_counts_the_first_of_equal_logits_and_the_best_five(void **state)
{
    static const float z[] = {1, 2, 2, 0, 3, -1, -2};
    static const struct {
        int32_t label;
        int correct, correct5;
    } cases[] = {{4, 1, 1}, {1, 0, 1}, {2, 0, 1}, {3, 0, 1}, {5, 0, 0}, {6, 0, 0}};
    static const float equal[] = {1, 1, 1, 1, 1, 1, 1};
    const struct nn_loss loss = {.classes = K};
    struct nn_score score = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        score = (struct nn_score){0};
        nn_loss_score(&loss, 1, z, &cases[i].label, NULL, &score);
        assert_int_equal(score.correct, cases[i].correct);
        assert_int_equal(score.correct5, cases[i].correct5);
    }
    for (int32_t label = 0; label < K; label++) {
        score = (struct nn_score){0};
        nn_loss_score(&loss, 1, equal, &label, NULL, &score);
        assert_int_equal(score.correct, label == 0);
        assert_int_equal(score.correct5, label < 5);
    }
}

static void score_add_adds_every_field(void **state)
{
    struct nn_score a = {1, 2, 3, 4, 5};
    const struct nn_score b = {10, 20, 30, 40, 50};

    (void)state;
    nn_score_add(&a, &b);
    assert_int_equal(a.images, 11);
    assert_int_equal(a.correct, 22);
    assert_int_equal(a.correct5, 33);
    assert_int_equal(a.loss, 44);
    assert_int_equal(a.nonfinite, 55);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_and_gradient_equal_the_definition_with_and_without_smoothing),
        cmocka_unit_test(loss_with_class_weights_and_smoothing_equals_pytorchs),
        cmocka_unit_test(weights_of_one_change_no_bit),
        cmocka_unit_test(loss_is_finite_for_huge_logits_and_capped),
        cmocka_unit_test(loss_counts_images_that_are_not_finite),
        cmocka_unit_test(score_counts_the_first_of_equal_logits_and_the_best_five),
        cmocka_unit_test(score_add_adds_every_field),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
