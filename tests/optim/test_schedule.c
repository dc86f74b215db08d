/* tests/optim/test_schedule.c -- rates at and around every boundary. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trainer/optim/schedule.h"

struct rate {
    const char *name;
    uint64_t seen;
    uint32_t images;
    double lr;
};

static void check(const struct optim_schedule *schedule, const struct rate *rates, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const double lr = optim_schedule_lr(schedule, rates[i].seen, rates[i].images);

        if (!(fabs(lr - rates[i].lr) <= 1e-12))
            fail_msg("%s: %.17g, not %.17g", rates[i].name, lr, rates[i].lr);
    }
}

static void constant_schedule_keeps_its_rate_after_the_warm_up(void **state)
{
    static const struct optim_schedule schedule = {
        .kind = OPTIM_CONSTANT, .lr = 0.4, .warmup_samples = 1000, .total_samples = 5000};
    static const struct rate rates[] = {
        {"the first step is not lost", 0, 100, 0.04},
        {"the second", 100, 100, 0.08},
        {"one image", 0, 1, 0.0004},
        {"the last but one", 800, 100, 0.36},
        {"the last", 900, 100, 0.4},
        {"over the end", 950, 100, 0.4},
        {"after it", 1000, 100, 0.4},
        {"at the end of the run", 5000, 100, 0.4},
    };

    (void)state;
    check(&schedule, rates, sizeof rates / sizeof rates[0]);
}

static void schedule_without_warm_up_begins_at_the_full_rate(void **state)
{
    static const struct optim_schedule schedule = {
        .kind = OPTIM_COSINE, .lr = 0.1, .total_samples = 400};
    static const struct rate rates[] = {{"the first step", 0, 32, 0.1}, {"half", 200, 32, 0.05}};

    (void)state;
    check(&schedule, rates, sizeof rates / sizeof rates[0]);
}

static void cosine_schedule_falls_to_zero_at_the_end(void **state)
{
    static const struct optim_schedule schedule = {
        .kind = OPTIM_COSINE, .lr = 2, .warmup_samples = 100, .total_samples = 900};
    static const struct rate rates[] = {
        {"in the warm-up", 0, 50, 1},
        {"at its end", 100, 50, 2},
        {"a quarter", 300, 50, 1 + 0.70710678118654752},
        {"half", 500, 50, 1},
        {"three quarters", 700, 50, 1 - 0.70710678118654752},
        {"the end", 900, 50, 0},
        {"behind it", 5000, 50, 0},
    };

    (void)state;
    check(&schedule, rates, sizeof rates / sizeof rates[0]);
}

static void cosine_schedule_never_divides_by_zero_when_all_is_warm_up(void **state)
{
    static const struct optim_schedule schedule = {
        .kind = OPTIM_COSINE, .lr = 1, .warmup_samples = 100, .total_samples = 100};
    static const struct rate rates[] = {{"within", 50, 10, 0.6},
                                        {"the last", 90, 10, 1},
                                        {"the end", 100, 10, 1},
                                        {"behind", 101, 10, 0}};

    (void)state;
    check(&schedule, rates, sizeof rates / sizeof rates[0]);
}

static void step_schedule_multiplies_from_each_boundary_on(void **state)
{
    static const struct optim_schedule schedule = {.kind = OPTIM_STEP,
                                                   .lr = 1,
                                                   .warmup_samples = 10,
                                                   .total_samples = 1000,
                                                   .gamma = 0.5,
                                                   .step_count = 3,
                                                   .step_samples = {100, 200, 200}};
    static const struct rate rates[] = {
        {"in the warm-up", 0, 5, 0.5},       {"before the first", 99, 8, 1},
        {"at the first", 100, 8, 0.5},       {"before the second", 199, 8, 0.5},
        {"two at one place", 200, 8, 0.125}, {"the end", 1000, 8, 0.125},
    };

    (void)state;
    check(&schedule, rates, sizeof rates / sizeof rates[0]);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(constant_schedule_keeps_its_rate_after_the_warm_up),
        cmocka_unit_test(schedule_without_warm_up_begins_at_the_full_rate),
        cmocka_unit_test(cosine_schedule_falls_to_zero_at_the_end),
        cmocka_unit_test(cosine_schedule_never_divides_by_zero_when_all_is_warm_up),
        cmocka_unit_test(step_schedule_multiplies_from_each_boundary_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
