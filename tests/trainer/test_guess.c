/* tests/trainer/test_guess.c -- the likeliest classes, and how predictions are written. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/buf.h"
#include "trainer/guess.h"
#include "trainer/report/predictions.h"

static void guesses_are_the_largest_logits_and_their_softmax(void **state)
{
    const float z[] = {1, 3, 2, 3, -100};
    const double sum = exp(1) + 2 * exp(3) + exp(2) + exp(-100);
    static const int order[] = {1, 3, 2, 0, 4}; /* of equals the first class */
    struct train_guess guesses[5];

    (void)state;
    for (int count = 1; count <= 5; count++) {
        assert_int_equal(train_guess(z, 5, count, guesses), 0);
        for (int i = 0; i < count; i++) {
            assert_int_equal(guesses[i].label, order[i]);
            assert_true(fabs(guesses[i].probability - exp(z[order[i]]) / sum) < 1e-15);
        }
    }
}

static void large_logits_have_a_softmax_too(void **state)
{
    const float z[] = {3e38f, -3e38f, 3e38f};
    struct train_guess guesses[3];

    (void)state;
    assert_int_equal(train_guess(z, 3, 3, guesses), 0);
    assert_int_equal(guesses[0].label, 0);
    assert_true(guesses[0].probability == 0.5);
    assert_true(guesses[2].probability == 0);
}

static void logits_that_are_no_numbers_have_no_guess(void **state)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    struct train_guess guesses[3];

    (void)state;
    for (int i = 0; i < 3; i++)
        for (int at = 0; at < 3; at++) {
            float z[] = {1, 2, 3};

            z[at] = odd[i];
            assert_int_equal(train_guess(z, 3, 1, guesses), -1);
        }
}

static const struct report_guess two[] = {{.name = "a \"dog\"", .label = 7, .probability = 0.75},
                                          {.name = "b,c", .label = 0, .probability = 1.0 / 3}};
static const struct report_prediction known = {.picture = "x\ny.jpg", .guesses = two, .count = 2},
                                      unknown = {.picture = "z\xff.jpg", .error = "'z' is \"odd\""};

static void assert_written(enum report_format format, const char *want)
{
    struct buf out = {0};

    report_predictions_begin(format, &out);
    report_prediction_add(format, &known, &out);
    report_prediction_add(format, &unknown, &out);
    assert_string_equal(buf_text(&out), want);
    buf_release(&out);
}

static void predictions_are_text(void **state)
{
    (void)state;
    assert_written(REPORT_TEXT, "x?y.jpg: a \"dog\" 0.750000, b,c 0.333333\n"
                                "z\xff.jpg: error: 'z' is \"odd\"\n");
}

static void predictions_are_csv(void **state)
{
    (void)state;
    assert_written(REPORT_CSV, "picture,rank,label,class,probability,error\n"
                               "\"x\ny.jpg\",1,7,\"a \"\"dog\"\"\",0.75,\n"
                               "\"x\ny.jpg\",2,0,\"b,c\",0.333333333,\n"
                               "\"z\xff.jpg\",,,,,\"'z' is \"\"odd\"\"\"\n");
}

static void predictions_are_json_lines(void **state)
{
    (void)state;
    assert_written(REPORT_JSONL,
                   "{\"picture\":\"x\\ny.jpg\",\"guesses\":[{\"class\":\"a \\\"dog\\\"\",\"label\":"
                   "7,\"probability\":0.75},{\"class\":\"b,c\",\"label\":0,\"probability\":0."
                   "333333333}]}\n"
                   "{\"picture\":\"z\xef\xbf\xbd.jpg\",\"error\":\"'z' is \\\"odd\\\"\"}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guesses_are_the_largest_logits_and_their_softmax),
        cmocka_unit_test(large_logits_have_a_softmax_too),
        cmocka_unit_test(logits_that_are_no_numbers_have_no_guess),
        cmocka_unit_test(predictions_are_text),
        cmocka_unit_test(predictions_are_csv),
        cmocka_unit_test(predictions_are_json_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
