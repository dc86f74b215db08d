/* tests/data/test_cache.c -- pictures kept on the disk: never more than may be, never others than
 * were put in; flipped bits, kills, several processes, other people's files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/philox.h"
#include "trainer/data/cache.h"
#include "trainer/data/index.h"
#include "trainer/data/order.h"

#define COUNT     600
#define CHUNK     16
#define BYTES_MAX 3000
#define FLIPS     400
#define KILLS     60

static char root[64];
static struct data_sample samples[COUNT];
static struct data_index pictures = {
    .root = "s3://b/p", .sharded = true, .count = COUNT, .samples = samples};
static struct data_order order = {
    .samples = COUNT, .chunk_samples = CHUNK, .seed = 3, .batch = 8, .lanes = 2};
static struct data_cache_use use = {.order = &order,
                                    .lane_end = 2,
                                    .samples = COUNT,
                                    .chunk_samples = CHUNK,
                                    .epoch_end = 1000000,
                                    .epoch_ticks = COUNT / 8 + 1};

/* ---- a folder, pictures ---- */

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat, (void)type, (void)ftw;
    return remove(path);
}

static int set_up(void **state)
{
    (void)state;
    strcpy(root, "/tmp/convoy-cache-XXXXXX");
    if (mkdtemp(root) == NULL)
        return -1;
    for (uint32_t i = 0; i < COUNT; i++)
        samples[i] = (struct data_sample){
            .key = "a/x.jpg", .offset = i * BYTES_MAX, .bytes = 1 + i * 7919 % BYTES_MAX};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static uint64_t found_bytes;

static int add_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)path, (void)ftw;
    if (type != FTW_NS) /* removed meanwhile */
        found_bytes += (uint64_t)stat->st_blocks * 512;
    return 0;
}

/* What du says. */
static uint64_t disk_use(void)
{
    found_bytes = 0;
    nftw(root, add_one, 16, FTW_PHYS);
    return found_bytes;
}

static void picture(uint64_t sample, unsigned char *out)
{
    for (uint32_t i = 0; i < samples[sample].bytes; i++)
        out[i] = (unsigned char)(sample * 31 + i * (sample + 3) + (i >> 7));
}

static struct data_cache *open_cache(uint64_t bytes)
{
    struct err err = {0};
    struct data_cache *const cache = data_cache_new(root, bytes, NULL, &err);

    if (cache == NULL || data_cache_add(cache, &pictures, &use, &use, &err) < 0)
        fail_msg("%s", err.msg);
    return cache;
}

/* Whether it is there; then it must be right. */
static bool get(struct data_cache *cache, uint32_t epoch, uint64_t sample)
{
    unsigned char got[BYTES_MAX], want[BYTES_MAX];
    unsigned char *const out = got;

    if (!data_cache_get(data_cache_set(cache, &pictures), epoch, &sample, 1, &out))
        return false;
    picture(sample, want);
    if (memcmp(got, want, samples[sample].bytes) != 0)
        abort(); /* also in a child */
    return true;
}

static void put(struct data_cache *cache, uint32_t epoch, uint64_t sample)
{
    unsigned char data[BYTES_MAX];
    unsigned char *const in = data;

    picture(sample, data);
    data_cache_put(data_cache_set(cache, &pictures), epoch, &sample, 1, &in);
}

/* Read all of an epoch, as a rank does; returns what was there. */
static int read_epoch(struct data_cache *cache, uint32_t epoch)
{
    int hits = 0;

    for (uint64_t step = 0; step < data_order_steps(&order); step++) {
        data_cache_now(data_cache_set(cache, &pictures), epoch, step);
        for (uint32_t lane = 0; lane < order.lanes; lane++)
            for (uint32_t i = 0; i < data_order_lane_images(&order, step, lane); i++) {
                const uint64_t sample = data_order_sample(&order, epoch, step, lane, i);

                if (get(cache, epoch, sample))
                    hits++;
                else
                    put(cache, epoch, sample);
            }
    }
    return hits;
}

static struct data_cache_stats stats_of(struct data_cache *cache)
{
    struct data_cache_stats stats;

    data_cache_stats(cache, &stats);
    return stats;
}

/* Close it; who then opens it alone counts all files, and comes to what was counted on the way. */
static void close_counted(struct data_cache *cache, uint64_t bytes)
{
    const uint64_t used = stats_of(cache).disk_bytes;

    data_cache_free(cache);
    cache = open_cache(bytes);
    assert_int_equal(stats_of(cache).disk_bytes, used);
    data_cache_free(cache);
}

/* ---- cases ---- */

static void what_was_put_comes_back_also_in_the_next_run(void **state)
{
    struct data_cache *cache = open_cache(10 << 20);
    bool there[3];

    (void)state;
    assert_int_equal(read_epoch(cache, 0), 0);
    assert_int_equal(read_epoch(cache, 1), COUNT);
    data_cache_free(cache);
    cache = open_cache(10 << 20);
    assert_int_equal(read_epoch(cache, 0), COUNT);
    data_cache_look(data_cache_set(cache, &pictures), (const uint64_t[]){599, 0, 17}, 3, there);
    assert_true(there[0] && there[1] && there[2]);
    assert_int_equal(stats_of(cache).hits, COUNT);
    assert_int_equal(stats_of(cache).kept, 0);
    data_cache_free(cache);
}

static void it_stays_within_its_bytes_whatever_they_are(void **state)
{
    int before = -1;

    (void)state;
    for (uint64_t bytes = 50000; bytes < 1600000; bytes += 150000) {
        struct data_cache *cache = open_cache(bytes);
        int hits = 0;

        assert_true(disk_use() <= bytes);
        for (uint32_t epoch = 0; epoch < 4; epoch++) {
            hits = read_epoch(cache, epoch);
            assert_true(disk_use() <= stats_of(cache).disk_bytes);
            assert_true(stats_of(cache).disk_bytes <= bytes);
        }
        assert_true(hits >= before);
        before = hits;
        close_counted(cache, bytes);
    }
    assert_int_equal(before, COUNT);
}

static void without_room_for_a_chunk_nothing_is_kept(void **state)
{
    struct err err = {0};
    struct data_cache *cache;

    (void)state;
    assert_null(data_cache_new(root, 5000, NULL, &err));
    assert_int_equal(err.code, ERR_IO);
    assert_true(disk_use() <= 5000);
    for (uint64_t bytes = 24576; bytes <= 60000; bytes += 4096) {
        cache = open_cache(bytes);
        assert_int_equal(read_epoch(cache, 0), 0);
        assert_int_equal(read_epoch(cache, 1), 0);
        assert_true(disk_use() <= bytes);
        data_cache_free(cache);
    }
}

static char paths[256][256];
static int path_count;

static int list_chunk(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat, (void)type, (void)ftw;
    if (strstr(path, ".chunk") != NULL && path_count < 256)
        snprintf(paths[path_count++], sizeof paths[0], "%s", path);
    return 0;
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
    struct data_cache *cache = open_cache(10 << 20);
    struct philox philox;
    uint64_t again = 0;

    (void)state;
    philox_init(&philox, 5, 1, 1, PHILOX_ORDER);
    read_epoch(cache, 0);
    for (uint32_t i = 1; i <= FLIPS; i++) {
        int hits;

        path_count = 0;
        nftw(root, list_chunk, 16, FTW_PHYS);
        assert_int_equal(path_count, (COUNT + CHUNK - 1) / CHUNK);
        flip(&philox, paths[philox_u32(&philox) % (uint32_t)path_count]);
        hits = read_epoch(cache, 2 * i); /* each is compared */
        assert_true(hits >= COUNT - CHUNK && hits < COUNT);
        again += (uint64_t)(COUNT - hits);
        read_epoch(cache, 2 * i + 1); /* those of the chunk that were read before it was dropped */
    }
    print_message("%d bits: %d chunks dropped, %d pictures read again\n", FLIPS,
                  (int)stats_of(cache).damaged, (int)again);
    assert_in_range(stats_of(cache).damaged, FLIPS / 2, FLIPS);
    assert_int_equal(read_epoch(cache, 2 * FLIPS + 2), COUNT);
    data_cache_free(cache);
}

static void cut_and_removed_files_are_missed(void **state)
{
    struct data_cache *cache = open_cache(10 << 20);

    (void)state;
    read_epoch(cache, 0);
    path_count = 0;
    nftw(root, list_chunk, 16, FTW_PHYS);
    for (int i = 0; i < path_count; i += 2)
        assert_int_equal(i % 4 == 0 ? remove(paths[i]) : truncate(paths[i], 300), 0);
    assert_in_range(read_epoch(cache, 1), COUNT / 3, COUNT * 2 / 3);
    assert_int_equal(read_epoch(cache, 2), COUNT);
    assert_true(disk_use() <= stats_of(cache).disk_bytes);
    data_cache_free(cache);
}

/* As an evaluation does; returns what was there. */
static int evaluate(struct data_cache *cache, const struct data_index *index, uint32_t epoch)
{
    struct data_cache_set *const set = data_cache_set(cache, index);
    unsigned char data[BYTES_MAX];
    unsigned char *const bytes = data;
    int hits = 0;

    data_cache_now(set, epoch, 0);
    data_cache_evaluate(set, epoch);
    for (uint64_t i = 0; i < COUNT; i++) {
        if (data_cache_get(set, DATA_CACHE_TOLD, &i, 1, &bytes)) {
            hits++;
            continue;
        }
        picture(i, data);
        data_cache_put(set, DATA_CACHE_TOLD, &i, 1, &bytes);
    }
    return hits;
}

static void validation_pictures_that_are_also_the_tests_are_kept_for_both(void **state)
{
    const struct data_cache_use val = {.sample_end = COUNT,
                                       .samples = COUNT,
                                       .chunk_samples = CHUNK,
                                       .epoch_end = 6,
                                       .epoch_ticks = 1};
    struct data_cache_use test = val;
    const struct data_index same = pictures;
    struct data_cache *cache;
    struct err err = {0};
    int hits[6];

    (void)state;
    test.at_end = true;
    cache = data_cache_new(root, 500000, NULL, &err);
    assert_int_equal(data_cache_add(cache, &pictures, &val, &val, &err), 0);
    assert_int_equal(data_cache_add(cache, &same, &test, &test, &err), 0);
    for (uint32_t epoch = 0; epoch < 6; epoch++)
        hits[epoch] = evaluate(cache, &pictures, epoch);
    assert_int_equal(hits[0], 0);
    assert_in_range(hits[1], COUNT / 4, COUNT / 2); /* what there is room for, and so it stays */
    for (int i = 2; i < 6; i++)
        assert_int_equal(hits[i], hits[1]);
    assert_int_equal(evaluate(cache, &same, 5), hits[1]);
    assert_int_equal(stats_of(cache).evicted, 0);
    data_cache_free(cache);
}

static void what_is_never_needed_again_evicts_nothing(void **state)
{
    const uint64_t bytes = 500000;
    struct data_index once = pictures;
    struct data_cache_use use_once = use;
    struct data_cache *cache = open_cache(bytes);
    struct err err = {0};
    int hits;

    (void)state;
    read_epoch(cache, 0);
    hits = read_epoch(cache, 1);
    data_cache_free(cache);
    once.root = "s3://b/once";
    use_once.epoch_end = 1;
    cache = data_cache_new(root, bytes, NULL, &err);
    assert_int_equal(data_cache_add(cache, &once, &use_once, &use_once, &err), 0);
    evaluate(cache, &once, 0);
    data_cache_free(cache);
    cache = open_cache(bytes);
    assert_in_range(read_epoch(cache, 0), hits - 3 * CHUNK, COUNT); /* but for the table */
    data_cache_free(cache);
}

/* ---- processes ---- */

/* A process that trains till it is ended. */
static pid_t begin_process(uint64_t bytes)
{
    const pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct err err = {0};
        struct data_cache *const cache = data_cache_new(root, bytes, NULL, &err);

        if (cache == NULL || data_cache_add(cache, &pictures, &use, &use, &err) < 0)
            _exit(1);
        for (uint32_t epoch = 0;; epoch++)
            read_epoch(cache, epoch);
    }
    return pid;
}

static void end_process(pid_t pid)
{
    int status;

    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* it found nothing wrong */
}

static void killed_at_any_moment_nothing_wrong_is_left(void **state)
{
    const uint64_t bytes = 500000;
    struct philox philox;
    int hits = 0;

    (void)state;
    philox_init(&philox, 6, 1, 1, PHILOX_ORDER);
    for (int i = 0; i < KILLS; i++) {
        const pid_t one = begin_process(bytes), other = begin_process(bytes);
        struct data_cache *cache;

        clock_sleep_s(philox_u32(&philox) % 60 * 0.001);
        end_process(one);
        clock_sleep_s(philox_u32(&philox) % 10 * 0.001);
        end_process(other);
        assert_true(disk_use() <= bytes);
        cache = open_cache(bytes);
        assert_true(disk_use() <= stats_of(cache).disk_bytes);
        hits += read_epoch(cache, 0);
        assert_int_equal(stats_of(cache).damaged, 0);
        assert_true(disk_use() <= bytes);
        data_cache_free(cache);
    }
    print_message("after %d kills %d pictures were found\n", 2 * KILLS, hits);
    assert_true(hits > 0);
}

static void processes_at_once_find_each_others_pictures(void **state)
{
    const uint64_t bytes = 700000;
    struct data_cache *const cache = open_cache(bytes);
    pid_t pids[3];
    uint64_t most = 0;
    double until;

    (void)state;
    for (int i = 0; i < 3; i++)
        pids[i] = begin_process(bytes);
    for (until = clock_now_s() + 1.5; clock_now_s() < until;) {
        const uint64_t now = disk_use();

        most = now > most ? now : most;
    }
    assert_true(read_epoch(cache, 0) > 0);
    for (int i = 0; i < 3; i++)
        end_process(pids[i]);
    print_message("at most %d bytes of %d\n", (int)most, (int)bytes);
    assert_true(most <= bytes && most > bytes / 2);
    read_epoch(cache, 1); /* one may have been ended with the lock: who has it next counts anew */
    assert_true(stats_of(cache).disk_bytes <= bytes);
    close_counted(cache, bytes);
}

static void process_that_is_frozen_with_the_lock_is_not_waited_for(void **state)
{
    struct data_cache *const cache = open_cache(10 << 20);
    char path[96];
    double begun;
    int lock;

    (void)state;
    put(cache, 0, 0);
    snprintf(path, sizeof path, "%s/pictures/lock", root);
    lock = open(path, O_RDWR);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    begun = clock_now_s();
    assert_true(get(cache, 0, 0));
    for (uint64_t i = 100; i < 400; i++)
        put(cache, 0, i);
    assert_true(clock_now_s() - begun < 8); /* one second's wait, not three hundred */
    assert_int_equal(stats_of(cache).kept, 1);
    close(lock);
    data_cache_free(cache);
}

/* A process that holds a lock for so long; `counting`: as one that counts files. */
static pid_t hold(const char *name, double seconds, bool counting)
{
    char path[96];
    int fd, ready[2];
    pid_t pid;

    snprintf(path, sizeof path, "%s/%s", root, name);
    assert_int_equal(pipe(ready), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const double until = clock_now_s() + seconds;
        uint64_t beats = 0;

        fd = open(path, counting ? O_RDWR : O_RDONLY);
        if (fd < 0 || flock(fd, LOCK_EX) < 0 || write(ready[1], "", 1) != 1)
            _exit(1);
        while (clock_now_s() < until) {
            clock_sleep_s(0.05);
            beats++;
            if (counting && pwrite(fd, &beats, sizeof beats, 24) != (ssize_t)sizeof beats)
                _exit(1);
        }
        _exit(0);
    }
    assert_int_equal(read(ready[0], path, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void who_opens_it_waits_for_a_lock_whose_holder_gets_on(void **state)
{
    static const struct {
        double seconds;
        bool counting;
    } holders[] = {{3, false}, {11.5, true}};

    (void)state;
    data_cache_free(open_cache(10 << 20));
    for (size_t i = 0; i < sizeof holders / sizeof *holders; i++) {
        const pid_t pid = hold("pictures/lock", holders[i].seconds, holders[i].counting);
        struct data_cache *const cache = open_cache(10 << 20);
        int status;

        put(cache, 0, i);
        assert_int_equal(stats_of(cache).kept, 1);
        data_cache_free(cache);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
}

static void fill(const char *name, size_t bytes)
{
    char path[320], *const data = calloc(1, bytes);

    snprintf(path, sizeof path, "%s/%s", root, name);
    assert_int_equal(file_replace(path, data, bytes, NULL), 0);
    free(data);
}

static void index_of_tars_is_counted_whenever_it_is_opened(void **state)
{
    const uint64_t bytes = 700000;
    struct data_cache *const one = open_cache(bytes), *other;
    struct err err = {0};
    char path[96];

    (void)state;
    read_epoch(one, 0);
    snprintf(path, sizeof path, "%s/index", root);
    assert_int_equal(file_make_folder(path, NULL), 0);
    fill("index/a.idx", 200000);
    other = open_cache(bytes); /* while `one` uses it: its chunks make room */
    assert_true(disk_use() <= stats_of(other).disk_bytes);
    assert_true(stats_of(other).disk_bytes <= bytes);
    fill("index/a.idx", 20000);
    data_cache_free(other);
    other = open_cache(bytes);
    assert_true(stats_of(other).disk_bytes < bytes - 150000);
    fill("index/a.idx", 800000);
    assert_null(data_cache_new(root, bytes, NULL, &err));
    assert_non_null(strstr(err.msg, "/index'"));
    data_cache_free(one);
    data_cache_free(other);
}

static volatile sig_atomic_t stop;

static void ask_to_stop(int number)
{
    stop = number;
}

static void who_waits_to_open_it_can_be_stopped(void **state)
{
    static const char *const names[] = {"pictures/lock", "pictures"};

    (void)state;
    data_cache_free(open_cache(10 << 20));
    signal(SIGALRM, ask_to_stop);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const pid_t pid = hold(names[i], 60, false);
        const double begun = clock_now_s();
        struct err err = {0};

        stop = 0;
        alarm(1);
        assert_null(data_cache_new(root, 10 << 20, &stop, &err));
        assert_int_equal(err.code, ERR_STOPPED);
        assert_true(clock_now_s() - begun < 5);
        end_process(pid);
    }
}

static void counting_that_is_stopped_is_done_again(void **state)
{
    struct data_cache *cache = open_cache(10 << 20);
    struct err err = {0};
    uint64_t used, marked = 0;
    char path[96];
    int fd;

    (void)state;
    read_epoch(cache, 0);
    used = stats_of(cache).disk_bytes;
    data_cache_free(cache);
    stop = 1;
    assert_null(data_cache_new(root, 10 << 20, &stop, &err));
    assert_int_equal(err.code, ERR_STOPPED);
    snprintf(path, sizeof path, "%s/pictures/lock", root);
    fd = open(path, O_RDONLY);
    assert_int_equal(pread(fd, &marked, sizeof marked, 8), sizeof marked);
    assert_int_equal(marked, 1); /* so it is, also if others were here */
    close(fd);
    cache = open_cache(10 << 20);
    assert_int_equal(stats_of(cache).disk_bytes, used);
    assert_int_equal(read_epoch(cache, 0), COUNT);
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

    for (uint64_t i = reader->begin; i < COUNT; i += 8)
        put(reader->cache, 0, i);
    for (uint64_t i = reader->begin; i < COUNT; i += 8)
        reader->found += get(reader->cache, 1, i);
    return NULL;
}

static void threads_fill_one_chunk_together(void **state)
{
    struct data_cache *const cache = open_cache(10 << 20);
    struct reader readers[8];

    (void)state;
    for (uint64_t i = 0; i < 8; i++) {
        readers[i] = (struct reader){.cache = cache, .begin = i};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_part, &readers[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(readers[i].thread, NULL);
        assert_int_equal(readers[i].found, (COUNT - i + 7) / 8);
    }
    data_cache_free(cache);
}

/* ---- the disk says no ---- */

static void error_of_writing_turns_it_off(void **state)
{
    const struct rlimit none = {.rlim_cur = 9000, .rlim_max = RLIM_INFINITY};
    struct data_cache *const cache = open_cache(10 << 20);
    struct rlimit before;

    (void)state;
    put(cache, 0, 0);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    setrlimit(RLIMIT_FSIZE, &none);
    for (uint64_t i = 0; i < COUNT; i++)
        put(cache, 0, i);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_false(get(cache, 0, 0));
    put(cache, 0, 599);
    assert_int_equal(stats_of(cache).misses, COUNT + 2);
    assert_true(disk_use() <= stats_of(cache).disk_bytes);
    data_cache_free(cache);
}

/* No more files may be opened: a chunk that was to make room is still there, and counted. */
static void chunk_that_cannot_be_removed_stays_counted(void **state)
{
    const uint64_t bytes = 300000;
    struct data_cache *const cache = open_cache(bytes);
    struct rlimit before, none;
    uint64_t used, all[COUNT];
    bool there[COUNT];
    int next;

    (void)state;
    read_epoch(cache, 0);
    for (uint64_t i = 0; i < COUNT; i++)
        all[i] = i;
    data_cache_look(data_cache_set(cache, &pictures), all, COUNT, there);
    for (uint64_t i = 0; i < COUNT; i++)
        if (there[i])
            get(cache, 1, i); /* now it is needed after all that is not there */
    used = stats_of(cache).disk_bytes;
    getrlimit(RLIMIT_NOFILE, &before);
    next = dup(0);
    close(next);
    none = before;
    none.rlim_cur = (rlim_t)next;
    setrlimit(RLIMIT_NOFILE, &none);
    for (uint64_t i = 0; i < COUNT; i++)
        if (!there[i])
            put(cache, 0, i);
    setrlimit(RLIMIT_NOFILE, &before);
    assert_int_equal(stats_of(cache).disk_bytes, used);
    assert_true(disk_use() <= used);
    data_cache_free(cache);
}

static void files_of_others_in_a_datasets_folder_are_counted(void **state)
{
    const uint64_t bytes = 500000;
    struct data_cache *cache = open_cache(bytes);
    char name[128], *end;

    (void)state;
    put(cache, 0, 0);
    data_cache_free(cache);
    path_count = 0;
    nftw(root, list_chunk, 16, FTW_PHYS);
    assert_int_equal(path_count, 1);
    end = strrchr(paths[0], '/');
    *end = '\0';
    snprintf(name, sizeof name, "%s/notes", paths[0] + strlen(root) + 1);
    fill(name, 250000);
    cache = open_cache(bytes);
    for (uint32_t epoch = 0; epoch < 2; epoch++)
        read_epoch(cache, epoch);
    assert_true(disk_use() <= stats_of(cache).disk_bytes);
    assert_true(stats_of(cache).disk_bytes <= bytes);
    data_cache_free(cache);
}

static int damage_table(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    int fd;

    (void)stat, (void)type;
    if (strcmp(path + ftw->base, "table") != 0)
        return 0;
    fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, "?", 1, 12), 1);
    close(fd);
    return 0;
}

static void damaged_table_is_counted_till_it_is_removed(void **state)
{
    struct err err = {0};
    struct data_cache *cache = open_cache(500000);

    (void)state;
    put(cache, 0, 0);
    data_cache_free(cache);
    assert_int_equal(nftw(root, damage_table, 16, FTW_PHYS), 0);
    cache = data_cache_new(root, 24576, NULL, &err); /* nothing but lock, users and the folders */
    assert_non_null(cache);
    assert_int_equal(stats_of(cache).disk_bytes, 24576);
    data_cache_free(cache);
}

static void damaged_table_is_mended_while_others_have_it_mapped(void **state)
{
    const pid_t pid = begin_process(10 << 20);
    struct data_cache *cache = open_cache(10 << 20);
    uint64_t used;

    (void)state;
    for (uint32_t epoch = 0; epoch < 2; epoch++)
        read_epoch(cache, epoch);
    used = stats_of(cache).disk_bytes;
    data_cache_free(cache);
    for (int i = 0; i < 400; i++) {
        assert_int_equal(nftw(root, damage_table, 16, FTW_PHYS), 0);
        cache = open_cache(10 << 20);
        assert_int_equal(stats_of(cache).disk_bytes, used);
        data_cache_free(cache);
    }
    end_process(pid); /* not by SIGBUS */
}

/* Processes that cannot write any more, one after the other: what they say. */
static void processes_of_a_host_warn_once(void **state)
{
    const struct rlimit none = {.rlim_cur = 9000, .rlim_max = RLIM_INFINITY};
    char path[96];
    pid_t pids[3];
    struct buf said = {0};
    int count = 0, status;

    (void)state;
    data_cache_free(open_cache(10 << 20));
    snprintf(path, sizeof path, "%s/said", root);
    for (uint64_t i = 0; i < 3; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            struct data_cache *const cache = open_cache(10 << 20);

            signal(SIGXFSZ, SIG_IGN);
            if (freopen(path, "a", stderr) == NULL || setrlimit(RLIMIT_FSIZE, &none) < 0)
                _exit(1);
            put(cache, 0, 100 * i);
            put(cache, 0, 100 * i + 50);
            clock_sleep_s(2);
            _exit(0);
        }
    }
    for (int i = 0; i < 3; i++)
        assert_true(waitpid(pids[i], &status, 0) == pids[i] && status == 0);
    assert_int_equal(file_read(path, 1 << 16, &said, NULL), 0);
    for (const char *at = buf_text(&said); (at = strstr(at, "without it")) != NULL; at++)
        count++;
    assert_int_equal(count, 1);
    buf_release(&said);
}

static void other_peoples_lock_is_refused(void **state)
{
    struct err err = {0};
    char path[96];

    (void)state;
    snprintf(path, sizeof path, "%s/pictures", root);
    assert_int_equal(file_make_folder(path, NULL), 0);
    snprintf(path, sizeof path, "%s/pictures/lock", root);
    assert_int_equal(file_replace(path, "mine", 4, NULL), 0);
    assert_null(data_cache_new(root, 1 << 20, NULL, &err));
    assert_non_null(strstr(err.msg, "pictures'"));
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_was_put_comes_back_also_in_the_next_run),
        CASE(it_stays_within_its_bytes_whatever_they_are),
        CASE(without_room_for_a_chunk_nothing_is_kept),
        CASE(flipped_bits_are_noticed_and_read_again),
        CASE(cut_and_removed_files_are_missed),
        CASE(validation_pictures_that_are_also_the_tests_are_kept_for_both),
        CASE(what_is_never_needed_again_evicts_nothing),
        CASE(killed_at_any_moment_nothing_wrong_is_left),
        CASE(processes_at_once_find_each_others_pictures),
        CASE(process_that_is_frozen_with_the_lock_is_not_waited_for),
        CASE(who_opens_it_waits_for_a_lock_whose_holder_gets_on),
        CASE(index_of_tars_is_counted_whenever_it_is_opened),
        CASE(who_waits_to_open_it_can_be_stopped),
        CASE(counting_that_is_stopped_is_done_again),
        CASE(threads_fill_one_chunk_together),
        CASE(error_of_writing_turns_it_off),
        CASE(chunk_that_cannot_be_removed_stays_counted),
        CASE(files_of_others_in_a_datasets_folder_are_counted),
        CASE(damaged_table_is_counted_till_it_is_removed),
        CASE(damaged_table_is_mended_while_others_have_it_mapped),
        CASE(processes_of_a_host_warn_once),
        CASE(other_peoples_lock_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
