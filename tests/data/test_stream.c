/* tests/data/test_stream.c -- what comes out of a stream is what the order says, on any number of
 * threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "tests/data/pictures.h"
#include "trainer/data/index/index.h"
#include "trainer/data/pack/pack.h"
#include "trainer/data/picture/decode.h"
#include "trainer/data/set/open.h"
#include "trainer/data/stream/stream.h"

#define SIZE    16
#define FLOATS  (SIZE * SIZE * 3)
#define CLASSES 3
#define EACH    21 /* pictures of a class */

static char root[64];
static struct data_index index_of_folder;

static const int thread_counts[] = {1, 2, 5};

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat, (void)type, (void)ftw;
    return remove(path);
}

static const char *picture_path(int class, int number)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/in/class-%d/%02d.jpg", root, class, number);
    return path;
}

/* Pictures of differing sizes: every seventh a PNG by content, whatever its name says. */
static void write_picture(int class, int number)
{
    const struct picture picture = {.width = 20 + class * 5 + number,
                                    .height = 40 - number,
                                    .colours = number % 5 == 4 ? PICTURE_GREY : PICTURE_YCC};
    struct buf bytes = {0};

    if (number % 7 == 3)
        picture_png(picture.width, picture.height, PICTURE_PNG_RGB, false, &bytes);
    else
        picture_jpeg(&picture, &bytes);
    assert_int_equal(file_replace(picture_path(class, number), bytes.data, bytes.bytes, NULL), 0);
    buf_release(&bytes);
}

static int set_up(void **state)
{
    (void)state;
    strcpy(root, "/tmp/convoy-stream-XXXXXX");
    if (mkdtemp(root) == NULL)
        return -1;
    for (int class = 0; class < CLASSES; class ++) {
        char folder[128];

        snprintf(folder, sizeof folder, "%s/in/class-%d", root, class);
        file_make_folder(folder, NULL);
        for (int number = 0; number < EACH; number++)
            write_picture(class, number);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    data_index_release(&index_of_folder);
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void open_index(const char *name, struct data_index *index)
{
    char path[128];
    struct err err = {0};

    snprintf(path, sizeof path, "%s/%s", root, name);
    if (data_index_open(index, path, NULL, 0, NULL, &err) < 0)
        fail_msg("%s", err.msg);
}

/* 63 samples: steps of 16, the last of 15; lanes of 4, one of the last step shorter. */
static struct data_order make_order(void)
{
    return (struct data_order){
        .samples = CLASSES * EACH, .chunk_samples = 4, .seed = 9, .batch = 16, .lanes = 4};
}

static struct data_stream_options make_options(const struct data_order *order, int threads)
{
    return (struct data_stream_options){
        .index = &index_of_folder,
        .transform = {.kind = DATA_TRANSFORM_RESIZED_CROP,
                      .size = SIZE,
                      .mean = {0.5f, 0.5f, 0.5f},
                      .std = {0.2f, 0.2f, 0.2f},
                      .seed = 9},
        .order = order,
        .lane_end = order != NULL ? order->lanes : 0,
        .epoch_end = 3,
        .sample_end = order != NULL ? 0 : CLASSES * EACH,
        .micro_batch = 4,
        .threads = threads,
        .depth = 3,
    };
}

static struct data_stream *start(const struct data_stream_options *options)
{
    struct err err = {0};
    struct data_stream *stream = data_stream_new(options, &err);

    if (stream == NULL)
        fail_msg("%s", err.msg);
    return stream;
}

/* The batch must be on hand: 1 and 0 as data_stream_next. */
static int take(struct data_stream *stream, struct data_batch *batch)
{
    struct err err = {0};
    const int rc = data_stream_next(stream, batch, NULL, &err);

    if (rc < 0)
        fail_msg("%s", err.msg);
    return rc;
}

/* The sample's floats without a stream. */
static void expect_floats(const struct data_stream_options *options, uint64_t sample,
                          uint32_t epoch, const float *got)
{
    char *path = data_index_path(&index_of_folder, sample);
    struct data_decoder *const decoder = data_decoder_new();
    struct data_image image = {0};
    struct data_scratch scratch = {0};
    struct buf bytes = {0};
    float want[FLOATS];

    assert_int_equal(file_read(path, 1 << 20, &bytes, NULL), 0);
    assert_int_equal(data_transform_decode(&options->transform, decoder, bytes.data, bytes.bytes,
                                           sample, epoch, &image, NULL),
                     0);
    data_transform_apply(&options->transform, &image, sample, epoch, &scratch, want);
    assert_memory_equal(got, want, sizeof want);
    data_decoder_free(decoder);
    data_image_release(&image);
    data_scratch_release(&scratch);
    buf_release(&bytes);
    free(path);
}

static void expect_batch(const struct data_stream_options *options, const struct data_batch *batch)
{
    for (int i = 0; i < batch->n; i++) {
        const uint64_t sample = batch->samples[i];

        if (options->order != NULL)
            assert_int_equal(sample, data_order_sample(options->order, batch->epoch, batch->step,
                                                       batch->lane, (uint32_t)i));
        assert_int_equal(batch->labels[i], options->index->samples[sample].label);
        expect_floats(options, sample, batch->epoch, batch->x + (size_t)i * FLOATS);
    }
}

static void stream_gives_each_sample_as_the_order_says_on_any_number_of_threads(void **state)
{
    const struct data_order order = make_order();

    (void)state;
    open_index("in", &index_of_folder);
    for (size_t t = 0; t < 3; t++) {
        struct data_stream_options options = make_options(&order, thread_counts[t]);
        struct data_stream *stream;
        struct data_batch batch;
        struct data_stream_stats stats;
        uint64_t images = 0;

        options.lane_begin = 1;
        options.lane_end = 3;
        stream = start(&options);
        for (uint32_t epoch = 0; epoch < 3; epoch++)
            for (uint64_t step = 0; step < 4; step++)
                for (uint32_t lane = 1; lane < 3; lane++) {
                    assert_int_equal(take(stream, &batch), 1);
                    assert_int_equal(batch.epoch, epoch);
                    assert_int_equal(batch.step, step);
                    assert_int_equal(batch.lane, lane);
                    assert_int_equal(batch.n, data_order_lane_images(&order, step, lane));
                    expect_batch(&options, &batch);
                    images += (uint64_t)batch.n;
                    data_stream_give_back(stream, &batch);
                }
        assert_int_equal(take(stream, &batch), 0);
        assert_int_equal(take(stream, &batch), 0); /* the end stays the end */
        data_stream_stats(stream, &stats);
        assert_int_equal(stats.images, images);
        assert_int_equal(stats.truncated, 0);
        data_stream_free(stream);
    }
}

static void stream_leaves_absent_micro_batches_out_when_the_last_step_is_short(void **state)
{
    struct data_order order = make_order();
    struct data_stream_options options = make_options(&order, 2);
    struct data_stream *stream;
    struct data_batch batch;
    int batches = 0;

    (void)state;
    open_index("in", &index_of_folder);
    order.batch = 20; /* 63 = 3 x 20 + 3: three of four lanes have one image in the last step */
    options.micro_batch = 5;
    options.epoch_end = 2;
    stream = start(&options);
    while (take(stream, &batch) == 1) {
        assert_int_equal(batch.n, batch.step < 3 ? 5 : 1);
        data_stream_give_back(stream, &batch);
        batches++;
    }
    assert_int_equal(batches, 2 * (3 * 4 + 3));
    data_stream_free(stream);
    order.drop_last = true;
    order.batch = 64; /* no step at all */
    options.micro_batch = 16;
    stream = start(&options);
    assert_int_equal(take(stream, &batch), 0);
    data_stream_free(stream);
}

static void stream_goes_on_as_if_never_stopped_when_resumed_anywhere(void **state)
{
    const struct data_order order = make_order();
    struct data_stream_options options = make_options(&order, 2);

    (void)state;
    open_index("in", &index_of_folder);
    for (uint64_t step = 0; step <= 4;
         step++) { /* 4: the epoch's end, that is the next one's begin */
        struct data_stream *stream;
        struct data_batch batch;

        options.epoch = 1;
        options.step = step;
        stream = start(&options);
        for (int i = 0; i < 6; i++) {
            const uint64_t at = 4 + step + (uint64_t)i / 4; /* steps since epoch 0 */

            assert_int_equal(take(stream, &batch), 1);
            assert_int_equal(batch.epoch, at / 4);
            assert_int_equal(batch.step, at % 4);
            assert_int_equal(batch.lane, i % 4);
            expect_batch(&options, &batch);
            data_stream_give_back(stream, &batch);
        }
        data_stream_free(stream); /* with batches on hand and in work */
    }
}

static void stream_gives_a_range_in_index_order_for_evaluation(void **state)
{
    static const struct {
        uint64_t begin, end;
    } cases[] = {{0, 63}, {5, 18}, {7, 7}, {62, 63}};

    (void)state;
    open_index("in", &index_of_folder);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct data_stream_options options = make_options(NULL, 3);
        struct data_stream *stream;
        struct data_batch batch;
        uint64_t next = cases[c].begin, number = 0;

        options.transform.kind = DATA_TRANSFORM_CENTER;
        options.sample_begin = cases[c].begin;
        options.sample_end = cases[c].end;
        stream = start(&options);
        while (take(stream, &batch) == 1) {
            assert_int_equal(batch.step, number++);
            assert_int_equal(batch.n, next + 4 <= cases[c].end ? 4 : cases[c].end - next);
            for (int i = 0; i < batch.n; i++)
                assert_int_equal(batch.samples[i], next++);
            expect_batch(&options, &batch);
            data_stream_give_back(stream, &batch);
        }
        assert_int_equal(next, cases[c].end);
        data_stream_free(stream);
    }
}

static void pack_folder(void)
{
    char in[128], out[128];
    struct data_pack_options options = {.source = in, .target = out, .shard_bytes = 20000};
    struct err err = {0};

    snprintf(in, sizeof in, "%s/in", root);
    snprintf(out, sizeof out, "%s/packed", root);
    if (data_pack(&options, &err) < 0)
        fail_msg("%s", err.msg);
}

static void stream_gives_the_same_floats_from_shards(void **state)
{
    const struct data_order order = make_order();
    struct data_stream_options options = make_options(&order, 2);
    struct data_index shards = {0};
    struct data_stream *stream;
    struct data_batch batch;
    int batches = 0;

    (void)state;
    open_index("in", &index_of_folder);
    pack_folder();
    open_index("packed", &shards);
    assert_true(shards.sharded && shards.files > 1);
    options.index = &shards;
    stream = start(&options);
    while (take(stream, &batch) == 1) {
        expect_batch(&options, &batch);
        data_stream_give_back(stream, &batch);
        batches++;
    }
    assert_int_equal(batches, 3 * 4 * 4);
    data_stream_free(stream);
    data_index_release(&shards);
}

/* Whole batches before the error, which must be ERR_INPUT. */
static int batches_until_error(const struct data_stream_options *options, struct err *err)
{
    struct data_stream *stream = start(options);
    struct data_batch batch;
    struct err again = {0};
    int batches = 0, rc;

    while ((rc = data_stream_next(stream, &batch, NULL, err)) == 1) {
        data_stream_give_back(stream, &batch);
        batches++;
    }
    assert_int_equal(rc, -1);
    assert_int_equal(err->code, ERR_INPUT);
    assert_int_equal(data_stream_next(stream, &batch, NULL, &again), -1);
    assert_string_equal(again.msg, err->msg);
    data_stream_free(stream);
    return batches;
}

static void stream_says_which_shard_does_not_match_its_index(void **state)
{
    struct data_stream_options options = make_options(NULL, 2);
    struct data_index shards = {0};
    struct err err = {0};
    char *path;
    char byte;
    int fd;

    (void)state;
    pack_folder();
    open_index("packed", &shards);
    options.index = &shards;
    path = data_index_path(&shards, 30);
    fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, (off_t)shards.samples[30].offset + 200), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)shards.samples[30].offset + 200), 1);
    assert_int_equal(batches_until_error(&options, &err), 7); /* sample 30 is in batch 7 of 4 */
    assert_non_null(strstr(err.msg, path));
    assert_non_null(strstr(err.msg, "does not match its index"));
    assert_non_null(strstr(err.msg, shards.samples[30].key));
    assert_int_equal(ftruncate(fd, (off_t)shards.samples[30].offset + 10), 0);
    batches_until_error(&options, &err);
    assert_non_null(strstr(err.msg, "does not match its index"));
    close(fd);
    free(path);
    data_index_release(&shards);
}

/* Make a sample's file something else of the same length. */
static void spoil(uint64_t sample)
{
    char *path = data_index_path(&index_of_folder, sample);
    const size_t bytes = index_of_folder.samples[sample].bytes;
    char *text = malloc(bytes);

    memset(text, 'x', bytes);
    assert_int_equal(file_replace(path, text, bytes, NULL), 0);
    free(text);
    free(path);
}

static void stream_names_the_first_bad_file_in_order_whichever_thread_is_fastest(void **state)
{
    char *path;

    (void)state;
    open_index("in", &index_of_folder);
    for (uint64_t sample = 22; sample < 40; sample++)
        spoil(sample);
    path = data_index_path(&index_of_folder, 22);
    for (int round = 0; round < 12; round++) {
        struct data_stream_options options = make_options(NULL, thread_counts[round % 3]);
        struct err err = {0};
        char want[256];

        options.stop_at_bad = true;

        assert_int_equal(batches_until_error(&options, &err), 5);
        snprintf(want, sizeof want, "'%s': neither a JPEG nor a PNG", path);
        assert_string_equal(err.msg, want);
    }
    free(path);
}

/* What is left of batches of 4 when samples 5, 7 and 12 .. 15 are no pictures. */
static void stream_leaves_out_what_cannot_be_decoded_and_closes_ranks(void **state)
{
    static const uint64_t bad[] = {5, 7, 12, 13, 14, 15};
    char *path;

    (void)state;
    open_index("in", &index_of_folder);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        spoil(bad[i]);
    path = data_index_path(&index_of_folder, 5);
    for (int round = 0; round < 6; round++) {
        struct data_stream_options options = make_options(NULL, thread_counts[round % 3]);
        struct data_stream_stats stats;
        struct data_stream *stream;
        struct data_batch batch;
        char want[256];

        options.sample_end = 20;
        stream = start(&options);
        for (int b = 0; b < 5; b++) {
            static const int left[] = {4, 2, 4, 0, 4};

            assert_int_equal(data_stream_next(stream, &batch, NULL, NULL), 1);
            assert_int_equal(batch.n, left[b]);
            assert_int_equal(batch.bad_count, 4 - left[b]);
            if (b == 1) {
                assert_int_equal(batch.bad[0].sample, 5);
                assert_int_equal(batch.bad[1].sample, 7);
                assert_non_null(strstr(batch.bad[0].why, path));
                assert_non_null(strstr(batch.bad[1].why, "neither a JPEG nor a PNG"));
                assert_int_equal(batch.samples[0], 4);
                assert_int_equal(batch.samples[1], 6);
            }
            expect_batch(&options, &batch);
            data_stream_give_back(stream, &batch);
        }
        assert_int_equal(data_stream_next(stream, &batch, NULL, NULL), 0);
        data_stream_stats(stream, &stats);
        assert_int_equal(stats.images, 14);
        assert_int_equal(stats.left_out, 6);
        snprintf(want, sizeof want, "'%s': neither a JPEG nor a PNG", path);
        assert_string_equal(stats.left_out_first, want);
        data_stream_free(stream);
    }
    free(path);
}

static void stream_names_a_file_that_changed_or_went_after_the_folder_was_listed(void **state)
{
    const struct data_stream_options options = make_options(NULL, 2);
    struct err err = {0};
    char *path;

    (void)state;
    open_index("in", &index_of_folder);
    path = data_index_path(&index_of_folder, 9);
    assert_int_equal(truncate(path, index_of_folder.samples[9].bytes + 1), 0);
    assert_int_equal(batches_until_error(&options, &err), 2);
    assert_non_null(strstr(err.msg, path));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(batches_until_error(&options, &err), 2);
    assert_non_null(strstr(err.msg, path));
    assert_non_null(strstr(err.msg, "No such file"));
    free(path);
}

static void stream_counts_truncated_jpegs_and_names_the_first(void **state)
{
    uint64_t first = UINT64_MAX;
    char *path;

    (void)state;
    for (int class = 0; class < CLASSES; class ++) { /* 05.jpg is an ordinary JPEG */
        struct buf bytes = {0};

        assert_int_equal(file_read(picture_path(class, 5), 1 << 20, &bytes, NULL), 0);
        assert_int_equal(truncate(picture_path(class, 5), (off_t)(bytes.bytes - 100)), 0);
        buf_release(&bytes);
    }
    open_index("in", &index_of_folder);
    for (uint64_t i = index_of_folder.count; i-- > 0;)
        if (strstr(index_of_folder.samples[i].key, "/05.jpg") != NULL)
            first = i;
    path = data_index_path(&index_of_folder, first);
    for (size_t t = 0; t < 3; t++) {
        const struct data_stream_options options = make_options(NULL, thread_counts[t]);
        struct data_stream *stream = start(&options);
        struct data_stream_stats stats;
        struct data_batch batch;

        while (take(stream, &batch) == 1)
            data_stream_give_back(stream, &batch);
        data_stream_stats(stream, &stats);
        assert_int_equal(stats.images, CLASSES * EACH);
        assert_int_equal(stats.truncated, 3);
        assert_string_equal(stats.truncated_first, path);
        data_stream_free(stream);
    }
    free(path);
}

static volatile sig_atomic_t cancelled;

static void cancel(int signal_number)
{
    (void)signal_number;
    cancelled = 1;
}

static void stream_stops_waiting_when_cancelled(void **state)
{
    const struct data_order order = make_order();
    const struct data_stream_options options = make_options(&order, 2);
    const struct itimerval soon = {.it_value.tv_usec = 30000};
    struct data_stream *stream;
    struct data_batch batch;
    struct err err = {0};

    (void)state;
    open_index("in", &index_of_folder);
    stream = start(&options);
    for (int i = 0; i < 3; i++) /* all slots are the caller's: nothing more can come */
        assert_int_equal(take(stream, &batch), 1);
    cancelled = 0;
    signal(SIGALRM, cancel);
    assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
    assert_int_equal(data_stream_next(stream, &batch, &cancelled, &err), -1);
    assert_int_equal(err.code, ERR_STOPPED);
    signal(SIGALRM, SIG_DFL);
    data_stream_free(stream);
}

static void stream_leaves_a_batch_alone_while_the_caller_has_it(void **state)
{
    const struct data_order order = make_order();
    const struct data_stream_options options = make_options(&order, 5);
    struct data_stream *stream;
    struct data_batch held, batch;

    (void)state;
    open_index("in", &index_of_folder);
    stream = start(&options);
    assert_int_equal(take(stream, &held), 1);
    for (int i = 1; i < 20; i++) {
        assert_int_equal(take(stream, &batch), 1);
        expect_batch(&options, &batch);
        data_stream_give_back(stream, &batch);
    }
    expect_batch(&options, &held);
    data_stream_give_back(stream, &held);
    data_stream_free(stream);
    data_stream_free(NULL);
}

static void stream_says_what_is_too_large_for_memory(void **state)
{
    struct data_stream_options options = make_options(NULL, 1);
    struct err err = {0};

    (void)state;
    open_index("in", &index_of_folder);
    options.micro_batch = 1 << 30;
    options.transform.size = 1 << 20;
    assert_null(data_stream_new(&options, &err));
    assert_int_equal(err.code, ERR_MEMORY);
    assert_non_null(strstr(err.msg, "--micro-batch"));
    assert_non_null(strstr(err.msg, "--image-size"));
}

#define TREE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TREE_TEST(stream_gives_each_sample_as_the_order_says_on_any_number_of_threads),
        TREE_TEST(stream_leaves_absent_micro_batches_out_when_the_last_step_is_short),
        TREE_TEST(stream_goes_on_as_if_never_stopped_when_resumed_anywhere),
        TREE_TEST(stream_gives_a_range_in_index_order_for_evaluation),
        TREE_TEST(stream_gives_the_same_floats_from_shards),
        TREE_TEST(stream_says_which_shard_does_not_match_its_index),
        TREE_TEST(stream_names_the_first_bad_file_in_order_whichever_thread_is_fastest),
        TREE_TEST(stream_leaves_out_what_cannot_be_decoded_and_closes_ranks),
        TREE_TEST(stream_names_a_file_that_changed_or_went_after_the_folder_was_listed),
        TREE_TEST(stream_counts_truncated_jpegs_and_names_the_first),
        TREE_TEST(stream_stops_waiting_when_cancelled),
        TREE_TEST(stream_leaves_a_batch_alone_while_the_caller_has_it),
        TREE_TEST(stream_says_what_is_too_large_for_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
