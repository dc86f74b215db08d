/* tests/launcher/test_bench_point.c */
#include "launcher/bench_point.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int close_to(double a, double b)
{
    return fabs(a - b) < 1e-12;
}

static void spread_has_the_middle_and_both_ends_of_any_count(void **state)
{
    static const struct {
        double x[5];
        size_t count;
        double median, min, max;
    } cases[] = {
        {{7}, 1, 7, 7, 7},
        {{3, 1}, 2, 2, 1, 3},
        {{9, 1, 2}, 3, 2, 1, 9},
        {{4, 1, 100, 2}, 4, 3, 1, 100},
        {{5, 5, 5, 1, 9}, 5, 5, 1, 9},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double x[5];
        struct launch_bench_spread got;

        for (size_t k = 0; k < cases[i].count; k++)
            x[k] = cases[i].x[k];
        got = launch_bench_spread(x, cases[i].count);
        assert_true(got.median == cases[i].median);
        assert_true(got.min == cases[i].min);
        assert_true(got.max == cases[i].max);
    }
}

static void summarise_compares_within_a_round(void **state)
{
    /* The machine is half as fast in round 2; the ratios stay. */
    struct launch_bench_sample one[] = {
        {100, 2, 0, 0, 0, 0}, {50, 4, 0, 0, 0, 0}, {100, 2, 0, 0, 0, 0}};
    struct launch_bench_sample three[] = {{270, 2, 0.02, 0.2, 0.1, 0.3},
                                          {135, 4, 0.2, 1.2, 0.4, 0.1},
                                          {240, 2, 0.06, 0.1, 0.02, 0.2}};
    struct launch_bench_sample alone[] = {
        {300, 1, 9, 9, 9, 9}, {150, 1, 9, 9, 9, 9}, {320, 1, 9, 9, 9, 9}};
    const struct launch_bench_point base = {.ranks = 2, .samples = {one, one}},
                                    point = {.ranks = 6, .samples = {three, alone}};
    const struct launch_bench_summary s = launch_bench_summarise(&point, &base, 3);

    (void)state;
    assert_true(close_to(s.images_per_s.median, 240));
    assert_true(close_to(s.images_per_s.min, 135));
    assert_true(close_to(s.side_by_side.median, 300));
    assert_true(close_to(s.speedup.median, 2.7));
    assert_true(close_to(s.efficiency.median, 0.9));
    assert_true(close_to(s.efficiency.min, 0.8));
    assert_true(close_to(s.efficiency.max, 0.9));
    assert_true(close_to(s.efficiency_side_by_side.median, 0.9));
    assert_true(close_to(s.efficiency_side_by_side.min, 0.75));
    assert_true(close_to(s.ranks_share.median, 0.03));
    assert_true(close_to(s.ranks_share.max, 0.05));
    assert_true(close_to(s.exchange_share.median, 0.1));
    assert_true(close_to(s.exchange_share.max, 0.3));
    assert_true(close_to(s.input_share.median, 0.05));
    assert_true(close_to(s.input_share.max, 0.1));
    assert_true(close_to(s.imbalance.median, 0.2));
    assert_true(close_to(s.seconds.median, 2));
}

static void limit_is_what_whole_micro_batches_allow(void **state)
{
    static const struct {
        int ranks, base_ranks, global_batch, micro_batch;
        double want;
    } cases[] = {
        {1, 1, 256, 32, 1},
        {2, 1, 256, 32, 1},
        {3, 1, 256, 32, 8.0 / 9},
        {5, 1, 256, 32, 8.0 / 10},
        {8, 1, 256, 32, 1},
        {2, 1, 96, 32, 3.0 / 4},
        {2, 1, 65, 32, 3.0 / 4}, /* 22, 22 and 21 images */
        {6, 3, 256, 32, 8.0 / 12 / (8.0 / 9)},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct launch_bench_point point = {.ranks = cases[i].ranks,
                                           .global_batch = cases[i].global_batch,
                                           .micro_batch = cases[i].micro_batch},
                                  base = point;

        base.ranks = cases[i].base_ranks;
        assert_true(close_to(launch_bench_limit(&point, &base), cases[i].want));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spread_has_the_middle_and_both_ends_of_any_count),
        cmocka_unit_test(summarise_compares_within_a_round),
        cmocka_unit_test(limit_is_what_whole_micro_batches_allow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
