/* tests/base/test_cgroup.c -- which control groups stand above a process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/cgroup.h"

static void note(void *context, const char *folder, bool version_2)
{
    buf_printf(context, "%s %d\n", folder, version_2 ? 2 : 1);
}

/* A process's groups by a list of this text. */
static void groups_are(const char *text, const char *controller, const char *expected)
{
    char list[] = "/tmp/convoy-cgroup-XXXXXX";
    const int fd = mkstemp(list);
    struct buf seen = {0};

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    cgroup_visit(list, "/m", controller, note, &seen);
    unlink(list);
    assert_string_equal(buf_text(&seen), expected);
    buf_release(&seen);
}

static void groups_go_from_the_own_up_to_the_root(void **state)
{
    (void)state;
    groups_are("0::/a/b\n", "cpu", "/m/a/b 2\n/m/a 2\n/m 2\n");
    groups_are("0::/\n", "cpu", "/m 2\n");
    groups_are("0::/a", "memory", "/m/a 2\n/m 2\n");
}

static void groups_of_version_1_are_those_of_the_controller(void **state)
{
    static const char both[] = "5:memory:/x/y\n4:cpu,cpuacct:/z\n3:cpuset:/s\n0::/\n";

    (void)state;
    groups_are(both, "memory", "/m/memory/x/y 1\n/m/memory/x 1\n/m/memory 1\n/m 2\n");
    groups_are(both, "cpu", "/m/cpu/z 1\n/m/cpu 1\n/m 2\n");
    groups_are("3:cpuset:/s\n", "cpu", "");
}

static void groups_of_a_list_that_is_none_are_none(void **state)
{
    struct buf seen = {0};

    (void)state;
    groups_are("no colons\n:\n", "cpu", "");
    cgroup_visit("/nowhere/at/all", "/m", "cpu", note, &seen);
    assert_int_equal(seen.bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_go_from_the_own_up_to_the_root),
        cmocka_unit_test(groups_of_version_1_are_those_of_the_controller),
        cmocka_unit_test(groups_of_a_list_that_is_none_are_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
