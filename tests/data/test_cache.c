/* tests/data/test_cache.c -- pictures kept on the disk: never more than may be, never others than
 * were put in; flipped bits, kills, several processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <sys/file.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/philox.h"
#include "kept.h"
#include "trainer/data/cache/cache.h"
#include "trainer/data/index/index.h"

#define FLIPS 400
#define KILLS 60

/* ---- cases ---- */

static void what_was_put_comes_back_also_in_the_next_run(void **state)
{
    struct data_cache *cache = kept_open_cache(10 << 20);
    bool there[3];

    (void)state;
    assert_int_equal(kept_read_epoch(cache, 0), 0);
    assert_int_equal(kept_read_epoch(cache, 1), KEPT_COUNT);
    data_cache_free(cache);
    cache = kept_open_cache(10 << 20);
    assert_int_equal(kept_read_epoch(cache, 0), KEPT_COUNT);
    data_cache_look(data_cache_set(cache, &kept_pictures), (const uint64_t[]){599, 0, 17}, 3,
                    there);
    assert_true(there[0] && there[1] && there[2]);
    assert_int_equal(kept_stats_of(cache).hits, KEPT_COUNT);
    assert_int_equal(kept_stats_of(cache).kept, 0);
    data_cache_free(cache);
}

static void it_stays_within_its_bytes_whatever_they_are(void **state)
{
    int before = -1;

    (void)state;
    for (uint64_t bytes = 50000; bytes < 1600000; bytes += 150000) {
        struct data_cache *cache = kept_open_cache(bytes);
        int hits = 0;

        assert_true(kept_disk_use() <= bytes);
        for (uint32_t epoch = 0; epoch < 4; epoch++) {
            hits = kept_read_epoch(cache, epoch);
            assert_true(kept_disk_use() <= kept_stats_of(cache).disk_bytes);
            assert_true(kept_stats_of(cache).disk_bytes <= bytes);
        }
        assert_true(hits >= before);
        before = hits;
        kept_close_counted(cache, bytes);
    }
    assert_int_equal(before, KEPT_COUNT);
}

static void without_room_for_a_chunk_nothing_is_kept(void **state)
{
    struct err err = {0};
    struct data_cache *cache;

    (void)state;
    assert_null(data_cache_new(kept_root, 5000, NULL, &err));
    assert_int_equal(err.code, ERR_IO);
    assert_true(kept_disk_use() <= 5000);
    for (uint64_t bytes = 24576; bytes <= 60000; bytes += 4096) {
        cache = kept_open_cache(bytes);
        assert_int_equal(kept_read_epoch(cache, 0), 0);
        assert_int_equal(kept_read_epoch(cache, 1), 0);
        assert_true(kept_disk_use() <= bytes);
        data_cache_free(cache);
    }
}

static void flip(struct philox *philox, const char *path)
{
    const int fd = open(path, O_RDWR);
    unsigned char byte;
    off_t at;

    assert_true(fd >= 0);
    at = (off_t)(philox_u32(philox) % (uint64_t)lseek(fd, 0, SEEK_END));
    if (philox_u32(philox) % 3 == 0) /* of header and records */
        at %= 200;
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= (unsigned char)(1u << philox_u32(philox) % 8);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void flipped_bits_are_noticed_and_read_again(void **state)
{
    struct data_cache *cache = kept_open_cache(10 << 20);
    struct philox philox;
    uint64_t again = 0;

    (void)state;
    philox_init(&philox, 5, 1, 1, PHILOX_ORDER);
    kept_read_epoch(cache, 0);
    for (uint32_t i = 1; i <= FLIPS; i++) {
        int hits;

        kept_list_chunks();
        assert_int_equal(kept_path_count, (KEPT_COUNT + KEPT_CHUNK - 1) / KEPT_CHUNK);
        flip(&philox, kept_paths[philox_u32(&philox) % (uint32_t)kept_path_count]);
        hits = kept_read_epoch(cache, 2 * i); /* each is compared */
        assert_true(hits >= KEPT_COUNT - KEPT_CHUNK && hits < KEPT_COUNT);
        again += (uint64_t)(KEPT_COUNT - hits);
        kept_read_epoch(cache, 2 * i + 1); /* what was read of a chunk before it was dropped */
    }
    print_message("%d bits: %d counted, %d pictures read again\n", FLIPS,
                  (int)kept_stats_of(cache).damaged, (int)again);
    assert_in_range(kept_stats_of(cache).damaged, FLIPS / 2, FLIPS);
    assert_int_equal(kept_read_epoch(cache, 2 * FLIPS + 2), KEPT_COUNT);
    data_cache_free(cache);
}

/* By another thread or rank, which a flock of this process is as good as. */
static void wrong_picture_of_a_chunk_in_use_is_mended(void **state)
{
    struct data_cache *const cache = kept_open_cache(10 << 20);
    unsigned char byte;
    int fd;

    (void)state;
    for (uint64_t i = 0; i < KEPT_CHUNK; i++)
        kept_put(cache, 0, i);
    kept_list_chunks();
    assert_int_equal(kept_path_count, 1);
    fd = open(kept_paths[0], O_RDWR);
    assert_int_equal(flock(fd, LOCK_SH), 0);
    assert_int_equal(pread(fd, &byte, 1, 56 + 8 * KEPT_CHUNK), 1); /* of picture 0 */
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, 56 + 8 * KEPT_CHUNK), 1);
    assert_false(kept_get(cache, 1, 0));
    assert_false(kept_get(cache, 1, 0));
    for (uint64_t i = 1; i < KEPT_CHUNK; i++)
        assert_true(kept_get(cache, 1, i));
    kept_put(cache, 1, 0);
    assert_true(kept_get(cache, 2, 0));
    assert_int_equal(kept_stats_of(cache).damaged, 1);
    close(fd);
    data_cache_free(cache);
}

/* Damage that is there as long as somebody reads: it is counted when it goes. */
static void wrong_header_of_a_chunk_in_use_is_counted_once(void **state)
{
    struct data_cache *const cache = kept_open_cache(10 << 20);
    int fd;

    (void)state;
    kept_put(cache, 0, 0);
    kept_list_chunks();
    fd = open(kept_paths[0], O_RDWR);
    assert_int_equal(flock(fd, LOCK_SH), 0);
    assert_int_equal(pwrite(fd, "?", 1, 10), 1);
    for (int i = 0; i < 3; i++) {
        assert_false(kept_get(cache, 1, 0));
        kept_put(cache, 1, 0);
    }
    assert_int_equal(kept_stats_of(cache).damaged, 0);
    close(fd);
    assert_false(kept_get(cache, 1, 0));
    kept_put(cache, 1, 0);
    assert_true(kept_get(cache, 1, 0));
    assert_int_equal(kept_stats_of(cache).damaged, 1);
    data_cache_free(cache);
}

static void cut_and_removed_files_are_missed(void **state)
{
    struct data_cache *cache = kept_open_cache(10 << 20);

    (void)state;
    kept_read_epoch(cache, 0);
    kept_list_chunks();
    for (int i = 0; i < kept_path_count; i += 2)
        assert_int_equal(i % 4 == 0 ? remove(kept_paths[i]) : truncate(kept_paths[i], 300), 0);
    assert_in_range(kept_read_epoch(cache, 1), KEPT_COUNT / 3, KEPT_COUNT * 2 / 3);
    assert_int_equal(kept_read_epoch(cache, 2), KEPT_COUNT);
    assert_true(kept_disk_use() <= kept_stats_of(cache).disk_bytes);
    data_cache_free(cache);
}

/* As an evaluation does; returns what was there. */
static int evaluate(struct data_cache *cache, const struct data_index *index, uint32_t epoch)
{
    struct data_cache_set *const set = data_cache_set(cache, index);
    unsigned char data[KEPT_BYTES_MAX];
    unsigned char *const bytes = data;
    int hits = 0;

    data_cache_now(set, epoch, 0);
    data_cache_evaluate(set, epoch);
    for (uint64_t i = 0; i < KEPT_COUNT; i++) {
        if (data_cache_get(set, DATA_CACHE_TOLD, &i, 1, &bytes)) {
            hits++;
            continue;
        }
        kept_picture(i, data);
        data_cache_put(set, DATA_CACHE_TOLD, &i, 1, &bytes);
    }
    return hits;
}

static void validation_pictures_that_are_also_the_tests_are_kept_for_both(void **state)
{
    const struct data_cache_use val = {.sample_end = KEPT_COUNT,
                                       .samples = KEPT_COUNT,
                                       .chunk_samples = KEPT_CHUNK,
                                       .epoch_end = 6,
                                       .epoch_ticks = 1};
    struct data_cache_use test = val;
    const struct data_index same = kept_pictures;
    struct data_cache *cache;
    struct err err = {0};
    int hits[6];

    (void)state;
    test.at_end = true;
    cache = data_cache_new(kept_root, 500000, NULL, &err);
    assert_int_equal(data_cache_add(cache, &kept_pictures, &val, &val, &err), 0);
    assert_int_equal(data_cache_add(cache, &same, &test, &test, &err), 0);
    for (uint32_t epoch = 0; epoch < 6; epoch++)
        hits[epoch] = evaluate(cache, &kept_pictures, epoch);
    assert_int_equal(hits[0], 0);
    assert_in_range(hits[1], KEPT_COUNT / 4,
                    KEPT_COUNT / 2); /* what there is room for, and so it stays */
    for (int i = 2; i < 6; i++)
        assert_int_equal(hits[i], hits[1]);
    assert_int_equal(evaluate(cache, &same, 5), hits[1]);
    assert_int_equal(kept_stats_of(cache).evicted, 0);
    data_cache_free(cache);
}

static void what_is_never_needed_again_evicts_nothing(void **state)
{
    const uint64_t bytes = 500000;
    struct data_index once = kept_pictures;
    struct data_cache_use use_once = kept_use;
    struct data_cache *cache = kept_open_cache(bytes);
    struct err err = {0};
    int hits;

    (void)state;
    kept_read_epoch(cache, 0);
    hits = kept_read_epoch(cache, 1);
    data_cache_free(cache);
    once.root = "s3://b/once";
    use_once.epoch_end = 1;
    cache = data_cache_new(kept_root, bytes, NULL, &err);
    assert_int_equal(data_cache_add(cache, &once, &use_once, &use_once, &err), 0);
    evaluate(cache, &once, 0);
    data_cache_free(cache);
    cache = kept_open_cache(bytes);
    assert_in_range(kept_read_epoch(cache, 0), hits - 3 * KEPT_CHUNK,
                    KEPT_COUNT); /* but for the table */
    data_cache_free(cache);
}

/* ---- processes ---- */

static void killed_at_any_moment_nothing_wrong_is_left(void **state)
{
    const uint64_t bytes = 500000;
    struct philox philox;
    int hits = 0;

    (void)state;
    philox_init(&philox, 6, 1, 1, PHILOX_ORDER);
    for (int i = 0; i < KILLS; i++) {
        const pid_t one = kept_begin_process(bytes), other = kept_begin_process(bytes);
        struct data_cache *cache;

        clock_sleep_s(philox_u32(&philox) % 60 * 0.001);
        kept_end_process(one);
        clock_sleep_s(philox_u32(&philox) % 10 * 0.001);
        kept_end_process(other);
        assert_true(kept_disk_use() <= bytes);
        cache = kept_open_cache(bytes);
        assert_true(kept_disk_use() <= kept_stats_of(cache).disk_bytes);
        hits += kept_read_epoch(cache, 0);
        assert_int_equal(kept_stats_of(cache).damaged, 0);
        assert_true(kept_disk_use() <= bytes);
        data_cache_free(cache);
    }
    print_message("after %d kills %d pictures were found\n", 2 * KILLS, hits);
    assert_true(hits > 0);
}

static void processes_at_once_find_each_others_pictures(void **state)
{
    const uint64_t bytes = 700000;
    struct data_cache *const cache = kept_open_cache(bytes);
    pid_t pids[3];
    uint64_t most = 0;
    double until;

    (void)state;
    for (int i = 0; i < 3; i++)
        pids[i] = kept_begin_process(bytes);
    for (until = clock_now_s() + 1.5; clock_now_s() < until;) {
        const uint64_t now = kept_disk_use();

        most = now > most ? now : most;
    }
    assert_true(kept_read_epoch(cache, 0) > 0);
    for (int i = 0; i < 3; i++)
        kept_end_process(pids[i]);
    print_message("at most %d bytes of %d\n", (int)most, (int)bytes);
    assert_true(most <= bytes && most > bytes / 2);
    kept_read_epoch(cache,
                    1); /* one may have been ended with the lock: who has it next counts anew */
    assert_true(kept_stats_of(cache).disk_bytes <= bytes);
    kept_close_counted(cache, bytes);
}

static void process_that_is_frozen_with_the_lock_is_not_waited_for(void **state)
{
    struct data_cache *const cache = kept_open_cache(10 << 20);
    char path[96];
    double begun;
    int lock;

    (void)state;
    kept_put(cache, 0, 0);
    snprintf(path, sizeof path, "%s/pictures/lock", kept_root);
    lock = open(path, O_RDWR);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    begun = clock_now_s();
    assert_true(kept_get(cache, 0, 0));
    for (uint64_t i = 100; i < 400; i++)
        kept_put(cache, 0, i);
    assert_true(clock_now_s() - begun < 8); /* one second's wait, not three hundred */
    assert_int_equal(kept_stats_of(cache).kept, 1);
    close(lock);
    data_cache_free(cache);
}

struct reader {
    struct data_cache *cache;
    pthread_t thread;
    uint64_t begin;
    int found;
};

static void *read_part(void *argument)
{
    struct reader *const reader = argument;

    for (uint64_t i = reader->begin; i < KEPT_COUNT; i += 8)
        kept_put(reader->cache, 0, i);
    for (uint64_t i = reader->begin; i < KEPT_COUNT; i += 8)
        reader->found += kept_get(reader->cache, 1, i);
    return NULL;
}

static void threads_fill_one_chunk_together(void **state)
{
    struct data_cache *const cache = kept_open_cache(10 << 20);
    struct reader readers[8];

    (void)state;
    for (uint64_t i = 0; i < 8; i++) {
        readers[i] = (struct reader){.cache = cache, .begin = i};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_part, &readers[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(readers[i].thread, NULL);
        assert_int_equal(readers[i].found, (KEPT_COUNT - i + 7) / 8);
    }
    data_cache_free(cache);
}

struct watcher {
    struct data_cache *cache;
    pthread_t thread;
    atomic_bool stop;
};

static void *look_always(void *argument)
{
    struct watcher *const watcher = argument;
    uint64_t samples[KEPT_COUNT / KEPT_CHUNK];
    bool there[KEPT_COUNT / KEPT_CHUNK];

    for (uint64_t i = 0; i < KEPT_COUNT / KEPT_CHUNK; i++)
        samples[i] = i * KEPT_CHUNK;
    while (!watcher->stop)
        data_cache_look(data_cache_set(watcher->cache, &kept_pictures), samples,
                        KEPT_COUNT / KEPT_CHUNK, there);
    return NULL;
}

/* Nor does who saw that its file was gone drop the one that came after. */
static void chunk_that_is_being_made_is_not_a_damaged_one(void **state)
{
    const uint64_t bytes = 10 << 20;
    struct data_cache *const cache = kept_open_cache(bytes);
    struct watcher watcher = {.cache = cache};
    int lost = 0;

    (void)state;
    assert_int_equal(pthread_create(&watcher.thread, NULL, look_always, &watcher), 0);
    for (uint32_t round = 0; round < 200; round++) {
        for (uint64_t i = 0; i < KEPT_COUNT; i += KEPT_CHUNK) {
            kept_put(cache, 0, i);
            lost += !kept_get(cache, 0, i);
        }
        kept_list_chunks();
        for (int i = 0; i < kept_path_count; i++)
            remove(kept_paths[i]);
    }
    watcher.stop = true;
    pthread_join(watcher.thread, NULL);
    assert_int_equal(kept_stats_of(cache).damaged, 0);
    assert_int_equal(lost, 0);
    data_cache_free(cache);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, kept_set_up, kept_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_was_put_comes_back_also_in_the_next_run),
        CASE(it_stays_within_its_bytes_whatever_they_are),
        CASE(without_room_for_a_chunk_nothing_is_kept),
        CASE(flipped_bits_are_noticed_and_read_again),
        CASE(wrong_picture_of_a_chunk_in_use_is_mended),
        CASE(wrong_header_of_a_chunk_in_use_is_counted_once),
        CASE(cut_and_removed_files_are_missed),
        CASE(validation_pictures_that_are_also_the_tests_are_kept_for_both),
        CASE(what_is_never_needed_again_evicts_nothing),
        CASE(killed_at_any_moment_nothing_wrong_is_left),
        CASE(processes_at_once_find_each_others_pictures),
        CASE(process_that_is_frozen_with_the_lock_is_not_waited_for),
        CASE(threads_fill_one_chunk_together),
        CASE(chunk_that_is_being_made_is_not_a_damaged_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
