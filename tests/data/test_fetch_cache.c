/* tests/data/test_fetch_cache.c -- pictures of a bucket beside a cache: an epoch waits for the one
 * before it, and for no other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "s3io/client.h"
#include "tests/data/store.h"
#include "tests/data/tree.h"
#include "trainer/data/cache/cache.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/order.h"
#include "trainer/data/set/open.h"
#include "trainer/data/stream/fetch.h"

#define COUNT       24
#define LANES       2
#define EACH        (COUNT / LANES) /* places of a lane */
#define CACHE_BYTES 28672           /* of its own files: no room for a picture */
#define PATIENCE_S  15              /* a silent server is given up after 20 s */

static struct store *store;
static struct data_index index_of_bucket;
static struct data_cache *cache;
static const struct data_order order = {
    .samples = COUNT, .chunk_samples = 1, .seed = 5, .batch = LANES, .lanes = LANES};

static int set_up(void **state)
{
    const struct data_cache_use use = {.order = &order,
                                       .lane_end = LANES,
                                       .samples = COUNT,
                                       .chunk_samples = 1,
                                       .epoch_end = 3,
                                       .epoch_ticks = EACH + 1};
    struct err err = {0};

    if (tree_make(state) < 0)
        return -1;
    store = store_open();
    tree_class("pets", "cats", COUNT / 2);
    tree_class("pets", "dogs", COUNT / 2);
    store_put_tree(store, tree_path("pets"), "pets");
    if (data_index_open(&index_of_bucket, store_uri("pets"), NULL, 0, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    cache = data_cache_new(tree_path("cache"), CACHE_BYTES, NULL, &err);
    if (cache == NULL || data_cache_add(cache, &index_of_bucket, &use, &use, &err) < 0)
        fail_msg("%s", err.msg);
    return 0;
}

static int tear_down(void **state)
{
    data_cache_free(cache);
    data_index_release(&index_of_bucket);
    store_close(store);
    s3_client_shared_close();
    return tree_remove(state);
}

static uint64_t sample_of(uint32_t epoch, uint32_t lane, uint64_t place)
{
    return data_order_place_sample(&order, epoch, lane, place);
}

static void take(struct data_fetch *fetch, uint32_t epoch, uint32_t lane, uint64_t place)
{
    struct buf bytes = {0};
    struct err err = {0};
    int32_t label;

    if (data_fetch_take(fetch, epoch, lane, place, &bytes, &label, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(bytes.bytes, index_of_bucket.samples[sample_of(epoch, lane, place)].bytes);
    buf_release(&bytes);
}

static void wait_for_reads(struct data_fetch *fetch, uint64_t count)
{
    struct data_fetch_stats stats;

    do {
        usleep(1000);
        data_fetch_stats(fetch, &stats);
    } while (stats.requests < count);
}

/* Each lane holds a picture at a time, so that it is known what is being read: lane 1 is through
 * with two epochs, and what it wants of the third does not come. */
static void lane_is_not_kept_by_what_another_reads_for_the_epoch_after_it(void **state)
{
    const struct data_fetch_options options = {.index = &index_of_bucket,
                                               .order = &order,
                                               .lane_end = LANES,
                                               .epoch_end = 3,
                                               .bytes = 1,
                                               .threads = 2,
                                               .cache = cache};
    const uint64_t awaited = sample_of(2, 1, 0);
    struct err err = {0};
    struct data_fetch *const fetch = data_fetch_new(&options, &err);
    double begun, took;
    int requests;

    (void)state;
    if (fetch == NULL)
        fail_msg("%s", err.msg);
    for (uint64_t place = 0; place < EACH; place++)
        for (uint32_t lane = 0; lane < LANES; lane++)
            take(fetch, 0, lane, place);
    for (uint64_t place = 0; place < EACH - 1; place++)
        take(fetch, 1, 1, place);
    wait_for_reads(fetch, COUNT + EACH + 1); /* lane 1's last, and lane 0's first */
    store_silence(store, index_of_bucket.samples[awaited].key, 0);
    requests = store_requests(store);
    take(fetch, 1, 1, EACH - 1);
    while (store_requests(store) == requests)
        usleep(1000);
    begun = clock_now_s();
    for (uint64_t place = 0; place < EACH && sample_of(1, 0, place) != awaited; place++)
        take(fetch, 1, 0, place);
    took = clock_now_s() - begun;
    data_fetch_free(fetch);
    assert_true(took < PATIENCE_S);
    assert_int_not_equal(sample_of(1, 0, 0), awaited); /* else nothing was tried */
    assert_int_not_equal(sample_of(1, 0, 1), awaited);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            lane_is_not_kept_by_what_another_reads_for_the_epoch_after_it, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
