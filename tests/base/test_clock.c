/* tests/base/test_clock.c -- order only; how long a sleep takes is the machine's business. */
#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void clock_now_never_goes_back(void **state)
{
    double last = clock_now_s();

    (void)state;
    for (int i = 0; i < 1000; i++) {
        const double now = clock_now_s();

        assert_true(now >= last);
        last = now;
    }
}

static void clock_wall_counts_from_1970(void **state)
{
    (void)state;
    assert_true(clock_wall_s() > 1.6e9); /* 2020 */
    assert_true(clock_wall_s() < 1e11);
}

static void clock_sleep_takes_at_least_what_was_asked(void **state)
{
    const double begin = clock_now_s();

    (void)state;
    clock_sleep_s(0.02);
    assert_true(clock_now_s() - begin >= 0.0199);
    clock_sleep_s(0);
    clock_sleep_s(-5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clock_now_never_goes_back),
        cmocka_unit_test(clock_wall_counts_from_1970),
        cmocka_unit_test(clock_sleep_takes_at_least_what_was_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
