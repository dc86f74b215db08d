/* tests/data/test_resume.c -- a pack that was killed or failed goes on: with what is whole and its
 * own, and with nothing else. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "same.h"
#include "trainer/data/index/index.h"
#include "trainer/data/pack/pack.h"
#include "trainer/data/set/open.h"
#include "tree.h"

#define KILLED_AT "shards/shard-000003.idx"

static void make_pets(void)
{
    tree_class("pets", "cats", 300);
    tree_class("pets", "dogs", 200);
}

static int pack(const char *source, const char *target, const volatile sig_atomic_t *cancel,
                struct err *err)
{
    char source_path[512], target_path[512];
    const struct data_pack_options options = {.source = source_path,
                                              .target = target_path,
                                              .shard_bytes = SAME_SHARD_BYTES,
                                              .cancel = cancel};

    strcpy(source_path, tree_path(source));
    strcpy(target_path, tree_path(target));
    return data_pack(&options, err);
}

static void sleep_ms(long ms)
{
    const struct timespec wait = {.tv_nsec = ms * 1000000};

    nanosleep(&wait, NULL);
}

/* Pack in a process of its own and kill it once that file is there. */
static void pack_and_kill(const char *source, const char *when)
{
    char path[512];
    const pid_t child = fork();
    int status;

    if (child == 0)
        _exit(pack(source, "shards", NULL, NULL) < 0);
    strcpy(path, tree_path(when));
    for (int i = 0; i < 100000 && !file_exists(path); i++)
        usleep(100);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status)); /* else the pack was too quick for this test */
    assert_true(file_exists(path));
}

static ino_t inode_of(const char *name)
{
    struct stat info;

    assert_int_equal(stat(tree_path(name), &info), 0);
    return info.st_ino;
}

static void pack_that_was_killed_goes_on_with_its_whole_shards(void **state)
{
    ino_t first, third;

    (void)state;
    make_pets();
    same_pack("pets", "want", 0);
    pack_and_kill("pets", KILLED_AT);
    first = inode_of("shards/shard-000000.tar");
    third = inode_of("shards/shard-000002.tar");
    same_pack("pets", "shards", 0);
    same_folders("want", "shards"); /* no note and no draft is left */
    assert_int_equal(inode_of("shards/shard-000000.tar"), first);
    assert_int_equal(inode_of("shards/shard-000002.tar"), third);
}

static void pack_writes_a_damaged_shard_again_and_keeps_the_others(void **state)
{
    ino_t second, third;
    FILE *file;

    (void)state;
    make_pets();
    same_pack("pets", "want", 0);
    pack_and_kill("pets", KILLED_AT);
    assert_int_equal(link(tree_path("shards/shard-000001.tar"), tree_path("old")), 0);
    second = inode_of("old"); /* which nobody else gets while it has a name */
    third = inode_of("shards/shard-000002.tar");
    file = fopen(tree_path("shards/shard-000001.tar"), "r+b"); /* within the first picture */
    assert_int_equal(fseek(file, 520, SEEK_SET), 0);
    fputc('!', file);
    fclose(file);
    same_pack("pets", "shards", 0);
    same_folders("want", "shards");
    assert_int_not_equal(inode_of("shards/shard-000001.tar"), second);
    assert_int_equal(inode_of("shards/shard-000002.tar"), third);
}

static void pack_goes_on_from_the_same_source_only(void **state)
{
    struct data_index index;
    struct err err = {0};

    (void)state;
    make_pets();
    pack_and_kill("pets", KILLED_AT);
    /* Nobody takes what is there for a data set. */
    assert_int_equal(data_index_open(&index, tree_path("shards"), NULL, 0, NULL, &err), -1);
    assert_non_null(strstr(err.msg, "half packed"));
    sleep_ms(20);
    tree_picture("pets/cats/7.jpg", 7 * 37 % 1500); /* the same length, another time */
    assert_int_equal(pack("pets", "shards", NULL, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, "half packed"));
    assert_true(file_exists(tree_path(KILLED_AT)));
}

static void pack_of_splits_goes_on_behind_the_finished_ones(void **state)
{
    ino_t train;

    (void)state;
    tree_class("root/train", "cats", 100);
    tree_class("root/train", "dogs", 100);
    tree_class("root/val", "cats", 300);
    same_pack("root", "want", 0);
    pack_and_kill("root", "shards/val/shard-000003.idx");
    assert_true(file_exists(tree_path("shards/train/index.json")));
    train = inode_of("shards/train/shard-000000.tar");
    same_pack("root", "shards", 0);
    same_folders("want/train", "shards/train");
    same_folders("want/val", "shards/val");
    assert_int_equal(inode_of("shards/train/shard-000000.tar"), train);
}

static volatile sig_atomic_t cancel;

static void *cancel_soon(void *path)
{
    while (!file_exists(path))
        usleep(100);
    cancel = 1;
    return NULL;
}

static void pack_that_is_stopped_leaves_finished_shards_and_goes_on(void **state)
{
    struct err err = {0};
    pthread_t thread;
    char path[512];

    (void)state;
    make_pets();
    same_pack("pets", "want", 0);
    cancel = 1;
    assert_int_equal(pack("pets", "shards", &cancel, &err), -1);
    assert_int_equal(err.code, ERR_STOPPED);
    assert_false(file_exists(tree_path("shards"))); /* nothing was finished: nothing stays */
    cancel = 0;
    strcpy(path, tree_path(KILLED_AT));
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, path), 0);
    assert_int_equal(pack("pets", "shards", &cancel, &err), -1);
    pthread_join(thread, NULL);
    assert_int_equal(err.code, ERR_STOPPED);
    assert_true(file_exists(tree_path("shards/packing.json")));
    assert_true(file_exists(tree_path("shards/shard-000002.tar")));
    same_pack("pets", "shards", 0);
    same_folders("want", "shards");
}

/* The first shard cannot be looked at: its index file is a folder, which reads as EISDIR. */
static void pack_that_fails_as_it_looks_at_shards_takes_nothing_back(void **state)
{
    struct err err = {0};
    ino_t first, third;

    (void)state;
    make_pets();
    same_pack("pets", "want", 0);
    pack_and_kill("pets", KILLED_AT);
    first = inode_of("shards/shard-000000.tar");
    third = inode_of("shards/shard-000002.tar");
    assert_int_equal(rename(tree_path("shards/shard-000000.idx"), tree_path("kept")), 0);
    assert_int_equal(mkdir(tree_path("shards/shard-000000.idx"), 0777), 0);
    assert_int_equal(pack("pets", "shards", NULL, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_true(file_exists(tree_path("shards/packing.json")));
    assert_int_equal(rmdir(tree_path("shards/shard-000000.idx")), 0);
    assert_int_equal(rename(tree_path("kept"), tree_path("shards/shard-000000.idx")), 0);
    same_pack("pets", "shards", 0);
    same_folders("want", "shards");
    assert_int_equal(inode_of("shards/shard-000000.tar"), first);
    assert_int_equal(inode_of("shards/shard-000002.tar"), third);
}

/* A process that packs, and stands still once that file is there. */
static pid_t pack_and_halt(const char *source, const char *when)
{
    char path[512];
    const pid_t child = fork();

    if (child == 0)
        _exit(pack(source, "shards", NULL, NULL) < 0);
    strcpy(path, tree_path(when));
    for (int i = 0; i < 100000 && !file_exists(path); i++)
        usleep(100);
    kill(child, SIGSTOP);
    assert_true(file_exists(path));
    assert_false(file_exists(tree_path("shards/index.json"))); /* else it was too quick */
    return child;
}

static int status_of(pid_t child)
{
    int status;

    kill(child, SIGCONT);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void pack_keeps_out_of_a_folder_that_another_packs_into(void **state)
{
    struct err err = {0};
    pid_t child;

    (void)state;
    make_pets();
    same_pack("pets", "want", 0);
    child = pack_and_halt("pets", KILLED_AT);
    assert_int_equal(pack("pets", "shards", NULL, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, "another process packs into"));
    assert_int_equal(status_of(child), 0);
    same_folders("want", "shards");
}

static void pack_whose_shard_was_removed_does_not_say_that_all_is_there(void **state)
{
    pid_t child;

    (void)state;
    make_pets();
    same_pack("pets", "want", 0);
    child = pack_and_halt("pets", KILLED_AT);
    unlink(tree_path("shards/shard-000001.tar"));
    assert_int_equal(status_of(child), 1);
    assert_false(file_exists(tree_path("shards/index.json")));
    same_pack("pets", "shards", 0);
    same_folders("want", "shards");
}

static void pack_whose_folder_is_another_ones_now_touches_nothing_there(void **state)
{
    pid_t child;

    (void)state;
    make_pets();
    same_pack("pets", "want", 0);
    child = pack_and_halt("pets", KILLED_AT);
    assert_int_equal(rename(tree_path("shards"), tree_path("old")), 0);
    same_pack("pets", "shards", 0);
    assert_int_equal(status_of(child), 1);
    same_folders("want", "shards");
}

static void pack_keeps_out_of_shards_that_are_not_its_own(void **state)
{
    struct err err = {0};

    (void)state;
    make_pets();
    pack_and_kill("pets", KILLED_AT);
    unlink(tree_path("shards/packing.json"));
    assert_int_equal(pack("pets", "shards", NULL, &err), -1);
    assert_non_null(strstr(err.msg, "holds shards already"));
    assert_true(file_exists(tree_path(KILLED_AT)));
}

static void pack_removes_drafts_of_the_dead_and_no_others(void **state)
{
    char name[128];
    const pid_t child = fork();
    int status;

    (void)state;
    if (child == 0)
        _exit(0);
    assert_int_equal(waitpid(child, &status, 0), child);
    make_pets();
    snprintf(name, sizeof name, "shards/.shard-000000.tar.tmp-%d.sagemaker-ignore", (int)child);
    tree_write(name, "half", 4);
    snprintf(name, sizeof name, "shards/.mine.tmp-%d", (int)child);
    tree_write(name, "mine", 4);
    same_pack("pets", "shards", 0);
    assert_true(file_exists(tree_path(name)));
    snprintf(name, sizeof name, "shards/.shard-000000.tar.tmp-%d.sagemaker-ignore", (int)child);
    assert_false(file_exists(tree_path(name)));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, tree_make, tree_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(pack_that_was_killed_goes_on_with_its_whole_shards),
        CASE(pack_writes_a_damaged_shard_again_and_keeps_the_others),
        CASE(pack_goes_on_from_the_same_source_only),
        CASE(pack_of_splits_goes_on_behind_the_finished_ones),
        CASE(pack_that_is_stopped_leaves_finished_shards_and_goes_on),
        CASE(pack_that_fails_as_it_looks_at_shards_takes_nothing_back),
        CASE(pack_keeps_out_of_a_folder_that_another_packs_into),
        CASE(pack_whose_shard_was_removed_does_not_say_that_all_is_there),
        CASE(pack_whose_folder_is_another_ones_now_touches_nothing_there),
        CASE(pack_keeps_out_of_shards_that_are_not_its_own),
        CASE(pack_removes_drafts_of_the_dead_and_no_others),
    };

    log_init("", true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
