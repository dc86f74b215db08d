/* tests/launcher/test_hosts.c */
#include "launcher/hosts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/file.h"
#include "launcher/words.h"

static void hosts_from_list_takes_names_once_each(void **state)
{
    struct launch_words hosts = {0};

    (void)state;
    assert_int_equal(launch_hosts_from_list(&hosts, "a, b,a", NULL), 0);
    assert_int_equal(hosts.count, 2);
    assert_string_equal(hosts.at[0], "a");
    assert_string_equal(hosts.at[1], "b");
    launch_words_release(&hosts);
}

static void hosts_from_list_refuses_an_empty_name(void **state)
{
    static const char *const lists[] = {"", ",", "a,,b", "a,", " "};

    (void)state;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        struct launch_words hosts = {0};
        struct err err = {0};

        assert_int_equal(launch_hosts_from_list(&hosts, lists[i], &err), -1);
        assert_int_equal(err.code, ERR_USAGE);
        launch_words_release(&hosts);
    }
}

static void hosts_from_file_passes_over_comments_and_slots(void **state)
{
    static const char text[] = "# ours\n\nnode-1 slots=4\r\n  node-2\t# big\nnode-1\n";
    char path[] = "/tmp/convoy-hosts-XXXXXX";
    struct launch_words hosts = {0};
    struct err err = {0};

    (void)state;
    close(mkstemp(path));
    assert_int_equal(file_replace(path, text, sizeof text - 1, &err), 0);
    assert_int_equal(launch_hosts_from_file(&hosts, path, &err), 0);
    assert_int_equal(hosts.count, 2);
    assert_string_equal(hosts.at[0], "node-1");
    assert_string_equal(hosts.at[1], "node-2");
    launch_words_release(&hosts);
    assert_int_equal(file_replace(path, "# none\n", 7, &err), 0);
    assert_int_equal(launch_hosts_from_file(&hosts, path, &err), -1);
    unlink(path);
    assert_int_equal(launch_hosts_from_file(&hosts, path, &err), -1);
    assert_non_null(strstr(err.msg, path));
    launch_words_release(&hosts);
}

static void hosts_from_json_takes_a_list_of_strings_alone(void **state)
{
    static const char *const bad[] = {"", "[]", "{}", "\"a\"", "[1]", "[\"a\",2]", "algo-1"};
    struct launch_words hosts = {0};

    (void)state;
    assert_int_equal(launch_hosts_from_json(&hosts, "[\"algo-1\",\"algo-2\"]", NULL), 0);
    assert_int_equal(hosts.count, 2);
    launch_words_release(&hosts);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err err = {0};

        assert_int_equal(launch_hosts_from_json(&hosts, bad[i], &err), -1);
        assert_non_null(strstr(err.msg, "SM_HOSTS"));
        launch_words_release(&hosts);
    }
}

static int check_list(const char *list, struct err *err)
{
    struct launch_words hosts = {0};
    int rc;

    assert_int_equal(launch_hosts_from_list(&hosts, list, err), 0);
    rc = launch_hosts_check(&hosts, "--hosts", err);
    launch_words_release(&hosts);
    return rc;
}

static void hosts_check_takes_this_host_alone(void **state)
{
    const struct launch_words none = {0};
    struct err err = {0};
    char own[256] = "";

    (void)state;
    gethostname(own, sizeof own - 1);
    assert_int_equal(launch_hosts_check(&none, "--hosts", &err), 0);
    assert_int_equal(check_list("localhost", &err), 0);
    assert_int_equal(check_list("127.0.0.1,127.0.0.1", &err), 0);
    assert_int_equal(check_list(own, &err), 0);
    assert_int_equal(check_list("elsewhere.invalid", &err), -1);
    assert_non_null(strstr(err.msg, "another host"));
    assert_int_equal(check_list("a,b", &err), -1);
    assert_int_equal(err.code, ERR_USAGE);
    assert_non_null(strstr(err.msg, "mpirun --host a,b convoy train"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_from_list_takes_names_once_each),
        cmocka_unit_test(hosts_from_list_refuses_an_empty_name),
        cmocka_unit_test(hosts_from_file_passes_over_comments_and_slots),
        cmocka_unit_test(hosts_from_json_takes_a_list_of_strings_alone),
        cmocka_unit_test(hosts_check_takes_this_host_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
