/* tests/trainer/test_tally.c -- an evaluation by classes: counts beside the score's, and the
 * tables. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/philox.h"
#include "trainer/nn/loss.h"
#include "trainer/nn/model.h"
#include "trainer/report/tables.h"
#include "trainer/tally.h"

#define N 500
#define K 7

static int64_t sum_of(const int64_t *x, size_t count)
{
    int64_t sum = 0;

    for (size_t i = 0; i < count; i++)
        sum += x[i];
    return sum;
}

/* Small integers, so that logits are often equal; some are no numbers. */
static void draw(float *z, int32_t *labels)
{
    struct philox philox;

    philox_init(&philox, 3, 0, 0, PHILOX_SYNTH);
    for (size_t i = 0; i < N * K; i++)
        z[i] = floorf(4 * philox_uniform(&philox));
    for (size_t i = 0; i < N; i++) {
        labels[i] = (int32_t)(philox_uniform(&philox) * K);
        if (i % 50 == 7)
            z[i * K + i % K] = i % 100 == 7 ? NAN : INFINITY;
        if (i % 50 == 9)
            z[i * K + (size_t)labels[i]] = -INFINITY;
    }
}

static void counts_are_those_of_the_score(void **state)
{
    static float z[N * K];
    static int32_t labels[N];
    const struct nn_loss loss = {.classes = K};
    char *names[K] = {0};
    struct nn_score score = {0};
    struct train_tally tally = {0};
    struct report_tables t;

    (void)state;
    draw(z, labels);
    nn_loss_score(&loss, N, z, labels, NULL, &score);
    train_tally_init(&tally, K);
    train_tally_add(&tally, N - 123, z, labels);
    train_tally_add(&tally, 123, z + (N - 123) * K, labels + N - 123);
    t = train_tally_tables(&tally, names);
    assert_int_equal(score.nonfinite, 20);
    assert_int_equal(sum_of(t.pictures, K), N);
    assert_int_equal(sum_of(t.correct, K), score.correct);
    assert_int_equal(sum_of(t.correct5, K), score.correct5);
    assert_int_equal(sum_of(t.guessed, K), N - score.nonfinite);
    for (size_t a = 0; a < K; a++) {
        int64_t column = 0;

        assert_int_equal(t.confusion[a * K + a], t.correct[a]);
        for (size_t b = 0; b < K; b++)
            column += t.confusion[b * K + a];
        assert_int_equal(column, t.guessed[a]);
        assert_true(sum_of(t.confusion + a * K, K) <= t.pictures[a]);
    }
    train_tally_release(&tally);
}

static void many_classes_have_no_matrix(void **state)
{
    const int classes = TRAIN_TALLY_MATRIX_CLASSES + 1;
    float *const z = calloc((size_t)classes, sizeof(float));
    struct train_tally tally = {0};
    struct report_tables t;

    (void)state;
    assert_non_null(z);
    train_tally_init(&tally, classes);
    z[classes - 1] = 1;
    train_tally_add(&tally, 1, z, &(int32_t){classes - 1});
    t = train_tally_tables(&tally, NULL);
    assert_null(t.confusion);
    assert_int_equal(t.correct[classes - 1], 1);
    assert_int_equal(t.guessed[classes - 1], 1);
    train_tally_release(&tally);
    free(z);
}

static char *const names[4] = {"a, b", "say \"c\"", "d", "none"};
static const int64_t pictures[4] = {10, 20, 4, 0}, correct[4] = {5, 10, 1, 0},
                     correct5[4] = {9, 20, 4, 0}, guessed[4] = {12, 20, 2, 0};
static const int64_t confusion[16] = {5, 5, 0, 0, 6, 10, 4, 0, 0, 3, 1, 0, 0, 0, 0, 0};

static struct report_tables tables_of(const int64_t *matrix)
{
    return (struct report_tables){.classes = 4,
                                  .names = names,
                                  .pictures = pictures,
                                  .correct = correct,
                                  .correct5 = correct5,
                                  .guessed = guessed,
                                  .confusion = matrix};
}

static void assert_file(const char *path, const char *want)
{
    struct buf text = {0};
    struct err err = {0};

    assert_int_equal(file_read(path, 10000, &text, &err), 0);
    assert_string_equal(buf_text(&text), want);
    buf_release(&text);
}

static void files_have_a_header_and_quoted_names(void **state)
{
    char root[] = "/tmp/convoy-tally-XXXXXX", folder[64], path[96];
    const struct report_tables tables = tables_of(confusion), without = tables_of(NULL);
    struct err err = {0};

    (void)state;
    assert_non_null(mkdtemp(root));
    snprintf(folder, sizeof folder, "%s/report/test", root);
    for (int again = 0; again < 2; again++) /* the second replaces the first */
        assert_int_equal(report_tables_write(&tables, folder, &err), 0);
    snprintf(path, sizeof path, "%s/classes.csv", folder);
    assert_file(path, "label,class,pictures,correct,correct5,guessed,accuracy,accuracy5,precision\n"
                      "0,\"a, b\",10,5,9,12,0.500000,0.900000,0.416667\n"
                      "1,\"say \"\"c\"\"\",20,10,20,20,0.500000,1.000000,0.500000\n"
                      "2,\"d\",4,1,4,2,0.250000,1.000000,0.500000\n"
                      "3,\"none\",0,0,0,0,,,\n");
    unlink(path);
    snprintf(path, sizeof path, "%s/confusion.csv", folder);
    assert_file(path, "class,\"a, b\",\"say \"\"c\"\"\",\"d\",\"none\"\n"
                      "\"a, b\",5,5,0,0\n"
                      "\"say \"\"c\"\"\",6,10,4,0\n"
                      "\"d\",0,3,1,0\n"
                      "\"none\",0,0,0,0\n");
    for (int again = 0; again < 2; again++) /* of too many classes: none, and none is left */
        assert_int_equal(report_tables_write(&without, folder, &err), 0);
    assert_int_equal(unlink(path), -1);
    snprintf(path, sizeof path, "%s/classes.csv", folder);
    unlink(path);
    rmdir(folder);
    snprintf(path, sizeof path, "%s/report", root);
    rmdir(path);
    assert_int_equal(rmdir(root), 0); /* nothing else was left */
}

static void folder_that_cannot_be_made_is_named(void **state)
{
    const struct report_tables tables = tables_of(NULL);
    struct err err = {0};

    (void)state;
    assert_int_equal(report_tables_write(&tables, "/dev/null/report", &err), -1);
    assert_non_null(strstr(err.msg, "/dev/null"));
}

static void worst_come_first_and_those_without_pictures_never(void **state)
{
    struct report_tables tables = tables_of(confusion);
    struct buf text = {0};

    (void)state;
    report_tables_worst(&tables, 5, &text);
    assert_string_equal(buf_text(&text), " 25.0 % of 4 'd', 3 taken for 'say \"c\"'\n"
                                         " 50.0 % of 20 'say \"c\"', 6 taken for 'a, b'\n"
                                         " 50.0 % of 10 'a, b', 5 taken for 'say \"c\"'\n");
    buf_release(&text);
    tables.confusion = NULL;
    report_tables_worst(&tables, 1, &text);
    assert_string_equal(buf_text(&text), " 25.0 % of 4 'd'\n");
    buf_release(&text);
    tables.correct = pictures; /* all is known */
    report_tables_worst(&tables, 5, &text);
    assert_string_equal(buf_text(&text), "");
    buf_release(&text);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_those_of_the_score),
        cmocka_unit_test(many_classes_have_no_matrix),
        cmocka_unit_test(files_have_a_header_and_quoted_names),
        cmocka_unit_test(folder_that_cannot_be_made_is_named),
        cmocka_unit_test(worst_come_first_and_those_without_pictures_never),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
