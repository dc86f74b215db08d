/* tests/data/test_fetch.c -- pictures of a bucket: the same as local ones, each read once, in
 * bounded memory; and what is wrong with them, or with S3. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/file.h"
#include "base/philox.h"
#include "s3io/client.h"
#include "tests/data/pictures.h"
#include "tests/data/store.h"
#include "trainer/data/index/index.h"
#include "trainer/data/pack/pack.h"
#include "trainer/data/picture/decode.h"
#include "trainer/data/set/files.h"
#include "trainer/data/set/open.h"
#include "trainer/data/stream/fetch.h"
#include "trainer/data/stream/stream.h"

#define SIZE    8
#define FLOATS  (SIZE * SIZE * 3)
#define CLASSES 3
#define EACH    21
#define COUNT   (CLASSES * EACH)
#define DRAWS   12

static char root[64];
static struct store *store;
static struct data_index local, folder, shards, paged; /* the same pictures */

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat, (void)type, (void)ftw;
    return remove(path);
}

static void open_index(const char *name, struct data_index *index)
{
    struct err err = {0};

    if (data_index_open(index, name, NULL, 0, NULL, &err) < 0)
        fail_msg("%s", err.msg);
}

static void open_paged(struct data_index *index)
{
    struct err err = {0};

    if (data_index_open_paged(index, store_uri("shards/"), 0, NULL, 0, NULL, &err) < 0)
        fail_msg("%s", err.msg);
}

static void write_pictures(void)
{
    for (int i = 0; i < COUNT; i++) {
        const struct picture picture = {
            .width = 20 + i % 30, .height = 40 - i % 25, .colours = PICTURE_YCC};
        struct buf bytes = {0};
        char path[128];

        snprintf(path, sizeof path, "%s/in/class-%d", root, i % CLASSES);
        assert_int_equal(file_make_folder(path, NULL), 0);
        snprintf(path, sizeof path, "%s/in/class-%d/%02d.jpg", root, i % CLASSES, i);
        picture_jpeg(&picture, &bytes);
        assert_int_equal(file_replace(path, bytes.data, bytes.bytes, NULL), 0);
        buf_release(&bytes);
    }
}

static int set_up(void **state)
{
    char in[96], packed[96];
    const struct data_pack_options options = {.source = in, .target = packed, .shard_bytes = 30000};
    struct err err = {0};

    (void)state;
    strcpy(root, "/tmp/convoy-fetch-XXXXXX");
    if (mkdtemp(root) == NULL)
        return -1;
    snprintf(in, sizeof in, "%s/in", root);
    snprintf(packed, sizeof packed, "%s/packed", root);
    write_pictures();
    if (data_pack(&options, &err) < 0)
        fail_msg("%s", err.msg);
    store = store_open();
    store_put_tree(store, in, "folder");
    store_put_tree(store, packed, "shards");
    open_index(in, &local);
    open_index(store_uri("folder"), &folder);
    open_index(store_uri("shards/"), &shards);
    open_paged(&paged);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    data_index_release(&local);
    data_index_release(&folder);
    data_index_release(&shards);
    data_index_release(&paged);
    store_close(store);
    s3_client_shared_close();
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void index_of_a_bucket_is_that_of_local_files(void **state)
{
    struct store_stats stats;

    (void)state;
    assert_int_equal(folder.count, COUNT);
    assert_memory_equal(folder.fingerprint, local.fingerprint, DIGEST_SHA256_BYTES);
    assert_memory_equal(shards.fingerprint, local.fingerprint, DIGEST_SHA256_BYTES);
    assert_true(shards.sharded && shards.files > 2);
    store_take_stats(store, &stats);
    assert_in_range(stats.lists, (COUNT + 9) / 10, (COUNT + 9) / 10 + 8);
    assert_int_equal(stats.gets, 1 + shards.files + 2); /* of the paged one its top, twice */
}

/* ---- the same pixels ---- */

/* One way to train: what a property test draws. */
struct draw {
    struct data_order order;
    uint32_t ranks, epoch, epoch_end;
    uint64_t step;
    struct data_stream_options options;
};

static struct draw draw_one(uint32_t number)
{
    static const uint64_t bytes[] = {1, 5000, 40000, 0};
    struct philox philox;
    struct draw draw = {0};

    philox_init(&philox, 7, number, 0, PHILOX_ORDER);
    draw.order = (struct data_order){.samples = COUNT,
                                     .chunk_samples = 1 + philox_u32(&philox) % 5,
                                     .seed = number,
                                     .batch = 1 + philox_u32(&philox) % 24,
                                     .drop_last = philox_u32(&philox) % 2};
    draw.order.lanes = 1 + philox_u32(&philox) % (draw.order.batch < 6 ? draw.order.batch : 6);
    draw.ranks = 1 + philox_u32(&philox) % draw.order.lanes;
    draw.epoch = philox_u32(&philox) % 3;
    draw.epoch_end = draw.epoch + 1 + philox_u32(&philox) % 2;
    draw.step = philox_u32(&philox) % (data_order_steps(&draw.order) + 1);
    draw.options = (struct data_stream_options){
        .transform = {.kind = DATA_TRANSFORM_RESIZED_CROP,
                      .size = SIZE,
                      .mean = {0.5f, 0.5f, 0.5f},
                      .std = {0.2f, 0.2f, 0.2f},
                      .seed = 9},
        .epoch = draw.epoch,
        .epoch_end = draw.epoch_end,
        .step = draw.step,
        .micro_batch = (int)(draw.order.batch / draw.order.lanes) + 1,
        .threads = 1 + (int)(philox_u32(&philox) % 3),
        .depth = 2 + (int)(philox_u32(&philox) % 3),
        .fetch_bytes = bytes[philox_u32(&philox) % 4],
        .fetch_threads = 1 + (int)(philox_u32(&philox) % 5),
    };
    return draw;
}

static struct data_stream *start(const struct draw *draw, const struct data_index *index,
                                 uint32_t rank, uint32_t ranks)
{
    struct data_stream_options options = draw->options;
    struct data_stream *stream;
    struct err err = {0};

    options.index = index;
    options.order = &draw->order;
    options.lane_begin = rank * draw->order.lanes / ranks;
    options.lane_end = (rank + 1) * draw->order.lanes / ranks;
    stream = data_stream_new(&options, &err);
    if (stream == NULL)
        fail_msg("%s", err.msg);
    return stream;
}

static int take(struct data_stream *stream, struct data_batch *batch)
{
    struct err err = {0};
    const int rc = data_stream_next(stream, batch, NULL, &err);

    if (rc < 0)
        fail_msg("%s", err.msg);
    return rc;
}

/* A rank's stream from the bucket beside one of all lanes from local files. */
static uint64_t compare(const struct draw *draw, const struct data_index *index, uint32_t rank)
{
    struct data_stream *ours = start(draw, index, rank, draw->ranks);
    struct data_stream *whole = start(draw, &local, 0, 1);
    struct data_batch got, want;
    uint64_t bytes = 0;

    while (take(ours, &got) == 1) {
        while (take(whole, &want) == 1 &&
               (want.epoch != got.epoch || want.step != got.step || want.lane != got.lane))
            data_stream_give_back(whole, &want);
        assert_int_equal(got.n, want.n);
        assert_memory_equal(got.samples, want.samples, (size_t)got.n * sizeof *got.samples);
        assert_memory_equal(got.labels, want.labels, (size_t)got.n * sizeof *got.labels);
        assert_memory_equal(got.x, want.x, (size_t)got.n * FLOATS * sizeof(float));
        for (int i = 0; i < got.n; i++)
            bytes += local.samples[got.samples[i]].bytes;
        data_stream_give_back(whole, &want);
        data_stream_give_back(ours, &got);
    }
    data_stream_free(ours);
    data_stream_free(whole);
    return bytes;
}

/* A request that takes long, as on a busy machine, is asked a second time (s3io/hedge.h). */
static unsigned long long asked_twice(void)
{
    struct s3_client_stats stats;

    s3_client_stats(s3_client_shared(NULL), &stats);
    return stats.hedged;
}

static void order_and_pixels_are_those_of_local_files_for_any_ranks_and_memory(void **state)
{
    const struct data_index *indices[] = {&folder, &shards, &paged};
    struct store_stats stats;

    (void)state;
    store_take_stats(store, &stats);
    for (uint32_t number = 0; number < DRAWS; number++)
        for (size_t i = 0; i < 3; i++) {
            const struct draw draw = draw_one(number);
            const unsigned long long twice = asked_twice();
            uint64_t bytes = 0;

            for (uint32_t rank = 0; rank < draw.ranks; rank++)
                bytes += compare(&draw, indices[i], rank);
            store_take_stats(store, &stats);
            if (asked_twice() != twice)
                continue;
            assert_true(stats.most <=
                        draw.epoch_end - draw.epoch); /* once an epoch, by all ranks */
            if (indices[i] == &folder)
                assert_int_equal(stats.bytes, bytes);
            else if (indices[i] == &shards)
                assert_in_range(stats.bytes, bytes, bytes + 2048 * stats.gets * COUNT);
        }
}

/* ---- memory ---- */

static struct data_fetch *start_fetch(const struct data_fetch_options *options)
{
    struct err err = {0};
    struct data_fetch *fetch = data_fetch_new(options, &err);

    if (fetch == NULL)
        fail_msg("%s", err.msg);
    return fetch;
}

static void read_all_in_order(struct data_fetch *fetch, const struct data_index *index)
{
    struct buf bytes = {0};
    struct err err = {0};
    int32_t label = -1;

    for (uint64_t i = 0; i < index->count; i++) {
        if (data_fetch_take(fetch, 0, 0, i, &bytes, &label, &err) < 0)
            fail_msg("%s", err.msg);
        assert_int_equal(bytes.bytes, index->samples[i].bytes);
    }
    buf_release(&bytes);
}

static uint64_t largest(const struct data_index *index)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < index->count; i++)
        bytes = index->samples[i].bytes > bytes ? index->samples[i].bytes : bytes;
    return bytes;
}

static void memory_held_stays_below_the_limit_or_is_one_picture(void **state)
{
    static const uint64_t limits[] = {1, 1000, 20000, 50000, 200000};
    const struct data_index *indices[] = {&folder, &shards};

    (void)state;
    for (size_t l = 0; l < sizeof limits / sizeof *limits; l++)
        for (size_t i = 0; i < 2; i++) {
            const struct data_fetch_options options = {
                .index = indices[i], .sample_end = COUNT, .bytes = limits[l], .threads = 4};
            struct data_fetch *fetch = start_fetch(&options);
            struct data_fetch_stats stats;

            do /* what there is room for is read ahead, though nobody asked yet */
                data_fetch_stats(fetch, &stats);
            while (limits[l] == 20000 && stats.held_max <= limits[l] / 2);
            read_all_in_order(fetch, indices[i]);
            data_fetch_stats(fetch, &stats);
            assert_true(stats.held_max <= limits[l] || stats.held_max <= largest(&local));
            data_fetch_free(fetch);
        }
}

static void shards_are_read_by_long_ranges_where_memory_allows(void **state)
{
    const struct data_fetch_options options = {.index = &shards, .sample_end = COUNT, .threads = 2};
    struct data_fetch *fetch = start_fetch(&options);
    struct data_fetch_stats stats;

    (void)state;
    read_all_in_order(fetch, &shards);
    data_fetch_stats(fetch, &stats);
    assert_int_equal(stats.requests, shards.files);
    data_fetch_free(fetch);
}

/* The local file "NN.jpg", whose class follows from its number. */
static void load_local(const char *name, struct buf *bytes)
{
    char path[128];

    snprintf(path, sizeof path, "%s/in/class-%d/%s", root, atoi(name) % CLASSES, name);
    assert_int_equal(file_read(path, 1 << 20, bytes, NULL), 0);
}

/* A stream over the whole index gives what decoding the local file of the same name does. */
static void expect_pixels(const struct data_index *index)
{
    const struct data_stream_options options = {
        .index = index,
        .transform = {.kind = DATA_TRANSFORM_RESIZE, .size = SIZE, .std = {1, 1, 1}},
        .sample_end = index->count,
        .micro_batch = 8,
        .threads = 2,
        .depth = 2,
        .fetch_bytes = 1 << 20,
        .fetch_threads = 3,
    };
    struct err err = {0};
    struct data_stream *stream = data_stream_new(&options, &err);
    struct data_decoder *const decoder = data_decoder_new();
    struct data_scratch scratch = {0};
    struct data_image image = {0};
    struct data_batch batch;
    uint64_t next = 0;

    assert_non_null(stream);
    while (data_stream_next(stream, &batch, NULL, &err) == 1) {
        for (int i = 0; i < batch.n; i++) {
            const char *name = strrchr(index->samples[next].key, '/');
            struct buf bytes = {0};
            float want[FLOATS];

            assert_int_equal(batch.samples[i], next);
            load_local(name == NULL ? index->samples[next].key : name + 1, &bytes);
            assert_int_equal(data_transform_decode(&options.transform, decoder, bytes.data,
                                                   bytes.bytes, next, 0, &image, NULL),
                             0);
            data_transform_apply(&options.transform, &image, next++, 0, &scratch, want);
            assert_memory_equal(batch.x + (size_t)i * FLOATS, want, sizeof want);
            buf_release(&bytes);
        }
        data_stream_give_back(stream, &batch);
    }
    assert_int_equal(next, index->count);
    data_stream_free(stream);
    data_decoder_free(decoder);
    data_image_release(&image);
    data_scratch_release(&scratch);
}

/* Of a prefix and of one object; index order is by keys there. */
static void given_objects_come_in_their_order_with_the_pixels_of_local_files(void **state)
{
    const char *path = store_uri("folder");
    struct data_index given = {0}, one = {0};
    char object[256];
    struct err err = {0};

    (void)state;
    if (data_files_open(&given, &path, 1, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(given.count, COUNT);
    for (size_t i = 1; i < given.count; i++)
        assert_true(strcmp(given.samples[i - 1].key, given.samples[i].key) < 0);
    expect_pixels(&given);
    snprintf(object, sizeof object, "%s/%s", path, given.samples[5].key);
    path = object;
    if (data_files_open(&one, &path, 1, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(one.count, 1);
    assert_string_equal(one.samples[0].key, strrchr(object, '/') + 1);
    assert_int_equal(one.samples[0].bytes, given.samples[5].bytes);
    expect_pixels(&one);
    snprintf(object, sizeof object, "%s", store_uri("nothing/here.jpg"));
    assert_int_equal(data_files_open(&one, &path, 1, NULL, &err), -1);
    assert_non_null(strstr(err.msg, object));
    data_index_release(&given);
    data_index_release(&one);
}

static void nothing_is_nothing(void **state)
{
    const struct data_fetch_options options = {
        .index = &folder, .sample_begin = 5, .sample_end = 5};

    (void)state;
    data_fetch_free(start_fetch(&options));
    data_fetch_free(NULL);
    data_fetch_stop(NULL);
}

/* ---- what goes wrong ---- */

static void expect_failure(struct data_fetch *fetch, uint64_t place, enum err_code code,
                           const char *said)
{
    struct buf bytes = {0};
    struct err err = {0};
    int32_t label;

    assert_int_equal(data_fetch_take(fetch, 0, 0, place, &bytes, &label, &err), -1);
    assert_int_equal(err.code, code);
    if (strstr(err.msg, said) == NULL)
        fail_msg("'%s' is not in: %s", said, err.msg);
    assert_int_equal(bytes.bytes, 0);
    buf_release(&bytes);
}

static void object_that_is_gone_or_replaced_is_named(void **state)
{
    const char *key = folder.samples[3].key;
    const struct data_fetch_options options = {
        .index = &folder, .sample_begin = 3, .sample_end = 4, .threads = 1};
    struct buf content = {0};
    struct data_fetch *fetch;
    char name[128], path[160];

    (void)state;
    snprintf(name, sizeof name, "folder/%s", key);
    snprintf(path, sizeof path, "%s/in/%s", root, key);
    assert_int_equal(file_read(path, 1 << 20, &content, NULL), 0);
    store_put(store, name, content.data, content.bytes); /* the same bytes, another object */
    fetch = start_fetch(&options);
    expect_failure(fetch, 0, ERR_INPUT, name);
    data_fetch_free(fetch);
    store_put(store, name, content.data, content.bytes - 1);
    fetch = start_fetch(&options);
    expect_failure(fetch, 0, ERR_INPUT, name);
    data_fetch_free(fetch);
    store_delete(store, name);
    fetch = start_fetch(&options);
    expect_failure(fetch, 0, ERR_INPUT, "no such key");
    data_fetch_free(fetch);
    store_put(store, name, content.data, content.bytes);
    buf_release(&content);
    data_index_release(&folder); /* as it is now */
    open_index(store_uri("folder"), &folder);
}

static void sample_of_a_shard_with_another_crc_is_named(void **state)
{
    const uint32_t right = shards.samples[9].crc32c;
    const struct data_fetch_options options = {
        .index = &shards, .sample_begin = 8, .sample_end = 11, .threads = 1};
    struct data_fetch *fetch;
    struct buf bytes = {0};
    struct err err = {0};
    struct store_stats read;
    struct data_fetch_stats stats;
    int32_t label;

    (void)state;
    store_take_stats(store, &read);
    shards.samples[9].crc32c ^= 1;
    fetch = start_fetch(&options);
    assert_int_equal(data_fetch_take(fetch, 0, 0, 0, &bytes, &label, &err), 0);
    expect_failure(fetch, 1, ERR_INPUT, shards.samples[9].key);
    assert_int_equal(data_fetch_take(fetch, 0, 0, 2, &bytes, &label, &err), 0);
    data_fetch_stats(fetch, &stats);
    assert_int_equal(stats.damaged, 1);
    store_take_stats(store, &read);
    assert_int_equal(read.gets, stats.requests + 3);
    buf_release(&bytes);
    data_fetch_free(fetch);
    shards.samples[9].crc32c = right;
}

/* Up to three of a sample's four readings may be damaged. */
static void sample_of_a_shard_that_comes_damaged_is_read_again(void **state)
{
    static const struct {
        uint64_t samples;
        int damages;
        enum err_code code;
    } cases[] = {{1, 1, ERR_NONE}, {1, 3, ERR_NONE}, {1, 4, ERR_INPUT}, {5, 1, ERR_NONE}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct data_fetch_options options = {
            .index = &shards, .sample_end = cases[i].samples, .threads = 1};
        struct data_fetch_stats stats;
        struct data_fetch *fetch;
        struct err err = {0};
        struct buf bytes = {0};
        int32_t label;

        store_damage(store, ".tar", cases[i].damages);
        fetch = start_fetch(&options);
        assert_int_equal(data_fetch_take(fetch, 0, 0, 0, &bytes, &label, &err),
                         cases[i].code == ERR_NONE ? 0 : -1);
        assert_int_equal(err.code, cases[i].code);
        if (err.code == ERR_NONE)
            assert_int_equal(digest_crc32c(0, bytes.data, bytes.bytes), shards.samples[0].crc32c);
        data_fetch_stats(fetch, &stats);
        assert_int_equal(stats.damaged, 1);
        buf_release(&bytes);
        data_fetch_free(fetch);
        store_damage(store, ".tar", 0);
    }
}

static void index_that_comes_damaged_is_read_again(void **state)
{
    static const struct {
        const char *part;
        int damages;
        bool opens;
    } cases[] = {{".idx", 1, true},
                 {".idx", 8, true}, /* three times three reads */
                 {"index.json", 1, true},
                 {"index.json", 2, true},
                 {"index.json", 3, false}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct data_index index = {0};
        struct err err = {0};
        int rc;

        store_damage(store, cases[i].part, cases[i].damages);
        rc = data_index_open(&index, store_uri("shards"), NULL, 0, NULL, &err);
        store_damage(store, cases[i].part, 0);
        assert_int_equal(rc, cases[i].opens ? 0 : -1);
        if (rc < 0)
            assert_non_null(strstr(err.msg, cases[i].part));
        else
            assert_memory_equal(index.fingerprint, local.fingerprint, DIGEST_SHA256_BYTES);
        data_index_release(&index);
    }
}

static void wait_for_requests(int count)
{
    const int before = store_requests(store);

    while (store_requests(store) < before + count)
        usleep(1000);
}

static void server_that_is_away_while_nobody_waits_is_asked_again(void **state)
{
    const struct data_fetch_options options = {.index = &shards, .sample_end = COUNT, .threads = 2};
    struct data_fetch *fetch;

    (void)state;
    store_set_mood(store, STORE_AWAY);
    fetch = start_fetch(&options);
    wait_for_requests(4);
    store_set_mood(store, STORE_ANSWERS);
    read_all_in_order(fetch, &shards);
    data_fetch_free(fetch);
}

static void server_that_stays_away_is_a_failure_once_somebody_waits(void **state)
{
    const struct data_fetch_options options = {.index = &folder, .sample_end = COUNT, .threads = 3};
    struct data_fetch *fetch;

    (void)state;
    store_set_mood(store, STORE_AWAY);
    fetch = start_fetch(&options);
    expect_failure(fetch, 0, ERR_NET, "folder/");
    expect_failure(fetch, COUNT - 1, ERR_NET, "folder/");
    data_fetch_free(fetch);
    store_set_mood(store, STORE_ANSWERS);
}

static volatile sig_atomic_t cancelled;

static int requests_before; /* the server fell silent */

static void *stop_it(void *fetch)
{
    while (store_requests(store) == requests_before)
        usleep(1000);
    if (fetch != NULL)
        data_fetch_stop(fetch);
    else
        __atomic_store_n(&cancelled, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void stop_and_cancel_end_a_wait_for_a_silent_server(void **state)
{
    (void)state;
    for (int by_cancel = 0; by_cancel < 2; by_cancel++) {
        const struct data_fetch_options options = {
            .index = &shards, .sample_end = COUNT, .threads = 1, .cancel = &cancelled};
        const double begin = clock_now_s();
        struct data_fetch *fetch;
        pthread_t thread;

        store_set_mood(store, STORE_AWAY);
        fetch = start_fetch(&options);
        wait_for_requests(1);
        requests_before = store_requests(store);
        store_set_mood(store, STORE_SILENT);
        assert_int_equal(pthread_create(&thread, NULL, stop_it, by_cancel ? NULL : fetch), 0);
        expect_failure(fetch, 0, ERR_STOPPED, "stopped");
        pthread_join(thread, NULL);
        data_fetch_free(fetch);
        assert_true(clock_now_s() - begin < 15); /* a silent server is given up after 20 s */
        store_set_mood(store, STORE_ANSWERS);
    }
    cancelled = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(index_of_a_bucket_is_that_of_local_files),
        cmocka_unit_test(order_and_pixels_are_those_of_local_files_for_any_ranks_and_memory),
        cmocka_unit_test(memory_held_stays_below_the_limit_or_is_one_picture),
        cmocka_unit_test(shards_are_read_by_long_ranges_where_memory_allows),
        cmocka_unit_test(given_objects_come_in_their_order_with_the_pixels_of_local_files),
        cmocka_unit_test(nothing_is_nothing),
        cmocka_unit_test(object_that_is_gone_or_replaced_is_named),
        cmocka_unit_test(sample_of_a_shard_with_another_crc_is_named),
        cmocka_unit_test(sample_of_a_shard_that_comes_damaged_is_read_again),
        cmocka_unit_test(index_that_comes_damaged_is_read_again),
        cmocka_unit_test(server_that_is_away_while_nobody_waits_is_asked_again),
        cmocka_unit_test(server_that_stays_away_is_a_failure_once_somebody_waits),
        cmocka_unit_test(stop_and_cancel_end_a_wait_for_a_silent_server),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
