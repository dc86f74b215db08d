/* tests/base/test_trace.c -- what threads record, and what is taken. */
#include "base/trace.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/trace_pack.h"

/* Taken and read; release frees both and forgets all. */
static struct buf packed;
static struct trace_view view;

static void take(void)
{
    struct err err = {0};

    trace_stop();
    assert_int_equal(trace_take(&packed, &err), 0);
    if (trace_view_init(&view, packed.data, packed.bytes, &err) < 0)
        fail_msg("%s", err.msg);
}

static void release(void)
{
    trace_view_release(&view);
    buf_release(&packed);
    trace_release();
}

static void put(int64_t value)
{
    trace_put(&(struct trace_span){.category = "test",
                                   .name = "span",
                                   .begun_s = (double)value,
                                   .ended_s = (double)value + 0.5,
                                   .argument = "value",
                                   .value = value});
}

static void trace_records_nothing_while_it_is_off(void **state)
{
    (void)state;
    trace_thread("nobody");
    assert_true(trace_begin() == 0);
    trace_end("test", "nothing", 0);
    put(1);
    take();
    assert_int_equal(view.thread_count, 0);
    release();
}

static void trace_keeps_what_a_span_says(void **state)
{
    const double before = clock_now_s();
    const struct trace_pack_span *spans;
    double begun, after;

    (void)state;
    trace_start(10);
    trace_thread("main");
    begun = trace_begin();
    trace_end("a", "measured", begun);
    after = clock_now_s();
    trace_put(&(struct trace_span){.category = "b",
                                   .name = "told",
                                   .begun_s = 1,
                                   .ended_s = 2,
                                   .argument = "bytes",
                                   .value = -7,
                                   .async = true,
                                   .id = 9});
    take();
    assert_int_equal(view.thread_count, 1);
    assert_int_equal(view.threads[0]->spans, 2);
    assert_string_equal(view.threads[0]->name, "main");
    spans = view.spans[0];
    assert_string_equal(view.texts[spans[0].category], "a");
    assert_string_equal(view.texts[spans[0].name], "measured");
    assert_string_equal(view.texts[spans[0].argument], "");
    assert_int_equal(spans[0].async, 0);
    assert_true(before <= begun && spans[0].begun_s == begun);
    assert_true(begun <= spans[0].ended_s && spans[0].ended_s <= after);
    assert_string_equal(view.texts[spans[1].argument], "bytes");
    assert_true(spans[1].begun_s == 1 && spans[1].ended_s == 2);
    assert_int_equal(spans[1].value, -7);
    assert_int_equal(spans[1].async, 1);
    assert_int_equal(spans[1].id, 9);
    release();
}

static void trace_loses_the_oldest_when_a_ring_is_full_and_says_how_many(void **state)
{
    static const struct {
        int64_t put, kept;
    } cases[] = {{0, 0}, {1, 1}, {7, 7}, {8, 7}, {14, 7}, {23, 7}};

    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        const int64_t lost = cases[c].put - cases[c].kept;

        trace_start(7);
        trace_thread("main");
        for (int64_t i = 0; i < cases[c].put; i++)
            put(i);
        take();
        assert_int_equal(view.threads[0]->spans, cases[c].kept);
        assert_int_equal(view.threads[0]->lost, lost);
        for (int64_t i = 0; i < cases[c].kept; i++)
            assert_int_equal(view.spans[0][i].value, lost + i);
        release();
    }
}

#define THREADS 4
#define SPANS   20000

static void *record(void *argument)
{
    const int number = *(const int *)argument;
    char name[32];

    snprintf(name, sizeof name, "worker %d", number);
    trace_thread(name);
    for (int64_t i = 0; i < SPANS; i++) {
        const double begun = trace_begin();

        trace_end("work", trace_intern(i % 2 == 0 ? "even" : "odd"), begun);
        put(number * SPANS + i);
    }
    return NULL;
}

static void trace_keeps_the_spans_of_several_threads_apart(void **state)
{
    int numbers[THREADS];
    pthread_t threads[THREADS];

    (void)state;
    trace_start(2 * SPANS);
    for (int t = 0; t < THREADS; t++) {
        numbers[t] = t;
        assert_int_equal(pthread_create(&threads[t], NULL, record, &numbers[t]), 0);
    }
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    take();
    assert_int_equal(view.thread_count, THREADS);
    assert_int_equal(view.span_count, THREADS * 2 * SPANS);
    for (int t = 0; t < THREADS; t++) {
        int number = -1;

        assert_int_equal(sscanf(view.threads[t]->name, "worker %d", &number), 1);
        assert_int_equal(view.threads[t]->lost, 0);
        for (int i = 0; i < SPANS; i++) {
            const struct trace_pack_span *const pair = view.spans[t] + 2 * (size_t)i;

            assert_string_equal(view.texts[pair[0].name], i % 2 == 0 ? "even" : "odd");
            assert_int_equal(pair[1].value, number * SPANS + i);
        }
    }
    release();
}

static void *record_once(void *barrier)
{
    trace_thread("reader");
    put(1);
    if (barrier != NULL)
        pthread_barrier_wait(barrier);
    return NULL;
}

static void trace_continues_the_track_of_an_ended_thread_of_the_name(void **state)
{
    pthread_barrier_t barrier;
    pthread_t threads[2];

    (void)state;
    trace_start(100);
    for (int round = 0; round < 5; round++) {
        pthread_barrier_init(&barrier, NULL, 2);
        for (int t = 0; t < 2; t++)
            pthread_create(&threads[t], NULL, record_once, &barrier);
        for (int t = 0; t < 2; t++)
            pthread_join(threads[t], NULL);
        pthread_barrier_destroy(&barrier);
    }
    put(2); /* of a thread that was never named */
    take();
    assert_int_equal(view.thread_count, 3);
    assert_string_equal(view.threads[0]->name, "reader");
    assert_string_equal(view.threads[1]->name, "reader 2");
    assert_string_equal(view.threads[2]->name, "thread");
    assert_int_equal(view.threads[0]->spans + view.threads[1]->spans, 10);
    release();
}

static void trace_interns_equal_texts_as_one(void **state)
{
    char text[] = "layer1.0.conv1";
    const char *const kept = trace_intern(text);

    (void)state;
    assert_ptr_not_equal(kept, text);
    assert_ptr_equal(trace_intern("layer1.0.conv1"), kept);
    text[0] = 'L';
    assert_string_equal(kept, "layer1.0.conv1");
    trace_release();
    assert_string_equal(trace_intern("layer1.0.conv1"), kept);
}

/* What came from another rank is not believed: each shorter run, and each with one byte changed, is
 * refused or read within its bounds (the sanitizers watch). */
static void trace_view_refuses_what_is_no_packed_trace(void **state)
{
    struct err err = {0};
    unsigned char *copy;

    (void)state;
    trace_start(4);
    trace_thread("main");
    put(1);
    put(2);
    take();
    trace_view_release(&view);
    for (size_t bytes = 0; bytes < packed.bytes; bytes++) {
        copy = malloc(bytes + 1);
        memcpy(copy, packed.data, bytes);
        assert_int_equal(trace_view_init(&view, copy, bytes, &err), -1);
        assert_int_equal(err.code, ERR_INTERNAL);
        free(copy);
    }
    for (size_t at = 0; at < packed.bytes; at++) {
        copy = malloc(packed.bytes);
        memcpy(copy, packed.data, packed.bytes);
        copy[at] ^= 0xff;
        if (trace_view_init(&view, copy, packed.bytes, &err) == 0)
            trace_view_release(&view);
        free(copy);
    }
    release();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(trace_records_nothing_while_it_is_off),
        cmocka_unit_test(trace_keeps_what_a_span_says),
        cmocka_unit_test(trace_loses_the_oldest_when_a_ring_is_full_and_says_how_many),
        cmocka_unit_test(trace_keeps_the_spans_of_several_threads_apart),
        cmocka_unit_test(trace_continues_the_track_of_an_ended_thread_of_the_name),
        cmocka_unit_test(trace_interns_equal_texts_as_one),
        cmocka_unit_test(trace_view_refuses_what_is_no_packed_trace),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
