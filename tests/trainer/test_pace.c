#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trainer/pace.h"

static void silence_is_borne_for_a_minute_at_least(void **state)
{
    struct train_pace pace = {0};

    (void)state;
    assert_true(train_pace_median(&pace) == 0);
    assert_true(train_pace_deadline(&pace, 0) == 60);
    train_pace_add(&pace, 5.9);
    assert_true(train_pace_deadline(&pace, 0) == 60);
    train_pace_add(&pace, 7);
    assert_true(train_pace_deadline(&pace, 0) == 70);
}

static void what_was_asked_for_goes_first(void **state)
{
    struct train_pace pace = {0};

    (void)state;
    train_pace_add(&pace, 100);
    assert_true(train_pace_deadline(&pace, 3.5) == 3.5);
}

static void one_slow_micro_batch_changes_nothing(void **state)
{
    struct train_pace pace = {0};

    (void)state;
    for (int i = 0; i < 20; i++)
        train_pace_add(&pace, i == 7 ? 1e6 : 8);
    assert_true(train_pace_median(&pace) == 8);
    assert_true(train_pace_deadline(&pace, 0) == 80);
}

static void old_micro_batches_are_forgotten(void **state)
{
    struct train_pace pace = {0};

    (void)state;
    for (int i = 0; i < 1000; i++)
        train_pace_add(&pace, 100);
    for (int i = 0; i < TRAIN_PACE_KEPT / 2 + 1; i++)
        train_pace_add(&pace, 20);
    assert_true(train_pace_median(&pace) == 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(silence_is_borne_for_a_minute_at_least),
        cmocka_unit_test(what_was_asked_for_goes_first),
        cmocka_unit_test(one_slow_micro_batch_changes_nothing),
        cmocka_unit_test(old_micro_batches_are_forgotten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
