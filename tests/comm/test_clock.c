/* tests/comm/test_clock.c -- CTest runs it with 1, 2, 3 and 7 ranks. Asserts come last in a case:
 * one rank's assert must not leave the others waiting. */
#include "comm/clock.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "comm/comm.h"

static struct comm comm;

/* Ranks of one host have one clock: what is measured is the error, which half a round bounds. */
static void clocks_of_one_host_are_equal_within_half_a_round(void **state)
{
    struct comm_clock clock = {0};
    struct err err = {0};
    double before, after;
    int rc = 0;

    (void)state;
    for (int i = 0; i < 5; i++) {
        if (comm.rank == i % comm.size)
            clock_sleep_s(0.02); /* who comes late makes others wait, not err */
        before = clock_now_s();
        rc = rc < 0 ? rc : comm_clock_measure(&comm, &clock, &err);
        after = clock_now_s();
    }
    assert_int_equal(rc, 0);
    assert_true(clock.at_s >= before && clock.at_s <= after);
    if (comm.rank == 0) {
        assert_true(clock.offset_s == 0 && clock.round_s == 0);
    } else {
        assert_true(clock.round_s > 0 && clock.round_s < (after - before) / 2);
        assert_true(fabs(clock.offset_s) <= clock.round_s / 2 + 1e-9);
    }
}

#define TICK (1.0 / 8192) /* times that are sums of ticks are exact */

/* Rank 0's clock is 100 s ahead. */
static void clock_takes_the_quickest_round(void **state)
{
    static const struct comm_clock_round rounds[] = {
        {5, 105.75, 6},                    /* slow, and later on the way there */
        {7, 107 + TICK, 7 + 2 * TICK},     /* the quickest, as long there as back */
        {8, 108 + TICK, 8 + 3 * TICK},     /* later on the way back */
        {9, 109 + TICK / 2, 9 + 2 * TICK}, /* as quick as one before */
    };
    const struct comm_clock all = comm_clock_of(rounds, 4), first = comm_clock_of(rounds, 1);

    (void)state;
    assert_true(all.offset_s == 100 && all.at_s == 7 + TICK && all.round_s == 2 * TICK);
    assert_true(first.offset_s == 100.25 && first.at_s == 5.5 && first.round_s == 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(clocks_of_one_host_are_equal_within_half_a_round),
        cmocka_unit_test(clock_takes_the_quickest_round),
    };
    struct err err = {0};
    int failed;

    if (comm_open(&comm, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_close(&comm);
    return failed;
}
