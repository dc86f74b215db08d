/* tests/trainer/test_features.c -- features are kept in memory and in a file, and checked. */
#include <linux/magic.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "trainer/features.h"

#define ROWS   40
#define FLOATS 33
#define HERE   "." /* on a disk, as the build is */

/* Under AddressSanitizer too, calloc shall answer NULL for what cannot be had, as it does without.
 */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static struct train_features *features_new(size_t rows_in_memory)
{
    struct err err = {0};
    struct train_features *features =
        train_features_new(ROWS, FLOATS, rows_in_memory * FLOATS * sizeof(float), HERE, &err);

    if (features == NULL)
        fail_msg("%s", err.msg);
    return features;
}

static void fill(float *row, size_t number)
{
    for (size_t i = 0; i < FLOATS; i++)
        row[i] = (float)(number * 100 + i);
}

static void rows_come_back_from_memory_and_file(void **state)
{
    static const size_t in_memory[] = {0, 1, 17, ROWS - 1, ROWS, 2 * ROWS};

    (void)state;
    for (size_t m = 0; m < sizeof in_memory / sizeof *in_memory; m++) {
        struct train_features *features = features_new(in_memory[m]);
        struct err err = {0};
        float rows[3 * FLOATS];

        for (size_t row = ROWS; row > 0; row -= 2) { /* two at a time, backwards */
            assert_false(train_features_has(features, row - 1));
            fill(rows, row - 2);
            fill(rows + FLOATS, row - 1);
            assert_int_equal(train_features_put(features, row - 2, 2, rows, &err), 0);
        }
        for (size_t row = 0; row < ROWS; row++) {
            float got[FLOATS];

            assert_true(train_features_has(features, row));
            assert_int_equal(train_features_get(features, row, got, &err), 0);
            fill(rows, row);
            assert_memory_equal(got, rows, sizeof got);
        }
        train_features_free(features);
    }
}

/* Of all open files the last one without a name. */
static int file_of_features(void)
{
    char target[64] = "", path[32];
    int found = -1;

    for (int fd = 3; fd < 64; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        memset(target, 0, sizeof target);
        if (readlink(path, target, sizeof target - 1) > 0 && strstr(target, "(deleted)") != NULL)
            found = fd;
    }
    return found;
}

static void a_row_that_changed_is_refused(void **state)
{
    struct train_features *features = features_new(10);
    struct err err = {0};
    float row[FLOATS];
    int fd;

    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        fill(row, i);
        assert_int_equal(train_features_put(features, i, 1, row, &err), 0);
    }
    fd = file_of_features();
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "x", 1, (off_t)(5 * FLOATS * sizeof(float) + 7)), 1);
    assert_int_equal(train_features_get(features, 14, row, &err), 0);
    assert_int_equal(train_features_get(features, 15, row, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, "picture 15"));
    assert_int_equal(ftruncate(fd, 6 * FLOATS * sizeof(float)), 0);
    assert_int_equal(train_features_get(features, 20, row, &err), -1);
    assert_non_null(strstr(err.msg, "it is short"));
    train_features_free(features);
}

static void a_folder_without_room_is_named(void **state)
{
    struct err err = {0};

    (void)state;
    assert_null(train_features_new(ROWS, FLOATS, 0, "/nowhere/at/all", &err));
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, "/nowhere/at/all"));
    assert_null(train_features_new(ROWS, (size_t)1 << 40, 0, HERE, &err));
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, "MB of '" HERE "'"));
}

static void a_folder_in_memory_is_no_way_out(void **state)
{
    struct statfs info;
    struct err err = {0};

    (void)state;
    if (statfs("/dev/shm", &info) < 0 || info.f_type != TMPFS_MAGIC)
        skip();
    assert_null(train_features_new(ROWS, FLOATS, 0, "/dev/shm", &err));
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, "'/dev/shm' is memory too"));
}

static void too_many_rows_for_memory_are_counted(void **state)
{
    struct err err = {0};

    (void)state;
    assert_null(train_features_new((size_t)1 << 50, 1, 4, HERE, &err));
    assert_int_equal(err.code, ERR_MEMORY);
    assert_non_null(strstr(err.msg, "1125899906842624 pictures (5629499534.2 MB)"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_back_from_memory_and_file),
        cmocka_unit_test(a_row_that_changed_is_refused),
        cmocka_unit_test(a_folder_without_room_is_named),
        cmocka_unit_test(a_folder_in_memory_is_no_way_out),
        cmocka_unit_test(too_many_rows_for_memory_are_counted),
    };

    return cmocka_run_group_tests_name("trainer features", tests, NULL, NULL);
}
