/* tests/launcher/test_hosts.c */
#include "launcher/hosts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/file.h"
#include "launcher/sagemaker.h"
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

static int find_list(struct launch_hosts *hosts, const char *list, struct err *err)
{
    const struct launch_hosts_options options = {.list = list};

    return launch_hosts_find(hosts, &options, err);
}

static int forget_environment(void **state)
{
    (void)state;
    unsetenv("SM_HOSTS");
    unsetenv("SM_CURRENT_HOST");
    return 0;
}

static void hosts_find_knows_this_host_by_name_and_address(void **state)
{
    static const char *const lists[] = {"localhost", "127.0.0.1,127.0.0.1", NULL};
    char own[256] = "";

    (void)state;
    gethostname(own, sizeof own - 1);
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        struct launch_hosts hosts = {0};
        struct err err = {0};

        assert_int_equal(find_list(&hosts, lists[i] == NULL ? own : lists[i], &err), 0);
        assert_int_equal(hosts.kind, LAUNCH_HOSTS_ONE);
        assert_int_equal(hosts.names.count, 1);
        launch_hosts_release(&hosts);
    }
}

static void hosts_find_keeps_the_order_of_a_list_for_ssh(void **state)
{
    struct launch_hosts hosts = {0};
    struct err err = {0};

    (void)state;
    assert_int_equal(find_list(&hosts, "node-9,localhost,node-10", &err), 0);
    assert_int_equal(hosts.kind, LAUNCH_HOSTS_SSH);
    assert_int_equal(hosts.own, 1);
    assert_string_equal(hosts.names.at[2], "node-10");
    launch_hosts_release(&hosts);
    assert_int_equal(find_list(&hosts, "elsewhere.invalid", &err), 0);
    assert_int_equal(hosts.kind, LAUNCH_HOSTS_SSH);
    assert_int_equal(hosts.own, -1);
    launch_hosts_release(&hosts);
}

static void hosts_find_refuses_what_is_no_name(void **state)
{
    static const struct {
        const char *list, *part;
    } cases[] = {
        {"a,-oProxyCommand=x", "not a host's name"},
        {"a:4", "--ranks-per-host"},
        {"me@a", "~/.ssh/config"},
        {"a;b", "not a host's name"},
        {"localhost,127.0.0.1", "both this host"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct launch_hosts hosts = {0};
        struct err err = {0};

        assert_int_equal(find_list(&hosts, cases[i].list, &err), -1);
        assert_int_equal(err.code, ERR_USAGE);
        assert_non_null(strstr(err.msg, "--hosts"));
        assert_non_null(strstr(err.msg, cases[i].part));
        launch_hosts_release(&hosts);
    }
}

static void hosts_find_sorts_twelve_as_text_the_first_leads(void **state)
{
    static const char *const sorted[] = {"algo-1", "algo-10", "algo-11", "algo-12",
                                         "algo-2", "algo-3",  "algo-4",  "algo-5",
                                         "algo-6", "algo-7",  "algo-8",  "algo-9"};
    char current[] = "algo-10";
    struct launch_sagemaker sagemaker = {.active = true, .current = current};
    struct launch_hosts hosts = {0};
    struct err err = {0};

    (void)state;
    for (int i = 1; i <= 12; i++) {
        char name[16];

        snprintf(name, sizeof name, "algo-%d", i);
        launch_words_push(&sagemaker.hosts, name);
    }
    assert_int_equal(
        launch_hosts_find(&hosts, &(struct launch_hosts_options){.sagemaker = &sagemaker}, &err),
        0);
    assert_int_equal(hosts.kind, LAUNCH_HOSTS_EACH);
    assert_int_equal(hosts.names.count, 12);
    for (size_t i = 0; i < 12; i++)
        assert_string_equal(hosts.names.at[i], sorted[i]);
    assert_int_equal(hosts.own, 1);
    launch_hosts_release(&hosts);
    launch_words_release(&sagemaker.hosts);
}

static void hosts_find_takes_sm_hosts_with_the_current_one(void **state)
{
    const struct launch_hosts_options options = {0};
    struct launch_hosts hosts = {0};
    struct err err = {0};

    (void)state;
    setenv("SM_HOSTS", "[\"b\",\"a\"]", 1);
    assert_int_equal(launch_hosts_find(&hosts, &options, &err), -1);
    assert_non_null(strstr(err.msg, "SM_CURRENT_HOST"));
    launch_hosts_release(&hosts);
    setenv("SM_CURRENT_HOST", "b", 1);
    assert_int_equal(launch_hosts_find(&hosts, &options, &err), 0);
    assert_int_equal(hosts.kind, LAUNCH_HOSTS_EACH);
    assert_int_equal(hosts.own, 1);
    launch_hosts_release(&hosts);
    setenv("SM_CURRENT_HOST", "c", 1);
    assert_int_equal(launch_hosts_find(&hosts, &options, &err), -1);
    assert_non_null(strstr(err.msg, "'c'"));
    launch_hosts_release(&hosts);
    setenv("SM_HOSTS", "[\"anything\"]", 1);
    assert_int_equal(launch_hosts_find(&hosts, &options, &err), 0);
    assert_int_equal(hosts.kind, LAUNCH_HOSTS_ONE);
    launch_hosts_release(&hosts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_from_list_takes_names_once_each),
        cmocka_unit_test(hosts_from_list_refuses_an_empty_name),
        cmocka_unit_test(hosts_from_file_passes_over_comments_and_slots),
        cmocka_unit_test(hosts_from_json_takes_a_list_of_strings_alone),
        cmocka_unit_test_setup(hosts_find_knows_this_host_by_name_and_address, forget_environment),
        cmocka_unit_test(hosts_find_keeps_the_order_of_a_list_for_ssh),
        cmocka_unit_test(hosts_find_refuses_what_is_no_name),
        cmocka_unit_test(hosts_find_sorts_twelve_as_text_the_first_leads),
        cmocka_unit_test_setup(hosts_find_takes_sm_hosts_with_the_current_one, forget_environment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
