/* tests/launcher/test_parallel.c */
#include "launcher/s3/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

#define COUNT   1000
#define THREADS 8

struct work {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int done[COUNT], begun, now, most;
    size_t fails_at; /* COUNT: none; the things behind it last until they are cancelled */
    size_t together; /* so many must be under way at once before any ends */
    volatile sig_atomic_t cancel;
};

static void init(struct work *work)
{
    *work = (struct work){
        .mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .fails_at = COUNT};
}

static int do_one(void *context, size_t index, struct err *err)
{
    struct work *const work = context;

    pthread_mutex_lock(&work->mutex);
    work->done[index]++;
    work->begun++;
    work->now++;
    work->most = work->now > work->most ? work->now : work->most;
    pthread_cond_broadcast(&work->changed);
    while ((size_t)work->begun < work->together)
        pthread_cond_wait(&work->changed, &work->mutex);
    work->now--;
    pthread_mutex_unlock(&work->mutex);
    while (index > work->fails_at && !work->cancel) /* hangs where a failure does not cancel */
        sched_yield();
    return index == work->fails_at ? err_set(err, ERR_INPUT, "thing %d", (int)index) : 0;
}

static int run(struct work *work, size_t count, int threads, struct err *err)
{
    return launch_s3_parallel_run(&(struct launch_parallel){.count = count,
                                                            .threads = threads,
                                                            .work = do_one,
                                                            .context = work,
                                                            .cancel = &work->cancel},
                                  err);
}

static void every_thing_is_done_once_for_any_count_and_threads(void **state)
{
    static const size_t counts[] = {0, 1, 2, 7, 8, 9, COUNT};

    (void)state;
    for (int threads = 1; threads <= THREADS; threads++)
        for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
            struct work work;
            struct err err = {0};

            init(&work);
            assert_int_equal(run(&work, counts[i], threads, &err), 0);
            for (size_t k = 0; k < COUNT; k++)
                assert_int_equal(work.done[k], k < counts[i]);
            assert_true(work.most <= threads);
        }
}

static void things_go_side_by_side(void **state)
{
    struct work work;
    struct err err = {0};

    (void)state;
    init(&work);
    work.together = THREADS; /* hangs where fewer are under way at a time */
    assert_int_equal(run(&work, COUNT, THREADS, &err), 0);
    assert_int_equal(work.most, THREADS);
}

static void first_failure_is_told_and_ends_the_rest(void **state)
{
    struct work work;
    struct err err = {0};

    (void)state;
    init(&work);
    work.fails_at = 20;
    assert_int_equal(run(&work, COUNT, THREADS, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_string_equal(err.msg, "thing 20");
    assert_int_equal(work.cancel, 1);
    assert_true(work.begun < COUNT);
}

static void nothing_is_begun_after_a_cancel(void **state)
{
    struct work work;
    struct err err = {0};

    (void)state;
    init(&work);
    work.cancel = 1;
    assert_int_equal(run(&work, COUNT, THREADS, &err), -1);
    assert_int_equal(err.code, ERR_STOPPED);
    assert_int_equal(work.begun, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thing_is_done_once_for_any_count_and_threads),
        cmocka_unit_test(things_go_side_by_side),
        cmocka_unit_test(first_failure_is_told_and_ends_the_rest),
        cmocka_unit_test(nothing_is_begun_after_a_cancel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
