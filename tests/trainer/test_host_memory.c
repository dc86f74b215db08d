/* tests/trainer/test_host_memory.c -- what control groups leave of a host's memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "trainer/host_memory.h"

static char folder[] = "/tmp/convoy-memory-XXXXXX";
static char path[256];

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static const char *const files[] = {
    "memory.max", "memory.current", "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat",
};

static int remove_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    return 0;
}

static int remove_folder(void **state)
{
    remove_files(state);
    return rmdir(folder);
}

static void put(const char *name, const char *text)
{
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void a_group_leaves_its_limit_less_what_cannot_be_given_back(void **state)
{
    (void)state;
    put("memory.max", "1000\n");
    assert_int_equal(train_host_memory_left(folder, true), 1000);
    put("memory.current", "700\n");
    assert_int_equal(train_host_memory_left(folder, true), 300);
    put("memory.stat", "anon 1\ntotal_inactive_file 9\ninactive_file 250\nactive_file 4\n");
    assert_int_equal(train_host_memory_left(folder, true), 550);
    put("memory.current", "2000\n");
    assert_int_equal(train_host_memory_left(folder, true), 0);
}

static void a_group_of_version_1_has_other_names(void **state)
{
    (void)state;
    put("memory.limit_in_bytes", "1000\n");
    put("memory.usage_in_bytes", "900\n");
    put("memory.stat", "inactive_file 9\ntotal_inactive_file 400\n");
    assert_int_equal(train_host_memory_left(folder, false), 500);
}

static void a_group_without_a_limit_leaves_all(void **state)
{
    (void)state;
    assert_true(train_host_memory_left(folder, true) == UINT64_MAX);
    put("memory.max", "max\n");
    put("memory.limit_in_bytes", "9223372036854771712\n");
    assert_true(train_host_memory_left(folder, true) == UINT64_MAX);
    assert_true(train_host_memory_left(folder, false) == UINT64_MAX);
}

static void the_environment_takes_the_place_of_the_host(void **state)
{
    static const char *const wrong[] = {"4G", "-1", " 5", "1e9", "99999999999999999999999"};
    struct err err = {0};
    uint64_t bytes = 0;

    (void)state;
    setenv("CONVOY_HOST_MEMORY", "123", 1);
    assert_int_equal(train_host_memory(&bytes, &err), 0);
    assert_int_equal(bytes, 123);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        setenv("CONVOY_HOST_MEMORY", wrong[i], 1);
        assert_int_equal(train_host_memory(&bytes, &err), -1);
        assert_int_equal(err.code, ERR_USAGE);
    }
    unsetenv("CONVOY_HOST_MEMORY");
    assert_int_equal(train_host_memory(&bytes, &err), 0);
    assert_true(bytes > 1 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_group_leaves_its_limit_less_what_cannot_be_given_back,
                                  remove_files),
        cmocka_unit_test_teardown(a_group_of_version_1_has_other_names, remove_files),
        cmocka_unit_test_teardown(a_group_without_a_limit_leaves_all, remove_files),
        cmocka_unit_test(the_environment_takes_the_place_of_the_host),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
