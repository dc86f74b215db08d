/* tests/checkpoint/test_checkpoint.c -- at any moment the newest checkpoint that verifies is the
 * one that is opened. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "trainer/checkpoint/checkpoint.h"

#define COUNT 4096 /* floats of the tensor: the file is a few pages long */

static char folder[sizeof "/tmp/convoy-checkpoint-XXXXXX"];
static float weights[COUNT];

static int begin(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/convoy-checkpoint-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int end(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static int save(uint64_t step, int generation, int keep, struct err *err)
{
    const int64_t number = (int64_t)step;
    struct safetensors_entry entries[] = {
        {"weight", SAFETENSORS_F32, 1, {COUNT}, weights},
        {"number", SAFETENSORS_I64, 0, {0}, &number},
    };
    char text[32];
    const struct safetensors_pair metadata[] = {{"step", text}};

    snprintf(text, sizeof text, "%llu", (unsigned long long)step);
    for (int i = 0; i < COUNT; i++)
        weights[i] = (float)step + (float)i;
    return checkpoint_save(folder, (struct checkpoint_name){step, generation}, entries, 2, metadata,
                           1, keep, NULL, err);
}

static char *path_of(const char *name)
{
    static char path[512];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static bool is_there(const char *name)
{
    return file_exists(path_of(name));
}

/* Files in the folder: "" all, whatever they are called; "." those that begin with a dot. */
static int count_files(const char *beginning)
{
    char command[128];
    int count = -1;
    FILE *list;

    snprintf(command, sizeof command, "ls -A '%s' | grep -c '^[%s]'", folder,
             beginning[0] == '.' ? "." : ".a-z");
    list = popen(command, "r");
    assert_non_null(list);
    assert_int_equal(fscanf(list, "%d", &count), 1);
    pclose(list);
    return count;
}

/* The latest is this file, and it holds what save put in for the step. */
static void expect_latest(const char *name, int64_t step)
{
    struct safetensors file;
    struct err err = {0};
    char *path = NULL;
    int64_t number;

    assert_int_equal(checkpoint_open_latest(folder, &file, &path, &err), 1);
    assert_string_equal(path, path_of(name));
    memcpy(&number, safetensors_find(&file, "number")->data, sizeof number);
    assert_int_equal(number, step);
    assert_int_equal(atoll(safetensors_metadata(&file, "step")), step);
    free(path);
    safetensors_close(&file);
}

static void expect_none(void)
{
    struct safetensors file;
    struct err err = {0};
    char *path = NULL;

    assert_int_equal(checkpoint_open_latest(folder, &file, &path, &err), 0);
    assert_null(path);
}

static void change_byte(const char *name, long at)
{
    FILE *file = fopen(path_of(name), "r+b");
    int byte;

    assert_non_null(file);
    fseek(file, at, at < 0 ? SEEK_END : SEEK_SET);
    byte = fgetc(file);
    fseek(file, -1, SEEK_CUR);
    fputc(byte ^ 1, file);
    fclose(file);
}

static void latest_is_none_where_nothing_was_saved(void **state)
{
    (void)state;
    expect_none();
    assert_int_equal(rmdir(folder), 0);
    expect_none();
    assert_int_equal(mkdir(folder, 0700), 0);
}

static void save_makes_the_folder_and_tells_the_path(void **state)
{
    struct safetensors_entry entry = {"weight", SAFETENSORS_F32, 1, {COUNT}, weights};
    struct safetensors file;
    struct err err = {0};
    char deeper[512], *path = NULL;

    (void)state;
    snprintf(deeper, sizeof deeper, "%s/a/b", folder);
    assert_int_equal(checkpoint_save(deeper, (struct checkpoint_name){12, 3}, &entry, 1, NULL, 0, 1,
                                     &path, &err),
                     0);
    assert_string_equal(path, path_of("a/b/step-000000000012-g3.safetensors"));
    assert_int_equal(checkpoint_open(path, &file, &err), 0);
    assert_memory_equal(safetensors_find(&file, "weight")->data, weights, sizeof weights);
    safetensors_close(&file);
    free(path);
}

static void save_of_the_same_state_makes_the_same_bytes(void **state)
{
    struct buf first = {0}, second = {0};
    struct err err = {0};

    (void)state;
    assert_int_equal(save(5, 1, 9, &err), 0);
    assert_int_equal(save(5, 2, 9, &err), 0);
    assert_int_equal(file_read(path_of("step-000000000005-g1.safetensors"), 100000, &first, &err),
                     0);
    assert_int_equal(file_read(path_of("step-000000000005-g2.safetensors"), 100000, &second, &err),
                     0);
    assert_int_equal(first.bytes, second.bytes);
    assert_memory_equal(first.data, second.data, first.bytes);
    buf_release(&first);
    buf_release(&second);
}

static void latest_goes_by_generation_then_step(void **state)
{
    struct err err = {0};

    (void)state;
    assert_int_equal(save(9, 2, 9, &err), 0);
    assert_int_equal(save(8, 10, 9, &err), 0); /* as numbers: 10 > 2 */
    expect_latest("step-000000000008-g10.safetensors", 8);
    assert_int_equal(save(1000000000000, 10, 9, &err), 0); /* 13 digits */
    assert_int_equal(save(10, 10, 9, &err), 0);
    expect_latest("step-1000000000000-g10.safetensors", 1000000000000);
    assert_int_equal(save(2, 11, 9, &err), 0); /* begun anew: supersedes the longer run */
    expect_latest("step-000000000002-g11.safetensors", 2);
    assert_int_equal(save(3, 11, 2, &err), 0); /* and so it does where old ones are removed */
    expect_latest("step-000000000003-g11.safetensors", 3);
    change_byte("step-000000000003-g11.safetensors", -5);
    expect_latest("step-000000000002-g11.safetensors", 2);
}

static void generation_is_the_highest_of_the_folder_damaged_ones_too(void **state)
{
    struct err err = {0};
    int generation = -1;

    (void)state;
    assert_int_equal(checkpoint_last_generation(folder, &generation, &err), 0);
    assert_int_equal(generation, 0);
    assert_int_equal(save(9, 2, 9, &err), 0);
    assert_int_equal(save(1, 7, 9, &err), 0);
    change_byte("step-000000000001-g7.safetensors", -5);
    assert_int_equal(checkpoint_last_generation(folder, &generation, &err), 0);
    assert_int_equal(generation, 7);
    /* After this one no other could come: it is none of ours. */
    assert_int_equal(
        file_replace(path_of("step-000000000001-g2147483647.safetensors"), "x", 1, &err), 0);
    assert_int_equal(checkpoint_last_generation(folder, &generation, &err), 0);
    assert_int_equal(generation, 7);
}

static void latest_passes_over_damaged_files(void **state)
{
    static const char newest[] = "step-000000000003-g1.safetensors";
    struct err err = {0};

    (void)state;
    assert_int_equal(save(1, 1, 9, &err), 0);
    assert_int_equal(save(2, 1, 9, &err), 0);

    assert_int_equal(save(3, 1, 9, &err), 0);
    expect_latest(newest, 3);
    change_byte(newest, -5); /* in the last tensor */
    expect_latest("step-000000000002-g1.safetensors", 2);

    assert_int_equal(save(3, 1, 9, &err), 0);
    assert_int_equal(truncate(path_of(newest), 8000), 0);
    expect_latest("step-000000000002-g1.safetensors", 2);

    assert_int_equal(truncate(path_of(newest), 0), 0);
    expect_latest("step-000000000002-g1.safetensors", 2);

    change_byte("step-000000000002-g1.safetensors", -5);
    expect_latest("step-000000000001-g1.safetensors", 1);
    change_byte("step-000000000001-g1.safetensors", -5);
    expect_none();
}

/* A bit that flips anywhere in the header: in a number of the metadata, in a name, in a digest. */
static void open_refuses_every_changed_bit_of_the_header(void **state)
{
    static const char name[] = "step-000000000003-g1.safetensors";
    struct err err = {0};
    struct safetensors file;
    struct buf whole = {0};
    uint64_t length;

    (void)state;
    assert_int_equal(save(3, 1, 9, &err), 0);
    assert_int_equal(file_read(path_of(name), 100000, &whole, &err), 0);
    memcpy(&length, whole.data, sizeof length);
    const int fd = open(path_of(name), O_WRONLY);

    assert_true(fd >= 0);
    for (size_t i = 0; i < 8 + length; i++) {
        for (int bit = 0; bit < 8; bit++) {
            const unsigned char changed = whole.data[i] ^ (unsigned char)(1 << bit);

            assert_int_equal(pwrite(fd, &changed, 1, (off_t)i), 1);
            if (checkpoint_open(path_of(name), &file, &err) == 0)
                fail_msg("bit %d of byte %zu ('%c')", bit, i, whole.data[i]);
        }
        assert_int_equal(pwrite(fd, &whole.data[i], 1, (off_t)i), 1);
    }
    close(fd);
    assert_int_equal(checkpoint_open(path_of(name), &file, &err), 0);
    safetensors_close(&file);
    buf_release(&whole);
}

static void open_refuses_a_model_without_digests(void **state)
{
    struct safetensors_entry entry = {"weight", SAFETENSORS_F32, 1, {COUNT}, weights};
    struct file_new out = {.fd = -1};
    struct safetensors file;
    struct err err = {0};

    (void)state;
    assert_int_equal(file_new_open(&out, path_of("model.safetensors"), &err), 0);
    assert_int_equal(safetensors_write(&out, &entry, 1, NULL, 0, &err), 0);
    assert_int_equal(file_new_commit(&out, &err), 0);
    file_new_release(&out);
    assert_int_equal(checkpoint_open(path_of("model.safetensors"), &file, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, "it has no data_sha256"));
}

static void latest_ignores_other_names(void **state)
{
    static const char *const names[] = {
        "step-000000000009-g1.safetensors.sagemaker-uploading",
        "step-000000000009-g1.safetensors.sagemaker-uploaded",
        "step-000000000009-g1.safetensors.sagemaker-ignore",
        ".step-000000000009-g1.safetensors.tmp-7.sagemaker-ignore",
        "step-9-g1.safetensors",
        "step-0000000000009-g1.safetensors",
        "step-000000000009-g01.safetensors",
        "step-000000000009-g-1.safetensors",
        "step-00000000000x-g1.safetensors",
        "step-+00000000009-g1.safetensors",
        "step-99999999999999999999999-g1.safetensors",
        "step-000000000009-g99999999999.safetensors",
        "step-000000000009.safetensors",
        "step-000000000009-g1.safetensors~",
        "model.safetensors",
    };
    struct err err = {0};

    (void)state;
    assert_int_equal(save(9, 1, 9, &err), 0);
    struct buf good = {0};

    /* All of them could be opened, were they looked at. */
    assert_int_equal(file_read(path_of("step-000000000009-g1.safetensors"), 100000, &good, &err),
                     0);
    assert_int_equal(unlink(path_of("step-000000000009-g1.safetensors")), 0);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_int_equal(file_replace(path_of(names[i]), good.data, good.bytes, &err), 0);
    expect_none();
    assert_int_equal(save(4, 1, 1, &err), 0);
    expect_latest("step-000000000004-g1.safetensors", 4);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_true(is_there(names[i])); /* and none was removed to keep only one */
    buf_release(&good);
}

static void save_keeps_the_newest(void **state)
{
    struct err err = {0};

    (void)state;
    for (uint64_t step = 1; step <= 6; step++)
        assert_int_equal(save(step, 1, 3, &err), 0);
    assert_int_equal(count_files(""), 3);
    assert_true(is_there("step-000000000004-g1.safetensors"));
    expect_latest("step-000000000006-g1.safetensors", 6);
    assert_int_equal(save(7, 1, 1, &err), 0);
    assert_int_equal(count_files(""), 1);
    expect_latest("step-000000000007-g1.safetensors", 7);
}

/* After a resume from an older file, newer ones that did not verify may still be there. */
static void save_never_deletes_what_it_saved_when_damaged_ones_are_newer(void **state)
{
    struct err err = {0};

    (void)state;
    assert_int_equal(save(20, 1, 9, &err), 0);
    assert_int_equal(save(30, 1, 9, &err), 0);
    change_byte("step-000000000020-g1.safetensors", -5);
    change_byte("step-000000000030-g1.safetensors", -5);
    assert_int_equal(save(10, 2, 1, &err), 0);
    expect_latest("step-000000000010-g2.safetensors", 10);
    assert_int_equal(save(15, 2, 1, &err), 0);
    expect_latest("step-000000000015-g2.safetensors", 15);
}

static void save_on_a_full_disk_leaves_the_folder_as_it_was(void **state)
{
    struct rlimit before, small;
    struct err err = {0};

    (void)state;
    assert_int_equal(save(1, 1, 1, &err), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t room = 0; room < 16384; room += 1000) {
        small = before;
        small.rlim_cur = room;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        const int rc = save(2, 1, 1, &err);

        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(rc, -1);
        assert_int_equal(err.code, ERR_IO);
        assert_non_null(strstr(err.msg, "cannot save a checkpoint"));
        assert_int_equal(count_files(""), 1);
        expect_latest("step-000000000001-g1.safetensors", 1);
    }
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(save(2, 1, 1, &err), 0); /* and goes well once there is room */
    expect_latest("step-000000000002-g1.safetensors", 2);
}

static void save_and_latest_name_a_folder_that_is_a_file(void **state)
{
    struct safetensors file;
    struct err err = {0};
    char *path = NULL;

    (void)state;
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(file_replace(folder, "x", 1, &err), 0);
    assert_int_equal(save(1, 1, 1, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, folder));
    err = (struct err){0};
    assert_int_equal(checkpoint_open_latest(folder, &file, &path, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, folder));
}

static void latest_fails_where_the_folder_cannot_be_read(void **state)
{
    (void)state;
    assert_int_equal(chmod(folder, 0), 0);
    fflush(NULL);
    const pid_t child = fork();
    int status = 0;

    if (child == 0) { /* as nobody: root may read everything */
        struct safetensors file;
        struct err err = {0};
        char *path = NULL;

        if (geteuid() == 0 && setuid(65534) < 0)
            _exit(2);
        _exit(checkpoint_open_latest(folder, &file, &path, &err) == -1 && err.code == ERR_IO ? 0
                                                                                             : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(chmod(folder, 0700), 0);
    assert_int_equal(status, 0);
}

/* A writer is killed again and again at some moment of its saving. Whatever it left: the latest
 * opens, is not older than what was committed when the kill came, and clean leaves nothing but
 * checkpoints. */
static void kill_while_saving_never_loses_the_latest(void **state)
{
    struct err err = {0};
    uint64_t step = 1;
    int left = 0;

    (void)state;
    assert_int_equal(save(step, 1, 2, &err), 0);
    for (int kill_number = 0; kill_number < 40; kill_number++) {
        int pipes[2];

        assert_int_equal(pipe(pipes), 0);
        fflush(NULL);
        const pid_t child = fork();

        if (child == 0) {
            for (;;) {
                if (save(++step, 1, 2, &err) < 0)
                    _exit(1);
                if (write(pipes[1], &step, sizeof step) != sizeof step)
                    _exit(1);
            }
        }
        close(pipes[1]);
        usleep((useconds_t)(500 + kill_number * 331));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        for (uint64_t told; read(pipes[0], &told, sizeof told) == sizeof told;)
            step = told;
        close(pipes[0]);

        struct safetensors file;
        char *path = NULL;

        assert_int_equal(checkpoint_open_latest(folder, &file, &path, &err), 1);
        const uint64_t latest = (uint64_t)atoll(safetensors_metadata(&file, "step"));

        assert_in_range(latest, step, step + 1);
        step = latest;
        safetensors_close(&file);
        free(path);
        left += count_files(".");
        checkpoint_clean(folder);
        assert_int_equal(count_files("."), 0);
    }
    assert_true(left > 0); /* some kills did come in the middle of a file */
    assert_int_equal(save(step + 1, 1, 2, &err), 0);
    assert_int_equal(count_files(""), 2);
}

static void clean_removes_only_what_a_killed_writer_left(void **state)
{
    static const struct {
        const char *name;
        bool stays;
    } cases[] = {
        {".step-000000000009-g1.safetensors.tmp-7.sagemaker-ignore", false},
        {".step-000000000010-g12.safetensors.tmp-123456.sagemaker-ignore", false},
        {"step-000000000009-g1.safetensors", true},
        {"step-000000000009-g1.safetensors.sagemaker-ignore", true},
        {".probe-abc.sagemaker-ignore", true},
        {".step-000000000009-g1.safetensors.tmp-7", true},
        {".sagemaker-ignore", true},
    };
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(file_replace(path_of(cases[i].name), "x", 1, &err), 0);
    checkpoint_clean(folder);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (is_there(cases[i].name) != cases[i].stays)
            fail_msg("%s", cases[i].name);
    }
    checkpoint_clean("/nonexistent/folder");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(latest_is_none_where_nothing_was_saved),
        CASE(save_makes_the_folder_and_tells_the_path),
        CASE(save_of_the_same_state_makes_the_same_bytes),
        CASE(latest_goes_by_generation_then_step),
        CASE(generation_is_the_highest_of_the_folder_damaged_ones_too),
        CASE(latest_passes_over_damaged_files),
        CASE(open_refuses_every_changed_bit_of_the_header),
        CASE(open_refuses_a_model_without_digests),
        CASE(latest_ignores_other_names),
        CASE(save_keeps_the_newest),
        CASE(save_never_deletes_what_it_saved_when_damaged_ones_are_newer),
        CASE(save_on_a_full_disk_leaves_the_folder_as_it_was),
        CASE(save_and_latest_name_a_folder_that_is_a_file),
        CASE(latest_fails_where_the_folder_cannot_be_read),
        CASE(kill_while_saving_never_loses_the_latest),
        CASE(clean_removes_only_what_a_killed_writer_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
