/* tests/data/test_shard_queue.c -- shards come in their order from as many threads as there are. */
#include "trainer/data/set/shard_queue.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

#define COUNT 200

/* pthread_create(), as the linker gives it to everybody here: so many more threads may start. */
typedef void *thread_main(void *argument);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, thread_main *begin,
                          void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, thread_main *begin,
                          void *argument);

static int threads_left;

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, thread_main *begin,
                          void *argument)
{
    if (threads_left == 0)
        return EAGAIN;
    threads_left--;
    return __real_pthread_create(thread, attributes, begin, argument);
}

/* A shard with the number as its length; the one at *context cannot be read. */
static int read_shard(void *context, size_t number, struct data_shard *shard, struct err *err)
{
    if (number == *(const size_t *)context)
        return err_set(err, ERR_INPUT, "shard %zu is bad", number);
    shard->tar_bytes = number;
    return 0;
}

static void shards_come_in_order_from_any_number_of_threads(void **state)
{
    static const int limits[] = {1, 3, 1000};
    size_t bad = COUNT;

    (void)state;
    for (size_t l = 0; l < 3; l++) {
        struct data_shard_queue *queue;
        struct err err = {0};

        threads_left = limits[l];
        queue = data_shard_queue_new(COUNT, read_shard, &bad, &err);
        assert_non_null(queue);
        for (size_t i = 0; i < COUNT; i++) {
            struct data_shard shard = {0};

            assert_int_equal(data_shard_queue_next(queue, &shard, &err), 0);
            assert_int_equal(shard.tar_bytes, i);
        }
        data_shard_queue_free(queue);
    }
}

static void shard_that_cannot_be_read_fails_when_its_turn_comes(void **state)
{
    struct data_shard_queue *queue;
    struct data_shard shard = {0};
    struct err err = {0};
    size_t bad = 100;

    (void)state;
    threads_left = 1000;
    queue = data_shard_queue_new(COUNT, read_shard, &bad, &err);
    for (size_t i = 0; i < bad; i++)
        assert_int_equal(data_shard_queue_next(queue, &shard, &err), 0);
    assert_int_equal(data_shard_queue_next(queue, &shard, &err), -1);
    assert_string_equal(err.msg, "shard 100 is bad");
    data_shard_queue_free(queue);
}

static void queue_without_a_single_thread_is_an_error(void **state)
{
    struct err err = {0};
    size_t bad = COUNT;

    (void)state;
    threads_left = 0;
    assert_null(data_shard_queue_new(COUNT, read_shard, &bad, &err));
    assert_int_equal(err.code, ERR_MEMORY);
    assert_non_null(strstr(err.msg, "cannot start a thread"));
    data_shard_queue_free(data_shard_queue_new(0, read_shard, &bad, &err)); /* nothing to do */
    data_shard_queue_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_come_in_order_from_any_number_of_threads),
        cmocka_unit_test(shard_that_cannot_be_read_fails_when_its_turn_comes),
        cmocka_unit_test(queue_without_a_single_thread_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
