/* tests/nn/test_share.c -- every turn once: first a run of one's own, then others' ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>

#include "trainer/nn/kernel/share.h"

#define TURNS   10007
#define THREADS 4
#define ROUNDS  50

static void share_gives_a_thread_its_own_turns_first_and_then_the_rest_of_the_others(void **state)
{
    static const size_t want[] = {3, 4, 5, 2, 8, 1, 7, 0, 6};
    struct nn_share share;
    size_t turn;

    (void)state;
    nn_share_out(&share, 9, 3); /* 0 to 2, 3 to 5, 6 to 8 */
    for (size_t i = 0; i < 9; i++) {
        assert_true(nn_share_next(&share, 1, &turn));
        assert_int_equal(turn, want[i]);
    }
    for (size_t i = 0; i < 3; i++)
        assert_false(nn_share_next(&share, i, &turn));
}

static void share_of_no_turns_is_through_at_once(void **state)
{
    struct nn_share share;
    size_t turn;

    (void)state;
    nn_share_out(&share, 0, 2);
    assert_false(nn_share_next(&share, 0, &turn));
    assert_false(nn_share_next(&share, 1, &turn));
}

static void share_takes_more_threads_than_it_has_runs(void **state)
{
    struct nn_share share;
    size_t turn, count = 0;

    (void)state;
    nn_share_out(&share, 1000, 5 * NN_SHARE_RUNS);
    for (size_t i = 0; nn_share_next(&share, i * 7 % (5 * NN_SHARE_RUNS), &turn); i++)
        count++;
    assert_int_equal(count, 1000);
}

static struct nn_share common;
static atomic_int taken[TURNS];

static void *take_all(void *thread)
{
    size_t turn;

    while (nn_share_next(&common, (size_t)(uintptr_t)thread, &turn))
        atomic_fetch_add(&taken[turn], 1);
    return NULL;
}

static void share_hands_each_turn_out_once_to_threads_that_take_at_the_same_time(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t thread[THREADS];

        memset(taken, 0, sizeof(taken));
        nn_share_out(&common, TURNS, THREADS);
        for (uintptr_t i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&thread[i], NULL, take_all, (void *)i), 0);
        for (size_t i = 0; i < THREADS; i++)
            pthread_join(thread[i], NULL);
        for (size_t i = 0; i < TURNS; i++)
            assert_int_equal(taken[i], 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(share_gives_a_thread_its_own_turns_first_and_then_the_rest_of_the_others),
        cmocka_unit_test(share_of_no_turns_is_through_at_once),
        cmocka_unit_test(share_takes_more_threads_than_it_has_runs),
        cmocka_unit_test(share_hands_each_turn_out_once_to_threads_that_take_at_the_same_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
