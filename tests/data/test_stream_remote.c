/* tests/data/test_stream_remote.c -- a stream over shards of a bucket whose indexes are read on
 * demand: to name a picture its index may have to be read again, which no one but the picture's
 * thread waits for. */
#include "trainer/data/stream/stream.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "s3io/client.h"
#include "tests/data/narrow.h"
#include "tests/data/pictures.h"
#include "tests/data/store.h"
#include "tests/data/tree.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/pages.h"
#include "trainer/data/pack/pack.h"
#include "trainer/data/set/open.h"

#define SIZE       16
#define PATIENCE_S 15 /* a silent server is given up after 20 s */

static struct store *store;
static struct data_index whole, paged; /* the same shard; of the second no page stays */

/* Two classes of two JPEGs each that end early. */
static void write_truncated(void)
{
    static const char *const names[] = {"pets/cats/0.jpg", "pets/cats/1.jpg", "pets/dogs/0.jpg",
                                        "pets/dogs/1.jpg"};

    for (int i = 0; i < 4; i++) {
        const struct picture picture = {.width = 60 + i, .height = 70, .colours = PICTURE_YCC};
        struct buf bytes = {0};

        picture_jpeg(&picture, &bytes);
        tree_write(names[i], bytes.data, bytes.bytes * 3 / 4);
        buf_release(&bytes);
    }
}

static void open_index(uint64_t whole_max, struct data_index *index)
{
    struct err err = {0};

    if (data_index_open_paged(index, store_uri("shards/"), whole_max, NULL, 0, NULL, &err) < 0)
        fail_msg("%s", err.msg);
}

/* What was written below "pets", in the bucket. */
static void pack_and_open(void)
{
    char source[512], target[512];
    const struct data_pack_options options = {
        .source = source, .target = target, .shard_bytes = 1 << 20};
    struct err err = {0};

    strcpy(source, tree_path("pets"));
    strcpy(target, tree_path("packed"));
    if (data_pack(&options, &err) < 0)
        fail_msg("%s", err.msg);
    store_put_tree(store, target, "shards");
    open_index(UINT64_MAX, &whole);
    open_index(0, &paged);
    data_pages_free(paged.pages);
    paged.pages = narrow_pages(&paged, &whole, target, 0);
}

static int tear_down(void **state)
{
    store_silence(store, NULL, 0);
    data_index_release(&whole);
    data_index_release(&paged);
    return tree_remove(state);
}

/* Of samples 0 .. count - 1. */
static struct data_stream *start(uint64_t count)
{
    const struct data_stream_options options = {
        .index = &paged,
        .transform = {.kind = DATA_TRANSFORM_RESIZE, .size = SIZE, .std = {1, 1, 1}},
        .sample_end = count,
        .micro_batch = 2,
        .threads = 2,
        .depth = 2,
        .fetch_threads = 1,
    };
    struct err err = {0};
    struct data_stream *const stream = data_stream_new(&options, &err);

    if (stream == NULL)
        fail_msg("%s", err.msg);
    return stream;
}

static void first_truncated_picture_of_a_bucket_is_named(void **state)
{
    struct data_stream_stats stats;
    struct data_stream *stream;
    struct data_batch batch;
    struct err err = {0};
    char want[256];
    int rc;

    (void)state;
    write_truncated();
    pack_and_open();
    stream = start(4);
    while ((rc = data_stream_next(stream, &batch, NULL, &err)) == 1)
        data_stream_give_back(stream, &batch);
    if (rc < 0)
        fail_msg("%s", err.msg);
    data_stream_stats(stream, &stats);
    assert_int_equal(stats.truncated, 4);
    snprintf(want, sizeof want, "%s in s3://test/shards/shard-000000.tar", whole.samples[0].key);
    assert_string_equal(stats.truncated_first, want);
    data_stream_free(stream);
}

static volatile sig_atomic_t cancelled;

/* The sample's page was read, and its picture, and now its page is asked for by its name. */
static void wait_for_its_name(void)
{
    while (store_unanswered(store) == 0)
        usleep(1000);
}

static void *cancel_then(void *unused)
{
    wait_for_its_name();
    __atomic_store_n(&cancelled, 1, __ATOMIC_RELAXED);
    return unused;
}

static void naming_a_truncated_picture_does_not_keep_next_from_its_cancel(void **state)
{
    const double begun = clock_now_s();
    struct data_stream_stats stats;
    struct data_stream *stream;
    struct data_batch batch;
    struct err err = {0};
    pthread_t thread;

    (void)state;
    write_truncated();
    pack_and_open();
    store_silence(store, ".idx", 1);
    assert_int_equal(pthread_create(&thread, NULL, cancel_then, NULL), 0);
    stream = start(1);
    assert_int_equal(data_stream_next(stream, &batch, &cancelled, &err), -1);
    assert_int_equal(err.code, ERR_STOPPED);
    data_stream_stats(stream, &stats);
    assert_int_equal(stats.images, 0);
    data_stream_free(stream);
    pthread_join(thread, NULL);
    assert_true(clock_now_s() - begun < PATIENCE_S);
}

static void naming_a_bad_picture_ends_with_its_stream(void **state)
{
    const double begun = clock_now_s();
    struct data_stream *stream;

    (void)state;
    tree_class("pets", "cats", 2);
    tree_class("pets", "dogs", 2);
    pack_and_open();
    store_silence(store, ".idx", 1);
    stream = start(1);
    wait_for_its_name();
    data_stream_free(stream);
    assert_true(clock_now_s() - begun < PATIENCE_S);
}

static int open_store(void **state)
{
    (void)state;
    store = store_open();
    return 0;
}

static int close_store(void **state)
{
    (void)state;
    store_close(store);
    s3_client_shared_close();
    return 0;
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, tree_make, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(first_truncated_picture_of_a_bucket_is_named),
        CASE(naming_a_truncated_picture_does_not_keep_next_from_its_cancel),
        CASE(naming_a_bad_picture_ends_with_its_stream),
    };

    return cmocka_run_group_tests(tests, open_store, close_store);
}
