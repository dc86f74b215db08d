#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trainer/straggler.h"

static void the_slowest_is_compared_with_the_mean_of_the_others(void **state)
{
    const double busy_s[] = {1, 2, 5, 3};
    const struct train_straggler s = train_straggler_of(busy_s, 4);

    (void)state;
    assert_int_equal(s.rank, 2);
    assert_true(s.busy_s == 5);
    assert_true(s.over_s == 3);
}

static void of_equals_the_first_is_named_and_costs_nothing(void **state)
{
    const double busy_s[] = {2, 2, 2};
    const struct train_straggler s = train_straggler_of(busy_s, 3);

    (void)state;
    assert_int_equal(s.rank, 0);
    assert_true(s.over_s == 0);
}

static void nobody_waits_for_a_lone_rank(void **state)
{
    const double busy_s[] = {7};
    const struct train_straggler s = train_straggler_of(busy_s, 1);

    (void)state;
    assert_int_equal(s.rank, 0);
    assert_true(s.busy_s == 7 && s.over_s == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_slowest_is_compared_with_the_mean_of_the_others),
        cmocka_unit_test(of_equals_the_first_is_named_and_costs_nothing),
        cmocka_unit_test(nobody_waits_for_a_lone_rank),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
