/* tests/nn/test_plan.c -- buffers that share memory never do so at the same time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "trainer/nn/plan.h"

#define BUFFERS 200

static bool overlap(const struct nn_plan_buffer *a, const struct nn_plan_buffer *b)
{
    return a->first <= b->last && b->first <= a->last && a->offset < b->offset + b->floats &&
           b->offset < a->offset + a->floats;
}

static void plan_keeps_buffers_apart_that_live_at_the_same_time(void **state)
{
    struct nn_plan_buffer buffers[BUFFERS];
    size_t floats, all = 0;
    uint32_t random = 1;

    (void)state;
    for (int i = 0; i < BUFFERS; i++) {
        random = random * 1664525u + 1013904223u;
        buffers[i] = (struct nn_plan_buffer){
            .floats = 1 + (random >> 8) % 1000,
            .first = (int)(random >> 20) % 50,
        };
        buffers[i].last = buffers[i].first + (int)(random >> 28);
        all += buffers[i].floats;
    }
    floats = nn_plan_place(buffers, BUFFERS);
    assert_true(floats < all / 2);
    for (int i = 0; i < BUFFERS; i++) {
        assert_true(buffers[i].offset + buffers[i].floats <= floats);
        for (int j = 0; j < i; j++)
            assert_false(overlap(&buffers[i], &buffers[j]));
    }
}

static void plan_reuses_memory_and_skips_what_is_never_needed(void **state)
{
    struct nn_plan_buffer buffers[] = {
        {.floats = 64, .first = 0, .last = 1},
        {.floats = 64, .first = 2, .last = 3},
        {.floats = 1000, .first = 9, .last = -1},
    };

    (void)state;
    assert_int_equal(nn_plan_place(buffers, 3), 64);
    assert_int_equal(buffers[1].offset, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plan_keeps_buffers_apart_that_live_at_the_same_time),
        cmocka_unit_test(plan_reuses_memory_and_skips_what_is_never_needed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
