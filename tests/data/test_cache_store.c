/* tests/data/test_cache_store.c -- the folder of a cache: its lock, what it counts, damaged tables,
 * errors of the disk, other people's files. */
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
#include <unistd.h>

#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "kept.h"
#include "trainer/data/cache/cache.h"
#include "trainer/data/index/index.h"

/* ---- the lock ---- */

/* A process that holds a lock for so long; `counting`: as one that counts files. */
static pid_t hold(const char *name, double seconds, bool counting)
{
    char path[96];
    int fd, ready[2];
    pid_t pid;

    snprintf(path, sizeof path, "%s/%s", kept_root, name);
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
    data_cache_free(kept_open_cache(10 << 20));
    for (size_t i = 0; i < sizeof holders / sizeof *holders; i++) {
        const pid_t pid = hold("pictures/lock", holders[i].seconds, holders[i].counting);
        struct data_cache *const cache = kept_open_cache(10 << 20);
        int status;

        kept_put(cache, 0, i);
        assert_int_equal(kept_stats_of(cache).kept, 1);
        data_cache_free(cache);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
}

static void who_opens_it_does_not_wait_for_a_holder_that_hangs(void **state)
{
    const double begun = clock_now_s();
    struct err err = {0};
    pid_t pid;

    (void)state;
    data_cache_free(kept_open_cache(10 << 20));
    pid = hold("pictures/lock", 60, false);
    assert_null(data_cache_new(kept_root, 10 << 20, NULL, &err));
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, "pictures/lock' and has not got on for 10 seconds"));
    assert_true(clock_now_s() - begun < 30);
    kept_end_process(pid);
}

static void index_of_tars_is_counted_whenever_it_is_opened(void **state)
{
    const uint64_t bytes = 700000;
    struct data_cache *const one = kept_open_cache(bytes), *other;
    struct err err = {0};
    char path[96];

    (void)state;
    kept_read_epoch(one, 0);
    snprintf(path, sizeof path, "%s/index", kept_root);
    assert_int_equal(file_make_folder(path, NULL), 0);
    kept_fill("index/a.idx", 200000);
    other = kept_open_cache(bytes); /* while `one` uses it: its chunks make room */
    assert_true(kept_disk_use() <= kept_stats_of(other).disk_bytes);
    assert_true(kept_stats_of(other).disk_bytes <= bytes);
    kept_fill("index/a.idx", 20000);
    data_cache_free(other);
    other = kept_open_cache(bytes);
    assert_true(kept_stats_of(other).disk_bytes < bytes - 150000);
    kept_fill("index/a.idx", 800000);
    assert_null(data_cache_new(kept_root, bytes, NULL, &err));
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
    data_cache_free(kept_open_cache(10 << 20));
    signal(SIGALRM, ask_to_stop);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const pid_t pid = hold(names[i], 60, false);
        const double begun = clock_now_s();
        struct err err = {0};

        stop = 0;
        alarm(1);
        assert_null(data_cache_new(kept_root, 10 << 20, &stop, &err));
        assert_int_equal(err.code, ERR_STOPPED);
        assert_true(clock_now_s() - begun < 5);
        kept_end_process(pid);
    }
}

static void counting_that_is_stopped_is_done_again(void **state)
{
    struct data_cache *cache = kept_open_cache(10 << 20);
    struct err err = {0};
    uint64_t used, marked = 0;
    char path[96];
    int fd;

    (void)state;
    kept_read_epoch(cache, 0);
    used = kept_stats_of(cache).disk_bytes;
    data_cache_free(cache);
    stop = 1;
    assert_null(data_cache_new(kept_root, 10 << 20, &stop, &err));
    assert_int_equal(err.code, ERR_STOPPED);
    snprintf(path, sizeof path, "%s/pictures/lock", kept_root);
    fd = open(path, O_RDONLY);
    assert_int_equal(pread(fd, &marked, sizeof marked, 8), sizeof marked);
    assert_int_equal(marked, 1); /* so it is, also if others were here */
    close(fd);
    cache = kept_open_cache(10 << 20);
    assert_int_equal(kept_stats_of(cache).disk_bytes, used);
    assert_int_equal(kept_read_epoch(cache, 0), KEPT_COUNT);
    data_cache_free(cache);
}

/* ---- the disk says no ---- */

static void error_of_writing_turns_it_off(void **state)
{
    const struct rlimit none = {.rlim_cur = 9000, .rlim_max = RLIM_INFINITY};
    struct data_cache *const cache = kept_open_cache(10 << 20);
    struct rlimit before;

    (void)state;
    kept_put(cache, 0, 0);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    setrlimit(RLIMIT_FSIZE, &none);
    for (uint64_t i = 0; i < KEPT_COUNT; i++)
        kept_put(cache, 0, i);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_false(kept_get(cache, 0, 0));
    kept_put(cache, 0, 599);
    assert_int_equal(kept_stats_of(cache).misses, KEPT_COUNT + 2);
    assert_true(kept_disk_use() <= kept_stats_of(cache).disk_bytes);
    data_cache_free(cache);
}

/* A folder in a file's place is opened, and then every read of it is an error. */
static void error_of_reading_turns_it_off_and_is_no_damage(void **state)
{
    struct data_cache *const cache = kept_open_cache(10 << 20);

    (void)state;
    kept_put(cache, 0, 0);
    kept_list_chunks();
    assert_int_equal(remove(kept_paths[0]), 0);
    assert_int_equal(mkdir(kept_paths[0], 0777), 0);
    assert_false(kept_get(cache, 0, 0));
    assert_int_equal(kept_stats_of(cache).damaged, 0);
    kept_put(cache, 0, 599);
    assert_int_equal(kept_stats_of(cache).kept, 1);
    data_cache_free(cache);
}

/* No more files may be opened: a chunk that was to make room is still there, and counted. */
static void chunk_that_cannot_be_removed_stays_counted(void **state)
{
    const uint64_t bytes = 300000;
    struct data_cache *const cache = kept_open_cache(bytes);
    struct rlimit before, none;
    uint64_t used, all[KEPT_COUNT];
    bool there[KEPT_COUNT];
    int next;

    (void)state;
    kept_read_epoch(cache, 0);
    for (uint64_t i = 0; i < KEPT_COUNT; i++)
        all[i] = i;
    data_cache_look(data_cache_set(cache, &kept_pictures), all, KEPT_COUNT, there);
    for (uint64_t i = 0; i < KEPT_COUNT; i++)
        if (there[i])
            kept_get(cache, 1, i); /* now it is needed after all that is not there */
    used = kept_stats_of(cache).disk_bytes;
    getrlimit(RLIMIT_NOFILE, &before);
    next = dup(0);
    close(next);
    none = before;
    none.rlim_cur = (rlim_t)next;
    setrlimit(RLIMIT_NOFILE, &none);
    for (uint64_t i = 0; i < KEPT_COUNT; i++)
        if (!there[i])
            kept_put(cache, 0, i);
    setrlimit(RLIMIT_NOFILE, &before);
    assert_int_equal(kept_stats_of(cache).disk_bytes, used);
    assert_true(kept_disk_use() <= used);
    data_cache_free(cache);
}

static void files_of_others_in_a_datasets_folder_are_counted(void **state)
{
    const uint64_t bytes = 500000;
    struct data_cache *cache = kept_open_cache(bytes);
    char name[128], *end;

    (void)state;
    kept_put(cache, 0, 0);
    data_cache_free(cache);
    kept_list_chunks();
    assert_int_equal(kept_path_count, 1);
    end = strrchr(kept_paths[0], '/');
    *end = '\0';
    snprintf(name, sizeof name, "%s/notes", kept_paths[0] + strlen(kept_root) + 1);
    kept_fill(name, 250000);
    cache = kept_open_cache(bytes);
    for (uint32_t epoch = 0; epoch < 2; epoch++)
        kept_read_epoch(cache, epoch);
    assert_true(kept_disk_use() <= kept_stats_of(cache).disk_bytes);
    assert_true(kept_stats_of(cache).disk_bytes <= bytes);
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
    struct data_cache *cache = kept_open_cache(500000);

    (void)state;
    kept_put(cache, 0, 0);
    data_cache_free(cache);
    assert_int_equal(nftw(kept_root, damage_table, 16, FTW_PHYS), 0);
    cache =
        data_cache_new(kept_root, 24576, NULL, &err); /* nothing but lock, users and the folders */
    assert_non_null(cache);
    assert_int_equal(kept_stats_of(cache).disk_bytes, 24576);
    data_cache_free(cache);
}

static void damaged_table_is_mended_while_others_have_it_mapped(void **state)
{
    const pid_t pid = kept_begin_process(10 << 20);
    struct data_cache *cache = kept_open_cache(10 << 20);
    uint64_t used;

    (void)state;
    for (uint32_t epoch = 0; epoch < 2; epoch++)
        kept_read_epoch(cache, epoch);
    used = kept_stats_of(cache).disk_bytes;
    data_cache_free(cache);
    for (int i = 0; i < 400; i++) {
        assert_int_equal(nftw(kept_root, damage_table, 16, FTW_PHYS), 0);
        cache = kept_open_cache(10 << 20);
        assert_int_equal(kept_stats_of(cache).disk_bytes, used);
        data_cache_free(cache);
    }
    kept_end_process(pid); /* not by SIGBUS */
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
    data_cache_free(kept_open_cache(10 << 20));
    snprintf(path, sizeof path, "%s/said", kept_root);
    for (uint64_t i = 0; i < 3; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            struct data_cache *const cache = kept_open_cache(10 << 20);

            signal(SIGXFSZ, SIG_IGN);
            if (freopen(path, "a", stderr) == NULL || setrlimit(RLIMIT_FSIZE, &none) < 0)
                _exit(1);
            kept_put(cache, 0, 100 * i);
            kept_put(cache, 0, 100 * i + 50);
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
    snprintf(path, sizeof path, "%s/pictures", kept_root);
    assert_int_equal(file_make_folder(path, NULL), 0);
    snprintf(path, sizeof path, "%s/pictures/lock", kept_root);
    assert_int_equal(file_replace(path, "mine", 4, NULL), 0);
    assert_null(data_cache_new(kept_root, 1 << 20, NULL, &err));
    assert_non_null(strstr(err.msg, "pictures'"));
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, kept_set_up, kept_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(who_opens_it_waits_for_a_lock_whose_holder_gets_on),
        CASE(who_opens_it_does_not_wait_for_a_holder_that_hangs),
        CASE(index_of_tars_is_counted_whenever_it_is_opened),
        CASE(who_waits_to_open_it_can_be_stopped),
        CASE(counting_that_is_stopped_is_done_again),
        CASE(error_of_writing_turns_it_off),
        CASE(error_of_reading_turns_it_off_and_is_no_damage),
        CASE(chunk_that_cannot_be_removed_stays_counted),
        CASE(files_of_others_in_a_datasets_folder_are_counted),
        CASE(damaged_table_is_counted_till_it_is_removed),
        CASE(damaged_table_is_mended_while_others_have_it_mapped),
        CASE(processes_of_a_host_warn_once),
        CASE(other_peoples_lock_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
