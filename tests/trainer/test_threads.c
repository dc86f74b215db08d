/* tests/trainer/test_threads.c -- what --decode-threads takes, and what auto comes to. */
#include "trainer/threads.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static void auto_takes_the_cores_that_are_left(void **state)
{
    static const int cases[][3] = {
        /* cores, computing, decoding */
        {16, 14, 2}, {16, 15, 1},    {8, 6, 2},  {2, 1, 1}, /* what is left */
        {16, 1, 1},  {16, 4, 4},     {16, 8, 8},            /* no more than compute */
        {16, 16, 8}, {2, 2, 1},      {1, 1, 1},  {3, 3, 2}, /* none is left */
        {1, 8, 4},   {2, 1024, 512},                        /* more than there are */
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(train_decode_threads(0, cases[i][0], cases[i][1]), cases[i][2]);
}

static void a_number_that_was_asked_for_is_taken(void **state)
{
    (void)state;
    assert_int_equal(train_decode_threads(1, 16, 14), 1);
    assert_int_equal(train_decode_threads(3, 2, 2), 3);
}

static void words_and_numbers_are_read(void **state)
{
    int threads = -1;

    (void)state;
    assert_int_equal(train_decode_threads_read("auto", &threads, NULL), 0);
    assert_int_equal(threads, 0);
    assert_int_equal(train_decode_threads_read("3", &threads, NULL), 0);
    assert_int_equal(threads, 3);
    assert_int_equal(train_decode_threads_read("1024.0", &threads, NULL), 0); /* a tuner's */
    assert_int_equal(threads, 1024);
}

static void others_are_refused(void **state)
{
    static const char *const texts[] = {"", "0", "-1", "1025", "1.5", "automatic", "2 threads"};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct err err = {0};
        int threads = 7;

        assert_int_equal(train_decode_threads_read(texts[i], &threads, &err), -1);
        assert_int_equal(err.code, ERR_USAGE);
        assert_non_null(strstr(err.msg, texts[i]));
        assert_int_equal(threads, 7);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_takes_the_cores_that_are_left),
        cmocka_unit_test(a_number_that_was_asked_for_is_taken),
        cmocka_unit_test(words_and_numbers_are_read),
        cmocka_unit_test(others_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
