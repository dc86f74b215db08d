/* tests/data/test_cache_survey.c -- counting a cache's files: each of them once, with a beat, and
 * never longer than may be. */
#include "trainer/data/cache/survey.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <unistd.h>

#include <sys/wait.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "kept.h"

#define BLOCK 4096

static uint64_t beats;

static struct data_cache_survey begin(void)
{
    char path[96];
    int folder;

    snprintf(path, sizeof path, "%s/pictures", kept_root);
    assert_int_equal(file_make_folder(path, NULL), 0);
    folder = open(path, O_RDONLY | O_DIRECTORY);
    assert_true(folder >= 0);
    snprintf(path, sizeof path, "%s/index", kept_root);
    assert_int_equal(file_make_folder(path, NULL), 0);
    beats = 0;
    return (struct data_cache_survey){.folder = folder, .block = BLOCK, .beats = &beats};
}

static void hidden_files_beside_count_too(void **state)
{
    struct data_cache_survey survey = begin();

    (void)state;
    kept_fill("index/a.idx", 1);
    kept_fill("index/.b.idx", BLOCK + 1);
    kept_fill("index/..c", BLOCK);
    assert_int_equal(data_cache_survey_beside(&survey), (2 + 3 + 2) * BLOCK);
    assert_false(survey.broken_off);
    close(survey.folder);
}

static void each_file_beside_is_a_beat(void **state)
{
    struct data_cache_survey survey = begin();

    (void)state;
    for (int i = 0; i < 20; i++) {
        char name[32];

        snprintf(name, sizeof name, "index/%d.idx", i);
        kept_fill(name, 1);
    }
    data_cache_survey_beside(&survey);
    assert_in_range(beats, 20, 21);
    close(survey.folder);
}

static void it_ends_when_it_is_asked_to_and_when_its_time_is_over(void **state)
{
    const volatile sig_atomic_t stop = 1;

    (void)state;
    for (int timed = 0; timed < 2; timed++) {
        struct data_cache_survey survey = begin();

        kept_fill("index/a.idx", 1);
        survey.cancel = timed ? NULL : &stop;
        survey.until_s = timed ? clock_now_s() - 1 : 0;
        assert_int_equal(data_cache_survey_beside(&survey), 0);
        assert_true(survey.broken_off);
        survey.broken_off = false;
        assert_int_equal(data_cache_survey_datasets(&survey), 0);
        assert_true(survey.broken_off);
        close(survey.folder);
    }
}

/* ---- as the store has it ---- */

static uint64_t word_of_lock(off_t at, uint64_t set)
{
    char path[96];
    uint64_t word;
    int fd;

    snprintf(path, sizeof path, "%s/pictures/lock", kept_root);
    fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &word, sizeof word, at), sizeof word);
    if (set != 0)
        assert_int_equal(pwrite(fd, &set, sizeof set, at), sizeof set);
    close(fd);
    return word;
}

/* How often a file was met when it was opened; marked: as by who died with the lock. */
static uint64_t beats_of_opening(bool marked)
{
    const uint64_t before = word_of_lock(24, 0);

    word_of_lock(8, marked);
    data_cache_free(kept_open_cache(10 << 20));
    return word_of_lock(24, 0) - before;
}

static void files_are_counted_once_when_it_is_opened_after_a_kill(void **state)
{
    struct data_cache *const cache = kept_open_cache(10 << 20);
    uint64_t clean;

    (void)state;
    kept_read_epoch(cache, 0);
    data_cache_free(cache);
    clean = beats_of_opening(false);
    assert_true(clean >= KEPT_COUNT / KEPT_CHUNK);
    assert_int_equal(beats_of_opening(true), clean);
}

static void drafts_of_the_dead_go_when_it_is_opened(void **state)
{
    static const char hash[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    char names[4][160];
    const pid_t dead = fork();

    (void)state;
    if (dead == 0)
        _exit(0);
    waitpid(dead, NULL, 0);
    data_cache_free(kept_open_cache(10 << 20));
    close(begin().folder);
    snprintf(names[0], sizeof names[0], "index/.%s.idx.tmp-%d.sagemaker-ignore", hash, (int)dead);
    snprintf(names[1], sizeof names[1], "index/.%s.idx.tmp-%d.sagemaker-ignore", hash,
             (int)getpid());
    snprintf(names[2], sizeof names[2], "index/.mine.idx.tmp-%d.sagemaker-ignore", (int)dead);
    snprintf(names[3], sizeof names[3], "index/.%s.idx.tmp-%d", hash, (int)dead);
    for (int i = 0; i < 4; i++)
        kept_fill(names[i], 1000);
    data_cache_free(kept_open_cache(10 << 20));
    for (int i = 0; i < 4; i++) {
        char path[1024];

        snprintf(path, sizeof path, "%s/%s", kept_root, names[i]);
        assert_int_equal(file_exists(path), i > 0);
    }
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, kept_set_up, kept_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(hidden_files_beside_count_too),
        CASE(each_file_beside_is_a_beat),
        CASE(it_ends_when_it_is_asked_to_and_when_its_time_is_over),
        CASE(files_are_counted_once_when_it_is_opened_after_a_kill),
        CASE(drafts_of_the_dead_go_when_it_is_opened),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
