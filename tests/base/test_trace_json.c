/* tests/base/test_trace_json.c -- the file is read back by jansson. */
#include "base/trace_json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/trace.h"

static char folder[64], path[96];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/convoy-trace-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/t.json", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder); /* fails where a temporary file was left */
}

static void put(const char *name, double begun_s, double ended_s)
{
    trace_put(&(struct trace_span){
        .category = "test", .name = name, .begun_s = begun_s, .ended_s = ended_s});
}

static void put_async(uint64_t id, double begun_s, double ended_s)
{
    trace_put(&(struct trace_span){.category = "bucket",
                                   .name = "bucket",
                                   .begun_s = begun_s,
                                   .ended_s = ended_s,
                                   .argument = "bytes",
                                   .value = 4194304,
                                   .async = true,
                                   .id = id});
}

/* Take what was recorded and forget it. */
static struct buf taken(void)
{
    struct buf packed = {0};
    struct err err = {0};

    trace_stop();
    assert_int_equal(trace_take(&packed, &err), 0);
    trace_release();
    return packed;
}

static void add(struct trace_json *json, const struct trace_json_rank *rank, struct buf packed)
{
    struct err err = {0};

    if (trace_json_add(json, rank, packed.data, packed.bytes, &err) < 0)
        fail_msg("%s", err.msg);
    buf_release(&packed);
}

static void open_file(struct trace_json *json, double origin_s)
{
    struct err err = {0};

    if (trace_json_open(json, path, origin_s, &err) < 0)
        fail_msg("%s", err.msg);
}

/* Commit and read. */
static json_t *written(struct trace_json *json)
{
    struct err err = {0};
    json_t *tree;

    if (trace_json_commit(json, &err) < 0)
        fail_msg("%s", err.msg);
    trace_json_release(json);
    tree = json_read_file(path, 1u << 28, &err);
    if (tree == NULL)
        fail_msg("%s", err.msg);
    return tree;
}

static const char *text_of(const json_t *event, const char *key)
{
    const char *const text = json_string_value(json_object_get(event, key));

    return text == NULL ? "" : text;
}

static double number_of(const json_t *event, const char *key)
{
    return json_number_value(json_object_get(event, key));
}

/* The n-th event of a rank that is no metadata. */
static const json_t *event_at(const json_t *tree, int rank, size_t n)
{
    const json_t *const events = json_object_get(tree, "traceEvents");

    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *const event = json_array_get(events, i);

        if (strcmp(text_of(event, "ph"), "M") != 0 && (int)number_of(event, "pid") == rank &&
            n-- == 0)
            return event;
    }
    return NULL;
}

static bool has_name(const json_t *tree, int pid, int tid, const char *what, const char *name)
{
    const json_t *const events = json_object_get(tree, "traceEvents");

    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *const event = json_array_get(events, i);

        if (strcmp(text_of(event, "ph"), "M") == 0 && (int)number_of(event, "pid") == pid &&
            (int)number_of(event, "tid") == tid && strcmp(text_of(event, "name"), what) == 0 &&
            strcmp(text_of(json_object_get(event, "args"), "name"), name) == 0)
            return true;
    }
    return false;
}

static void assert_event(const json_t *event, const char *phase, const char *name, double us,
                         double dur_us)
{
    assert_non_null(event);
    assert_string_equal(text_of(event, "ph"), phase);
    assert_string_equal(text_of(event, "name"), name);
    assert_float_equal(number_of(event, "ts"), us, 0.0011);
    if (dur_us >= 0)
        assert_float_equal(number_of(event, "dur"), dur_us, 0.0021);
    else
        assert_null(json_object_get(event, "dur"));
}

static void trace_json_writes_parents_before_children_in_the_order_of_time(void **state)
{
    const struct trace_json_rank rank = {.rank = 0, .host = "here"};
    struct trace_json json;
    json_t *tree;

    (void)state;
    trace_start(100);
    trace_thread("main");
    put("first child", 100, 100.25); /* begins with its parent */
    put("second child", 100.25, 101);
    put("parent", 100, 101);
    put("same as grandparent", 102, 103);
    put("grandparent", 102, 103);
    put("before all", 99, 99.5);
    open_file(&json, 99);
    add(&json, &rank, taken());
    tree = written(&json);
    assert_event(event_at(tree, 0, 0), "X", "before all", 0, 0.5e6);
    assert_event(event_at(tree, 0, 1), "X", "parent", 1e6, 1e6);
    assert_event(event_at(tree, 0, 2), "X", "first child", 1e6, 0.25e6);
    assert_event(event_at(tree, 0, 3), "X", "second child", 1.25e6, 0.75e6);
    assert_event(event_at(tree, 0, 4), "X", "grandparent", 3e6, 1e6);
    assert_event(event_at(tree, 0, 5), "X", "same as grandparent", 3e6, 1e6);
    assert_null(event_at(tree, 0, 6));
    assert_string_equal(text_of(event_at(tree, 0, 0), "cat"), "test");
    json_decref(tree);
}

static void trace_json_puts_ranks_on_the_first_ones_clock(void **state)
{
    /* Rank 1's clock began later and loses 100 us a second. */
    const struct trace_json_rank ranks[] = {
        {.rank = 0, .host = "a"},
        {.rank = 1, .host = "b", .clock = {{.at_s = 10, .offset_s = 1000}, {20, 1000.001}}}};
    struct trace_json json;
    json_t *tree;

    (void)state;
    open_file(&json, 1000);
    trace_start(10);
    trace_thread("main");
    put("here", 1015, 1016);
    add(&json, &ranks[0], taken());
    trace_start(10);
    trace_thread("main");
    put("there", 15, 16);
    add(&json, &ranks[1], taken());
    tree = written(&json);
    assert_event(event_at(tree, 0, 0), "X", "here", 15e6, 1e6);
    assert_event(event_at(tree, 1, 0), "X", "there", 15e6 + 500, 1e6 + 100);
    json_decref(tree);
}

static void trace_json_pairs_async_spans_by_id_within_a_rank(void **state)
{
    const struct trace_json_rank rank = {.rank = 2, .host = "here"};
    struct trace_json json;
    const json_t *event;
    json_t *tree;

    (void)state;
    trace_start(10);
    trace_thread("exchange");
    put_async(17, 1, 2); /* two overlap, and one lasts no time */
    put_async(18, 1.5, 3);
    put_async(17, 2, 2);
    open_file(&json, 0);
    add(&json, &rank, taken());
    tree = written(&json);
    assert_event(event_at(tree, 2, 0), "b", "bucket", 1e6, -1);
    assert_event(event_at(tree, 2, 1), "b", "bucket", 1.5e6, -1);
    assert_event(event_at(tree, 2, 2), "e", "bucket", 2e6, -1);
    assert_event(event_at(tree, 2, 3), "b", "bucket", 2e6, -1);
    assert_event(event_at(tree, 2, 4), "e", "bucket", 2e6, -1);
    assert_event(event_at(tree, 2, 5), "e", "bucket", 3e6, -1);
    event = event_at(tree, 2, 0);
    assert_string_equal(text_of(json_object_get(event, "id2"), "local"), "0x11");
    assert_int_equal(number_of(json_object_get(event, "args"), "bytes"), 4194304);
    assert_string_equal(text_of(json_object_get(event_at(tree, 2, 2), "id2"), "local"), "0x11");
    assert_string_equal(text_of(json_object_get(event_at(tree, 2, 5), "id2"), "local"), "0x12");
    json_decref(tree);
}

static void trace_json_names_ranks_and_threads_and_tells_what_is_lost(void **state)
{
    const struct trace_json_rank rank = {.rank = 3, .host = "node\"2\xff"};
    struct trace_json json;
    const json_t *other, *lost;
    json_t *tree;

    (void)state;
    trace_start(5);
    trace_thread("main");
    for (int i = 0; i < 12; i++)
        put("a \"name\"\n", i, i + 1);
    open_file(&json, 0);
    add(&json, &rank, taken());
    tree = written(&json);
    assert_true(has_name(tree, 3, 0, "process_name", "rank 3 on node\"2\xef\xbf\xbd"));
    assert_true(has_name(tree, 3, 1, "thread_name", "main"));
    assert_event(event_at(tree, 3, 0), "X", "a \"name\"\n", 7e6, 1e6);
    other = json_object_get(tree, "otherData");
    assert_int_equal(number_of(other, "spans"), 5);
    assert_int_equal(number_of(other, "lost"), 7);
    lost = json_array_get(json_object_get(other, "lost_of"), 0);
    assert_int_equal(number_of(lost, "rank"), 3);
    assert_string_equal(text_of(lost, "thread"), "main");
    assert_int_equal(number_of(lost, "lost"), 7);
    json_decref(tree);
}

/* More than is kept before it is written; spans that lie within each other do so in the file,
 * though their times are no whole nanoseconds. */
static void trace_json_keeps_the_nesting_of_many_spans(void **state)
{
    enum { STEPS = 3000 };
    const struct trace_json_rank rank = {
        .rank = 0, .host = "here", .clock = {{.at_s = 0, .offset_s = 0.1}, {1e4, 0.1001}}};
    struct trace_json json;
    double end_us = -1;
    const json_t *events;
    json_t *tree;

    (void)state;
    trace_start(3 * STEPS);
    trace_thread("main");
    for (int i = 0; i < STEPS; i++) {
        const double at = 1234.5 + i / 3e7;

        put("left", at, at + 1e-8 / 3);
        put("right", at + 1e-8 / 3, at + 1e-8);
        put("both", at, at + 1e-8);
    }
    open_file(&json, 1234);
    add(&json, &rank, taken());
    tree = written(&json);
    events = json_object_get(tree, "traceEvents");
    for (size_t i = 0; i < STEPS; i++) {
        const size_t at = json_array_size(events) - 3 * (STEPS - i);
        double begin[3], end[3];

        for (size_t k = 0; k < 3; k++) {
            const json_t *const event = json_array_get(events, at + k);

            begin[k] = number_of(event, "ts");
            end[k] = begin[k] + number_of(event, "dur");
        }
        assert_string_equal(text_of(json_array_get(events, at), "name"), "both");
        assert_true(begin[0] >= end_us - 1e-6 && begin[1] >= begin[0] - 1e-6);
        assert_true(begin[2] >= end[1] - 1e-6 && end[2] <= end[0] + 1e-6);
        end_us = end[0];
    }
    json_decref(tree);
}

static void trace_json_leaves_nothing_when_it_is_not_committed(void **state)
{
    struct trace_json json;
    struct err err = {0};

    (void)state;
    unlink(path);
    open_file(&json, 0);
    assert_int_equal(trace_json_add(&json, &(struct trace_json_rank){.host = "x"}, "none", 4, &err),
                     -1);
    assert_non_null(strstr(err.msg, "cannot write the trace of rank 0: "));
    trace_json_release(&json);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(trace_json_open(&json, "/tmp/no such folder/t.json", 0, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    trace_json_release(&json);
}

static void trace_json_writes_a_whole_file_without_any_rank(void **state)
{
    struct trace_json json;
    json_t *tree;

    (void)state;
    open_file(&json, 0);
    tree = written(&json);
    assert_int_equal(json_array_size(json_object_get(tree, "traceEvents")), 0);
    json_decref(tree);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(trace_json_writes_parents_before_children_in_the_order_of_time),
        cmocka_unit_test(trace_json_puts_ranks_on_the_first_ones_clock),
        cmocka_unit_test(trace_json_pairs_async_spans_by_id_within_a_rank),
        cmocka_unit_test(trace_json_names_ranks_and_threads_and_tells_what_is_lost),
        cmocka_unit_test(trace_json_keeps_the_nesting_of_many_spans),
        cmocka_unit_test(trace_json_leaves_nothing_when_it_is_not_committed),
        cmocka_unit_test(trace_json_writes_a_whole_file_without_any_rank),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
