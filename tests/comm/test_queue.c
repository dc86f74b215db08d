/* tests/comm/test_queue.c -- two threads hand each other steps; also run under the thread
 * sanitizer. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "comm/queue.h"

#define BUCKETS       7
#define BUCKET_FLOATS 10
#define FLOATS        (BUCKETS * BUCKET_FLOATS - 3) /* the last bucket is short */
#define STEPS         300

/* A vector that the computing thread fills and the other one doubles, bucket by bucket, the last
 * first: who touches it when is the queue's business alone. */
static float vector[FLOATS];
static int spoken;
static float word; /* what the ranks tell each other */

static int end_of(int bucket)
{
    const int end = (bucket + 1) * BUCKET_FLOATS;

    return end < FLOATS ? end : FLOATS;
}

static void serve_step(struct comm_queue *queue, struct comm_wishes seen)
{
    bool done[BUCKETS] = {0}, heard = false;
    int left = BUCKETS;

    while (left > 0 || !heard) {
        for (int bucket = BUCKETS - 1; bucket >= 0; bucket--) {
            if (done[bucket] || (size_t)end_of(bucket) > seen.ready)
                continue;
            for (int i = bucket * BUCKET_FLOATS; i < end_of(bucket); i++)
                vector[i] *= 2;
            done[bucket] = true;
            left--;
            comm_queue_there(queue, bucket);
        }
        if (seen.answered && !heard) {
            word += 1;
            heard = true;
            comm_queue_heard(queue);
        }
        if (left > 0 || !heard)
            seen = comm_queue_sleep(queue, &seen, 1e-3);
    }
    comm_queue_settled(queue);
}

static void *serve(void *context)
{
    struct comm_queue *const queue = context;
    struct comm_wishes seen = {0};

    while (!seen.closing) {
        const uint64_t done = seen.step;

        seen = comm_queue_sleep(queue, &seen, 1);
        if (seen.step != done)
            serve_step(queue, seen);
    }
    return NULL;
}

static int compute_step(struct comm_queue *queue, int step)
{
    int wrong = 0;

    comm_queue_begin(queue, 1, 0);
    for (int i = 0; i < FLOATS; i++) {
        vector[i] = (float)(step + i);
        if (i % 9 == 0)
            comm_queue_ready(queue, (size_t)i);
    }
    comm_queue_computed(queue);
    comm_queue_ready(queue, FLOATS);
    word = (float)step;
    comm_queue_answer(queue);
    wrong += comm_queue_wait_answers(queue, NULL) != 0 || word != (float)step + 1;
    for (int bucket = BUCKETS - 1; bucket >= 0; bucket--) {
        wrong += comm_queue_wait_sums(queue, bucket, bucket + 1, NULL) != 0;
        for (int i = bucket * BUCKET_FLOATS; i < end_of(bucket); i++)
            wrong += vector[i] != 2 * (float)(step + i);
    }
    return wrong + (comm_queue_wait_settled(queue, NULL) != 0);
}

static void steps_pass_between_two_threads(void **state)
{
    struct comm_queue queue;
    pthread_t thread;
    int wrong = 0;

    (void)state;
    comm_queue_init(&queue, BUCKETS);
    assert_int_equal(pthread_create(&thread, NULL, serve, &queue), 0);
    for (int step = 1; step <= STEPS; step++)
        wrong += compute_step(&queue, step);
    comm_queue_close(&queue);
    pthread_join(thread, NULL);
    assert_true(queue.settled);
    comm_queue_release(&queue);
    assert_int_equal(wrong, 0);
}

/* Speaks whenever it may, and then alone uses what is the computing thread's otherwise. */
static void *speak(void *context)
{
    struct comm_queue *const queue = context;
    struct comm_wishes seen = {0};

    while (!seen.closing) {
        seen = comm_queue_sleep(queue, &seen, 1e-5);
        if (!comm_queue_speak(queue))
            continue;
        word += 1;
        spoken++;
        comm_queue_spoken(queue);
    }
    return NULL;
}

static void one_thread_at_a_time_speaks_between_steps(void **state)
{
    struct comm_queue queue;
    pthread_t thread;
    int turns = 0, said;

    (void)state;
    comm_queue_init(&queue, BUCKETS);
    word = 0;
    assert_int_equal(pthread_create(&thread, NULL, speak, &queue), 0);
    do {
        comm_queue_doing(&queue, COMM_WAITS);
        clock_sleep_s(turns % 3 * 1e-5);
        comm_queue_doing(&queue, COMM_COMPUTES);
        word += 1;
        said = spoken;
    } while (++turns < STEPS || said == 0);
    comm_queue_close(&queue);
    pthread_join(thread, NULL);
    comm_queue_release(&queue);
    assert_true(word == (float)(turns + said));
}

static void *fail_late(void *context)
{
    struct err err = {0};

    clock_sleep_s(0.02);
    err_set(&err, ERR_PEER, "host 'b' is gone");
    comm_queue_fail(context, &err);
    return NULL;
}

static void a_failure_ends_every_wait(void **state)
{
    struct comm_queue queue;
    struct err err = {0};
    pthread_t thread;

    (void)state;
    comm_queue_init(&queue, BUCKETS);
    comm_queue_begin(&queue, 1, 0);
    assert_int_equal(comm_queue_check(&queue, &err), 0);
    assert_int_equal(pthread_create(&thread, NULL, fail_late, &queue), 0);
    assert_int_equal(comm_queue_wait_sums(&queue, 0, BUCKETS, &err), -1);
    assert_int_equal(err.code, ERR_PEER);
    assert_string_equal(err.msg, "host 'b' is gone");
    assert_int_equal(comm_queue_wait_answers(&queue, &err), -1);
    assert_int_equal(comm_queue_wait_settled(&queue, NULL), -1);
    assert_int_equal(comm_queue_check(&queue, NULL), -1);
    pthread_join(thread, NULL);
    comm_queue_release(&queue);
}

static void a_sleep_ends_by_itself_and_not_for_a_micro_batch(void **state)
{
    struct comm_queue queue;
    struct comm_wishes seen = {0};

    (void)state;
    comm_queue_init(&queue, BUCKETS);
    comm_queue_begin(&queue, 3, 7.5);
    seen = comm_queue_sleep(&queue, &seen, 10);
    assert_int_equal(seen.step, 1);
    assert_int_equal(seen.leaves, 3);
    assert_true(seen.deadline_s == 7.5);
    comm_queue_computed(&queue);
    seen = comm_queue_sleep(&queue, &seen, 1e-3);
    assert_int_equal(seen.computed, 1);
    assert_false(queue.settled);
    comm_queue_release(&queue);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_pass_between_two_threads),
        cmocka_unit_test(one_thread_at_a_time_speaks_between_steps),
        cmocka_unit_test(a_failure_ends_every_wait),
        cmocka_unit_test(a_sleep_ends_by_itself_and_not_for_a_micro_batch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
