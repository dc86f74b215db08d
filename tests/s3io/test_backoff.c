/* tests/s3io/test_backoff.c -- waits that grow, by chance, and end when they are to. */
#include "s3io/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

static void backoff_is_a_share_of_a_time_that_doubles_up_to_a_limit(void **state)
{
    static const struct {
        int tries;
        double most_s;
    } cases[] = {{1, 0.1}, {2, 0.2}, {5, 1.6}, {8, 12.8}, {9, 20}, {31, 20}, {1000000, 20}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double least_s = 100, longest_s = 0;

        for (int n = 0; n < 1000; n++) {
            const double wait_s = s3_backoff_s(cases[i].tries, 0.1, 20);

            least_s = wait_s < least_s ? wait_s : least_s;
            longest_s = wait_s > longest_s ? wait_s : longest_s;
        }
        assert_true(least_s >= 0 && least_s < 0.1 * cases[i].most_s);
        assert_true(longest_s > 0.9 * cases[i].most_s && longest_s < cases[i].most_s);
    }
}

static void backoff_wait_ends_when_a_flag_is_set(void **state)
{
    const volatile sig_atomic_t set = 1, clear = 0;
    const double begun_s = clock_now_s();

    (void)state;
    assert_false(s3_backoff_wait(60, &set, NULL));
    assert_false(s3_backoff_wait(60, &clear, &set));
    assert_false(s3_backoff_wait(0, &set, &clear));
    assert_true(clock_now_s() - begun_s < 1);
    assert_true(s3_backoff_wait(0.15, &clear, NULL));
    assert_true(clock_now_s() - begun_s >= 0.15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backoff_is_a_share_of_a_time_that_doubles_up_to_a_limit),
        cmocka_unit_test(backoff_wait_ends_when_a_flag_is_set),
    };

    return cmocka_run_group_tests_name("s3io/backoff", tests, NULL, NULL);
}
