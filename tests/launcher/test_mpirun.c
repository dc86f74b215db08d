/* tests/launcher/test_mpirun.c */
#include "launcher/mpirun.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "launcher/words.h"

static const char *const variables[] = {
    "CONVOY_CONV",
    "CONVOY_ISA",
    "CONVOY_LOG",
    "CONVOY_READY",
    "CONVOY_TERMINAL_COLUMNS",
    "CONVOY_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
};

static int clear_environment(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        unsetenv(variables[i]);
    return 0;
}

/* The line with '|' between its words. */
static const char *line_text(struct buf *text, const struct launch_mpirun_line *line)
{
    struct launch_words words = {0};

    text->bytes = 0;
    launch_mpirun_words(line, &words);
    for (size_t i = 0; i < words.count; i++)
        buf_printf(text, "%s%s", i == 0 ? "" : "|", words.at[i]);
    launch_words_release(&words);
    return buf_text(text);
}

static void mpirun_words_are_the_line_that_starts_the_ranks(void **state)
{
    struct launch_words none = {0};
    struct buf text = {0};

    (void)state;
    assert_string_equal(
        line_text(
            &text,
            &(struct launch_mpirun_line){
                .ranks = 2, .more = &none, .program = "/p q/t", .verb = "train", .args = &none}),
        "mpirun|--quiet|-np|2|--map-by|slot:OVERSUBSCRIBE|--bind-to|none|/p q/t|train");
    buf_release(&text);
}

static void mpirun_words_tell_that_root_is_meant_when_root(void **state)
{
    struct launch_words none = {0};
    struct buf text = {0};

    (void)state;
    assert_non_null(strstr(line_text(&text, &(struct launch_mpirun_line){.ranks = 2,
                                                                         .root = true,
                                                                         .more = &none,
                                                                         .program = "t",
                                                                         .verb = "train",
                                                                         .args = &none}),
                           "|--allow-run-as-root|-np|"));
    buf_release(&text);
}

static void mpirun_words_keep_the_users_words_whole(void **state)
{
    struct launch_words more = {0}, args = {0};
    struct buf text = {0};

    (void)state;
    launch_words_push(&more, "--mca");
    launch_words_push(&more, "btl");
    launch_words_push(&more, "a b");
    launch_words_push(&args, "--data=x y;$Z");
    launch_words_push(&args, "");
    assert_non_null(strstr(
        line_text(&text,
                  &(struct launch_mpirun_line){
                      .ranks = 3, .more = &more, .program = "t", .verb = "train", .args = &args}),
        "|-np|3|--map-by|slot:OVERSUBSCRIBE|--bind-to|none|--mca|btl|a b|t|train|--data=x y;$Z|"));
    launch_words_release(&more);
    launch_words_release(&args);
    buf_release(&text);
}

static void mpirun_words_export_the_variables_that_are_set(void **state)
{
    struct launch_words none = {0};
    struct buf text = {0};

    (void)state;
    setenv("CONVOY_CONV", "gemm", 1);
    setenv("CONVOY_READY", "/tmp/x/ready", 1);
    setenv("OMP_NUM_THREADS", "2", 1);
    assert_non_null(strstr(
        line_text(&text,
                  &(struct launch_mpirun_line){
                      .ranks = 2, .more = &none, .program = "t", .verb = "train", .args = &none}),
        "|none|-x|CONVOY_CONV|-x|CONVOY_READY|-x|OMP_NUM_THREADS|t|train"));
    buf_release(&text);
}

static void mpirun_words_name_the_hosts_in_order_with_their_ranks(void **state)
{
    struct launch_words none = {0}, hosts = {0};
    struct buf text = {0};
    const char *line;

    (void)state;
    setenv("CONVOY_THREADS", "2", 1); /* each host has its own: none is exported */
    for (int i = 10; i <= 12; i++) {
        char name[16];

        snprintf(name, sizeof name, "algo-%d", i);
        launch_words_push(&hosts, name);
    }
    line = line_text(&text, &(struct launch_mpirun_line){.ranks = 2,
                                                         .hosts = &hosts,
                                                         .convoy = "/p/convoy",
                                                         .more = &none,
                                                         .program = "t",
                                                         .verb = "train",
                                                         .args = &none});
    assert_string_equal(line, "mpirun|--quiet|-np|6|--host|algo-10:2,algo-11:2,algo-12:2|--mca|plm|"
                              "rsh|--mca|plm_rsh_agent|/p/convoy rsh|--mca|plm_rsh_no_tree_spawn|1|"
                              "--map-by|slot:OVERSUBSCRIBE|--bind-to|none|t|train");
    launch_words_release(&hosts);
    buf_release(&text);
}

static void mpirun_network_gives_way_to_the_users(void **state)
{
    (void)state;
    setenv("OMPI_MCA_oob_tcp_if_exclude", "docker0", 1);
    unsetenv("OMPI_MCA_oob_tcp_if_include");
    unsetenv("OMPI_MCA_btl_tcp_if_include");
    launch_mpirun_network("10.0.0.0/24");
    assert_string_equal(getenv("OMPI_MCA_btl_tcp_if_include"), "10.0.0.0/24");
    assert_null(getenv("OMPI_MCA_oob_tcp_if_include"));
    launch_mpirun_network("eth0");
    assert_string_equal(getenv("OMPI_MCA_btl_tcp_if_include"), "10.0.0.0/24");
    unsetenv("OMPI_MCA_oob_tcp_if_exclude");
}

static void mpirun_check_path_refuses_what_open_mpi_cuts(void **state)
{
    static const char *const bad[] = {"/a b/convoy", "/a:b/convoy", "/a,b", "/a'b"};

    (void)state;
    assert_int_equal(launch_mpirun_check_path("/usr/local/bin/convoy-1.2_x", NULL), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err err = {0};

        assert_int_equal(launch_mpirun_check_path(bad[i], &err), -1);
        assert_non_null(strstr(err.msg, bad[i]));
    }
}

static void mpirun_settings_leave_what_the_user_has_set(void **state)
{
    (void)state;
    setenv("OMPI_MCA_btl", "self,tcp", 1);
    unsetenv("OMPI_MCA_mpi_yield_when_idle");
    launch_mpirun_settings(false);
    assert_string_equal(getenv("OMPI_MCA_btl"), "self,tcp");
    assert_string_equal(getenv("OMPI_MCA_mpi_yield_when_idle"), "1");
}

static void mpirun_exists_looks_through_path(void **state)
{
    char *path = strdup(getenv("PATH"));

    (void)state;
    setenv("PATH", "/nonexistent:/proc", 1);
    assert_false(launch_mpirun_exists());
    setenv("PATH", path, 1);
    assert_true(launch_mpirun_exists());
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(mpirun_words_are_the_line_that_starts_the_ranks, clear_environment),
        cmocka_unit_test_setup(mpirun_words_tell_that_root_is_meant_when_root, clear_environment),
        cmocka_unit_test_setup(mpirun_words_keep_the_users_words_whole, clear_environment),
        cmocka_unit_test_setup(mpirun_words_export_the_variables_that_are_set, clear_environment),
        cmocka_unit_test_setup(mpirun_settings_leave_what_the_user_has_set, clear_environment),
        cmocka_unit_test_setup(mpirun_words_name_the_hosts_in_order_with_their_ranks,
                               clear_environment),
        cmocka_unit_test(mpirun_network_gives_way_to_the_users),
        cmocka_unit_test(mpirun_check_path_refuses_what_open_mpi_cuts),
        cmocka_unit_test(mpirun_exists_looks_through_path),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
