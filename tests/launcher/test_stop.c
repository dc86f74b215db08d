/* tests/launcher/test_stop.c */
#include "launcher/stop.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void stop_is_held_until_the_ranks_are_ready(void **state)
{
    struct launch_stop stop = {.ready_s = 10};

    (void)state;
    assert_int_equal(launch_stop_next(&stop, true, 0), LAUNCH_STOP_NOTHING);
    launch_stop_take(&stop, SIGTERM, NULL, 100);
    assert_int_equal(launch_stop_next(&stop, false, 100), LAUNCH_STOP_NOTHING);
    assert_int_equal(launch_stop_next(&stop, false, 109), LAUNCH_STOP_NOTHING);
    assert_int_equal(launch_stop_next(&stop, true, 109), LAUNCH_STOP_ASK);
    assert_int_equal(launch_stop_next(&stop, true, 200), LAUNCH_STOP_NOTHING);
    assert_false(stop.forced);
}

static void stop_ends_ranks_that_never_get_ready(void **state)
{
    struct launch_stop stop = {.ready_s = 10};

    (void)state;
    launch_stop_take(&stop, SIGTERM, NULL, 100);
    assert_int_equal(launch_stop_next(&stop, false, 111), LAUNCH_STOP_END);
    assert_true(stop.forced);
    assert_int_equal(launch_stop_next(&stop, false, 112), LAUNCH_STOP_NOTHING);
}

static void stop_means_now_at_the_second_interrupt_of_one_host(void **state)
{
    struct launch_stop stop = {.ready_s = 10};

    (void)state;
    launch_stop_take(&stop, SIGINT, NULL, 1);
    assert_int_equal(launch_stop_next(&stop, true, 1), LAUNCH_STOP_ASK);
    launch_stop_take(&stop, SIGTERM, NULL, 2); /* asks once more, no more than that */
    assert_int_equal(launch_stop_next(&stop, true, 2), LAUNCH_STOP_ASK);
    launch_stop_take(&stop, SIGINT, "algo-2", 3); /* that host's first */
    assert_int_equal(launch_stop_next(&stop, true, 3), LAUNCH_STOP_ASK);
    launch_stop_take(&stop, SIGINT, NULL, 4);
    assert_int_equal(launch_stop_next(&stop, true, 4), LAUNCH_STOP_END);
    assert_true(stop.interrupted);
    launch_stop_take(&stop, SIGINT, NULL, 5);
    assert_int_equal(launch_stop_next(&stop, true, 5), LAUNCH_STOP_KILL);
}

static void stop_kills_before_the_platform_does(void **state)
{
    struct launch_stop stop = {.ready_s = 10, .limit_s = LAUNCH_STOP_LIMIT_S};

    (void)state;
    launch_stop_take(&stop, SIGTERM, "algo-2", 0);
    assert_int_equal(launch_stop_next(&stop, true, 1), LAUNCH_STOP_ASK);
    assert_int_equal(launch_stop_next(&stop, true, 104), LAUNCH_STOP_NOTHING);
    assert_int_equal(launch_stop_next(&stop, true, 106), LAUNCH_STOP_KILL);
    assert_true(stop.forced);
    assert_int_equal(launch_stop_next(&stop, true, 107), LAUNCH_STOP_NOTHING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stop_is_held_until_the_ranks_are_ready),
        cmocka_unit_test(stop_ends_ranks_that_never_get_ready),
        cmocka_unit_test(stop_means_now_at_the_second_interrupt_of_one_host),
        cmocka_unit_test(stop_kills_before_the_platform_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
