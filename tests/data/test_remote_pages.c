/* tests/data/test_remote_pages.c -- shards of a bucket whose indexes are read on demand: how little
 * is read for a place, and what is wrong with an index, or with S3. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/file.h"
#include "s3io/client.h"
#include "tests/data/narrow.h"
#include "tests/data/store.h"
#include "tests/data/tree.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/order.h"
#include "trainer/data/index/pages.h"
#include "trainer/data/pack/pack.h"
#include "trainer/data/pack/source.h"
#include "trainer/data/set/open.h"
#include "trainer/data/stream/fetch.h"

#define COUNT 60

static struct store *store;
static struct data_index whole, paged; /* the same shards */

static struct data_index opened(uint64_t whole_max)
{
    struct data_index index = {0};
    struct err err = {0};

    if (data_index_open_paged(&index, store_uri("shards/"), whole_max, NULL, 0, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    return index;
}

/* For each case: none of the pages is there. */
static int set_up(void **state)
{
    char source[512], target[512];
    const struct data_pack_options options = {
        .source = source, .target = target, .shard_bytes = 6000};
    struct err err = {0};

    if (tree_make(state) < 0)
        return -1;
    tree_class("pets", "cats", 40);
    tree_class("pets", "dogs", 20);
    strcpy(source, tree_path("pets"));
    strcpy(target, tree_path("packed"));
    if (data_pack(&options, &err) < 0)
        fail_msg("%s", err.msg);
    store_put_tree(store, target, "shards");
    whole = opened(COUNT);
    paged = opened(0);
    assert_true(whole.files > 5);
    return 0;
}

static int tear_down(void **state)
{
    data_index_release(&whole);
    data_index_release(&paged);
    return tree_remove(state);
}

static struct data_fetch *start_fetch(const struct data_fetch_options *options)
{
    struct err err = {0};
    struct data_fetch *fetch = data_fetch_new(options, &err);

    if (fetch == NULL)
        fail_msg("%s", err.msg);
    return fetch;
}

/* The sample at a place comes as the whole index has it. */
static void take(struct data_fetch *fetch, uint64_t place, uint64_t sample)
{
    struct buf bytes = {0};
    struct err err = {0};
    int32_t label = -1;

    if (data_fetch_take(fetch, 0, 0, place, &bytes, &label, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(bytes.bytes, whole.samples[sample].bytes);
    assert_int_equal(digest_crc32c(0, bytes.data, bytes.bytes), whole.samples[sample].crc32c);
    assert_int_equal(label, whole.samples[sample].label);
    buf_release(&bytes);
}

static void expect_failure(struct data_fetch *fetch, uint64_t place, enum err_code code,
                           const char *said)
{
    struct buf bytes = {0};
    struct err err = {0};
    int32_t label;

    assert_int_equal(data_fetch_take(fetch, 0, 0, place, &bytes, &label, &err), -1);
    if (err.code != code || strstr(err.msg, said) == NULL)
        fail_msg("%d: %s", err.code, err.msg);
    assert_null(bytes.data);
}

/* ---- how little is read ---- */

/* A listing of the folder, the top index (twice, see shards.c), the shard's index and a range. */
static void far_sample_is_reached_by_the_top_index_one_page_and_one_range(void **state)
{
    (void)state;
    for (uint64_t sample = COUNT; sample-- > 0;) {
        struct data_index index;
        const struct data_fetch_options options = {
            .index = &index, .sample_begin = sample, .sample_end = sample + 1, .threads = 4};
        struct store_stats stats;
        struct data_fetch *fetch;

        store_take_stats(store, &stats);
        index = opened(0);
        store_take_stats(store, &stats);
        assert_int_equal(stats.gets, 2);
        assert_int_equal(stats.lists, 1);
        fetch = start_fetch(&options);
        take(fetch, 0, sample);
        data_fetch_free(fetch);
        store_take_stats(store, &stats);
        assert_int_equal(stats.gets, 2);
        assert_int_equal(stats.lists, 0);
        data_index_release(&index);
    }
}

/* The same of a step in the middle of an epoch: its window's pages, each once, however its samples
 * lie in them. */
static void place_of_an_epoch_is_reached_by_the_pages_of_its_window(void **state)
{
    const struct data_order order = {
        .samples = COUNT, .chunk_samples = 1, .seed = 3, .batch = 4, .lanes = 1};
    struct data_fetch_options options = {
        .index = &paged, .order = &order, .lane_end = 1, .epoch_end = 1, .threads = 1};
    struct data_pages_stats stats;
    bool wanted[COUNT] = {false};
    size_t files = 0;

    (void)state;
    for (options.step = 12; options.step < 15; options.step++) { /* of the last window */
        struct data_fetch *const fetch = start_fetch(&options);

        for (uint64_t place = 4 * options.step; place < COUNT; place++) {
            const uint64_t sample = data_order_place_sample(&order, 0, 0, place);

            take(fetch, place, sample);
            files += !wanted[whole.samples[sample].file];
            wanted[whole.samples[sample].file] = true;
        }
        data_fetch_free(fetch);
        data_pages_stats(paged.pages, &stats);
        assert_int_equal(stats.reads, files);
    }
    assert_true(files < whole.files);
}

/* ---- what goes wrong ---- */

static void page_that_comes_damaged_is_read_again(void **state)
{
    const struct data_fetch_options options = {.index = &paged, .sample_end = 1, .threads = 1};

    (void)state;
    for (int damages = 3; damages > 0; damages--) {
        struct data_fetch *fetch;

        data_index_release(&paged);
        paged = opened(0);
        store_damage(store, ".idx", damages);
        fetch = start_fetch(&options);
        if (damages < 3)
            take(fetch, 0, 0);
        else
            expect_failure(fetch, 0, ERR_INPUT, "shards/shard-000000.idx");
        store_damage(store, ".idx", 0);
        data_fetch_free(fetch);
    }
}

/* With pages nothing else tells that it was changed on the way. */
static void top_index_has_to_come_twice_the_same(void **state)
{
    static const struct {
        int later, damages;
        uint64_t reads; /* 0: it does not open */
    } cases[] = {{0, 1, 3}, {1, 1, 4}, {1, 2, 5}, {0, 3, 0}, {1, 4, 0}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct data_index index = {0};
        struct store_stats stats;
        struct err err = {0};
        int rc;

        store_take_stats(store, &stats);
        store_damage_later(store, "index.json", cases[i].later, cases[i].damages);
        rc = data_index_open_paged(&index, store_uri("shards/"), 0, NULL, 0, NULL, &err);
        store_damage(store, "index.json", 0);
        store_take_stats(store, &stats);
        if (rc != (cases[i].reads > 0 ? 0 : -1))
            fail_msg("case %zu: %s", i, err.msg);
        if (rc < 0)
            assert_non_null(strstr(err.msg, "index.json"));
        else
            assert_int_equal(stats.gets, cases[i].reads);
        data_index_release(&index);
    }
}

static void take_first(enum err_code code, const char *said)
{
    const struct data_fetch_options options = {.index = &paged, .sample_end = COUNT, .threads = 2};
    struct data_fetch *fetch = start_fetch(&options);

    expect_failure(fetch, 0, code, said);
    data_fetch_free(fetch);
}

static void wait_for_requests(int count)
{
    const int before = store_requests(store);

    while (store_requests(store) < before + count)
        usleep(1000);
}

/* A failure waits for who wants the picture, and is none where nobody does yet. */
static void index_of_a_shard_that_cannot_be_read_is_named(void **state)
{
    const struct data_fetch_options options = {.index = &paged, .sample_end = COUNT, .threads = 2};
    struct data_fetch *fetch;
    struct buf content = {0};

    (void)state;
    assert_int_equal(file_read(tree_path("packed/shard-000000.idx"), 1 << 20, &content, NULL), 0);
    store_delete(store, "shards/shard-000000.idx");
    take_first(ERR_INPUT, "shards/shard-000000.idx");
    store_put(store, "shards/shard-000000.idx", "x", 1);
    take_first(ERR_INPUT, "is no index of a shard");
    store_put(store, "shards/shard-000000.idx", content.data, content.bytes);
    store_set_mood(store, STORE_AWAY);
    take_first(ERR_NET, "shards/shard-000000.idx");
    fetch = start_fetch(&options);
    wait_for_requests(2);
    store_set_mood(store, STORE_ANSWERS);
    for (uint64_t i = 0; i < COUNT; i++)
        take(fetch, i, i);
    data_fetch_free(fetch);
    buf_release(&content);
}

/* A shard in the middle: what lies before it is read, and what fails is it. */
static void failure_of_a_page_does_not_reach_the_pictures_before_it(void **state)
{
    const struct data_fetch_options options = {.index = &paged, .sample_end = COUNT, .threads = 2};
    struct data_fetch *fetch;
    uint64_t first = 0;

    (void)state;
    while (whole.samples[first].file < 3)
        first++;
    store_delete(store, "shards/shard-000003.idx");
    fetch = start_fetch(&options);
    for (uint64_t i = 0; i < first; i++)
        take(fetch, i, i);
    expect_failure(fetch, first, ERR_INPUT, "shards/shard-000003.idx");
    data_fetch_free(fetch);
}

/* What it is called may have to be read again: without that it is named by its shard. */
static void sample_with_another_crc_is_the_data_s_fault_where_s3_is_away_too(void **state)
{
    const struct data_fetch_options options = {.index = &paged, .sample_end = 1, .threads = 1};
    struct data_fetch *fetch;

    (void)state;
    data_pages_free(paged.pages);
    paged.pages = narrow_pages(&paged, &whole, tree_path("packed"), 0);
    for (int away = 0; away < 2; away++) {
        struct data_fetch_stats stats;

        store_damage(store, ".tar", 100);
        fetch = start_fetch(&options);
        do {
            usleep(1000);
            data_fetch_stats(fetch, &stats);
        } while (stats.requests == 0);
        store_damage(store, ".tar", 0);
        store_set_mood(store, away ? STORE_AWAY : STORE_ANSWERS);
        expect_failure(fetch, 0, ERR_INPUT,
                       away ? "'s3://test/shards/shard-000000.tar' does not match its index: 'a "
                              "picture' has another CRC-32C"
                            : whole.samples[0].key);
        store_set_mood(store, STORE_ANSWERS);
        data_fetch_free(fetch);
    }
}

static int requests_before; /* the server fell silent */

static void *stop_it(void *fetch)
{
    while (store_requests(store) == requests_before)
        usleep(1000);
    data_fetch_stop(fetch);
    return NULL;
}

static void stop_ends_the_reading_of_a_page_of_a_silent_server(void **state)
{
    const struct data_fetch_options options = {.index = &paged, .sample_end = COUNT, .threads = 1};
    const double begin = clock_now_s();
    struct data_fetch *fetch;
    pthread_t thread;

    (void)state;
    store_set_mood(store, STORE_AWAY);
    fetch = start_fetch(&options);
    wait_for_requests(1);
    requests_before = store_requests(store);
    store_set_mood(store, STORE_SILENT);
    assert_int_equal(pthread_create(&thread, NULL, stop_it, fetch), 0);
    expect_failure(fetch, 0, ERR_STOPPED, "stopped");
    pthread_join(thread, NULL);
    data_fetch_free(fetch);
    assert_true(clock_now_s() - begin < 15); /* a silent server is given up after 20 s */
    store_set_mood(store, STORE_ANSWERS);
}

static volatile sig_atomic_t cancelled;

static void *cancel_it(void *unused)
{
    while (store_unanswered(store) == 0)
        usleep(1000);
    __atomic_store_n(&cancelled, 1, __ATOMIC_RELAXED);
    return unused;
}

static int open_whole(const char *path, struct err *err)
{
    struct data_index index = {0};

    return data_index_open(&index, path, NULL, 0, &cancelled, err);
}

static int open_source(const char *path, struct err *err)
{
    struct data_source source;

    return data_source_open(&source, path, store_uri("pets"), NULL, 0, &cancelled, err);
}

/* By whoever waits, and by each of its threads. */
static void cancel_ends_opening_whatever_does_not_come(void **state)
{
    static const struct {
        const char *path, *silenced;
        int (*open)(const char *path, struct err *err);
    } cases[] = {{"s3://test/shards", "/index.json", open_whole},
                 {"s3://test/shards", ".idx", open_whole},
                 {"s3://test/x.manifest", "x.manifest", open_whole},
                 {"s3://test/x.lst", "x.lst", open_source}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const double begun = clock_now_s();
        struct err err = {0};
        pthread_t thread;
        int rc;

        store_silence(store, cases[i].silenced, 0);
        __atomic_store_n(&cancelled, 0, __ATOMIC_RELAXED);
        assert_int_equal(pthread_create(&thread, NULL, cancel_it, NULL), 0);
        rc = cases[i].open(cases[i].path, &err);
        pthread_join(thread, NULL);
        store_silence(store, NULL, 0);
        assert_int_equal(rc, -1);
        if (err.code != ERR_STOPPED || clock_now_s() - begun > 15)
            fail_msg("'%s': %d after %.1f s: %s", cases[i].silenced, err.code,
                     clock_now_s() - begun, err.msg);
    }
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

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(far_sample_is_reached_by_the_top_index_one_page_and_one_range),
        CASE(place_of_an_epoch_is_reached_by_the_pages_of_its_window),
        CASE(page_that_comes_damaged_is_read_again),
        CASE(top_index_has_to_come_twice_the_same),
        CASE(index_of_a_shard_that_cannot_be_read_is_named),
        CASE(failure_of_a_page_does_not_reach_the_pictures_before_it),
        CASE(sample_with_another_crc_is_the_data_s_fault_where_s3_is_away_too),
        CASE(stop_ends_the_reading_of_a_page_of_a_silent_server),
        CASE(cancel_ends_opening_whatever_does_not_come),
    };

    return cmocka_run_group_tests(tests, open_store, close_store);
}
