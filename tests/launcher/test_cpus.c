/* tests/launcher/test_cpus.c */
#include "launcher/cpus.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void cpus_quota_reads_what_the_kernel_writes(void **state)
{
    static const struct {
        const char *text;
        double want;
    } cases[] = {
        {"max 100000\n", 0},
        {"150000 100000\n", 1.5},
        {"-1\n 100000\n", 0},
        {"400000\n 100000", 4},
        {"", 0},
        {" ", 0},
        {"100000", 0},
        {"5 0", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_true(launch_cpus_quota(cases[i].text) == cases[i].want);
}

static void cpus_usable_is_one_when_bound_to_one_cpu(void **state)
{
    cpu_set_t before, one;
    size_t cpu = 0;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_in_range(launch_cpus_usable(), 1, CPU_COUNT(&before));
    while (!CPU_ISSET(cpu, &before))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(launch_cpus_usable(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpus_quota_reads_what_the_kernel_writes),
        cmocka_unit_test(cpus_usable_is_one_when_bound_to_one_cpu),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
