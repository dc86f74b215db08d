/* tests/launcher/test_options.c */
#include "launcher/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

#define WORDS_MAX 8

/* The words up to the first NULL. */
static int read_options(struct launch_options *options, const char *const *words, struct err *err)
{
    char *argv[WORDS_MAX + 1] = {NULL};
    int argc = 0, rc;

    for (; words[argc] != NULL; argc++)
        argv[argc] = strdup(words[argc]);
    rc = launch_options_read(options, argc, argv, err);
    for (int i = 0; i < argc; i++)
        free(argv[i]);
    return rc;
}

static void options_have_defaults_when_no_word_is_ours(void **state)
{
    static const char *const words[WORDS_MAX] = {NULL};
    struct launch_options options = {0};
    struct err err = {0};

    (void)state;
    unsetenv("SM_HOSTS");
    assert_int_equal(read_options(&options, words, &err), 0);
    assert_int_equal(options.ranks, 1);
    assert_int_equal(options.threads, 0);
    assert_int_equal(options.restarts_max, 0);
    assert_int_equal(options.mpirun.count, 0);
    assert_int_equal(options.train.count, 0);
    assert_int_equal(launch_options_check(&options, &err), 0);
    assert_null(launch_options_idle_name(&options));
    launch_options_release(&options);
}

static void options_are_taken_in_both_forms(void **state)
{
    static const char *const cases[][WORDS_MAX] = {
        {"--ranks-per-host", "4", "--threads=2", "--max-restarts", "3", "--mpirun-args",
         "-v 'a b'"},
        {"--ranks_per_host=4", "--threads", "2", "--max_restarts=3", "--mpirun-args=-v 'a b'"},
        {"--ranks-per-host=1", "--threads", "2", "--max-restarts=3", "--mpirun-args=-v 'a b'",
         "--ranks-per-host=4"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct launch_options options = {0};
        struct err err = {0};

        assert_int_equal(read_options(&options, cases[i], &err), 0);
        assert_int_equal(options.ranks, 4);
        assert_int_equal(options.threads, 2);
        assert_int_equal(options.restarts_max, 3);
        assert_int_equal(options.mpirun.count, 2);
        assert_string_equal(options.mpirun.at[1], "a b");
        assert_int_equal(options.train.count, 0);
        launch_options_release(&options);
    }
}

static void options_leave_all_other_words_unchanged_and_in_order(void **state)
{
    static const char *const words[WORDS_MAX + 1] = {"--data=a b", "--threads", "2",  "--ranks-per",
                                                     "x",          "",          "--", "--hosts"};
    static const char *const want[] = {"--data=a b", "--ranks-per", "x", "", "--", "--hosts"};
    struct launch_options options = {0};
    struct err err = {0};

    (void)state;
    assert_int_equal(read_options(&options, words, &err), 0);
    assert_int_equal(options.train.count, 6);
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(options.train.at[i], want[i]);
    assert_false(options.help);
    launch_options_release(&options);
}

static void options_read_refuses_bad_values_naming_the_option(void **state)
{
    static const struct {
        const char *words[WORDS_MAX], *part;
    } cases[] = {
        {{"--ranks-per-host", "0"}, "--ranks-per-host"},
        {{"--ranks-per-host=two"}, "--ranks-per-host"},
        {{"--ranks-per-host=1.5"}, "--ranks-per-host"},
        {{"--ranks-per-host="}, "--ranks-per-host"},
        {{"--ranks-per-host"}, "--ranks-per-host"},
        {{"--threads", "-1"}, "--threads"},
        {{"--threads", "99999"}, "--threads"},
        {{"--max-restarts=x"}, "--max-restarts"},
        {{"--mpirun-args", "-x 'A"}, "--mpirun-args"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct launch_options options = {0};
        struct err err = {0};

        if (read_options(&options, cases[i].words, &err) != -1)
            fail_msg("'%s' was taken", cases[i].words[0]);
        assert_int_equal(err.code, ERR_USAGE);
        assert_non_null(strstr(err.msg, cases[i].part));
        launch_options_release(&options);
    }
}

static void options_check_takes_the_platforms_checkpoint_for_restarts(void **state)
{
    static const char *const words[WORDS_MAX] = {"--max-restarts=2"};
    struct launch_options options = {0};
    struct err err = {0};

    (void)state;
    assert_int_equal(read_options(&options, words, &err), 0);
    assert_int_equal(launch_options_check(&options, &err), -1);
    setenv("CONVOY_CHECKPOINT", "/opt/ml/checkpoints", 1);
    assert_int_equal(launch_options_check(&options, &err), 0);
    setenv("SM_HP_RESUME", "never", 1);
    assert_int_equal(launch_options_check(&options, &err), -1);
    unsetenv("SM_HP_RESUME");
    unsetenv("CONVOY_CHECKPOINT");
    launch_options_release(&options);
}

static void options_check_refuses_what_cannot_be_done(void **state)
{
    static const struct {
        const char *words[WORDS_MAX], *part;
    } cases[] = {
        {{"--hosts", "localhost", "--hostfile", "f"}, "--hostfile both"},
        {{"--max-restarts", "1"}, "--max-restarts needs --checkpoint"},
        {{"--max-restarts", "1", "--checkpoint", "c", "--resume=never"}, "--resume auto"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct launch_options options = {0};
        struct err err = {0};

        assert_int_equal(read_options(&options, cases[i].words, &err), 0);
        if (launch_options_check(&options, &err) != -1 || strstr(err.msg, cases[i].part) == NULL)
            fail_msg("case %zu: '%s' lacks '%s'", i, err.msg, cases[i].part);
        assert_int_not_equal(err.code, ERR_INTERNAL);
        launch_options_release(&options);
    }
}

static void options_check_refuses_restarts_of_what_begins_anew(void **state)
{
    static const char *const words[WORDS_MAX] = {"--max-restarts=2", "--checkpoint=c"};
    struct launch_options options = {0};
    struct err err = {0};

    (void)state;
    assert_int_equal(read_options(&options, words, &err), 0);
    assert_int_equal(launch_options_check(&options, &err), 0);
    options.verb = "eval";
    assert_int_equal(launch_options_check(&options, &err), -1);
    assert_non_null(strstr(err.msg, "--max-restarts is for train"));
    launch_options_release(&options);
}

static void options_check_takes_restarts_from_checkpoints(void **state)
{
    static const char *const words[WORDS_MAX] = {"--max-restarts=2", "--checkpoint=c", "--resume",
                                                 "auto"};
    struct launch_options options = {0};
    struct err err = {0};

    (void)state;
    assert_int_equal(read_options(&options, words, &err), 0);
    assert_int_equal(launch_options_check(&options, &err), 0);
    launch_options_release(&options);
}

static void options_of_the_launcher_may_be_hyperparameters(void **state)
{
    static const char *const words[WORDS_MAX] = {"--threads=2"};
    struct launch_options options = {0};
    struct err err = {0};

    (void)state;
    setenv("SM_HP_RANKS_PER_HOST", "\"4\"", 1);
    setenv("SM_HP_RENDEZVOUS-TIMEOUT", "60", 1);
    setenv("SM_HP_THREADS", "9", 1); /* the command line comes first */
    setenv("SM_HP_EPOCHS", "3", 1);
    assert_int_equal(read_options(&options, words, &err), 0);
    assert_int_equal(options.ranks, 4);
    assert_int_equal(options.rendezvous_s, 60);
    assert_int_equal(options.threads, 2);
    assert_int_equal(options.port, -1);
    assert_null(getenv("SM_HP_RANKS_PER_HOST")); /* convoy-train would call it unknown */
    assert_null(getenv("SM_HP_RENDEZVOUS-TIMEOUT"));
    assert_non_null(getenv("SM_HP_EPOCHS"));
    launch_options_release(&options);
    setenv("SM_HP_PORT", "x", 1);
    assert_int_equal(read_options(&options, words, &err), -1);
    assert_non_null(strstr(err.msg, "SM_HP_PORT"));
    launch_options_release(&options);
    unsetenv("SM_HP_PORT");
    unsetenv("SM_HP_EPOCHS");
}

static void options_name_what_is_idle_under_a_foreign_mpirun(void **state)
{
    static const char *const words[WORDS_MAX] = {"--threads=2", "--min-hosts=1"};
    struct launch_options options = {0};
    struct err err = {0};

    (void)state;
    assert_int_equal(read_options(&options, words, &err), 0);
    assert_string_equal(launch_options_idle_name(&options), "min-hosts");
    launch_options_release(&options);
}

static void options_notice_help_anywhere(void **state)
{
    static const char *const words[WORDS_MAX] = {"--data", "d", "--help"};
    struct launch_options options = {0};
    struct err err = {0};

    (void)state;
    assert_int_equal(read_options(&options, words, &err), 0);
    assert_true(options.help);
    launch_options_release(&options);
    launch_options_release(&options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_have_defaults_when_no_word_is_ours),
        cmocka_unit_test(options_are_taken_in_both_forms),
        cmocka_unit_test(options_leave_all_other_words_unchanged_and_in_order),
        cmocka_unit_test(options_read_refuses_bad_values_naming_the_option),
        cmocka_unit_test(options_check_refuses_what_cannot_be_done),
        cmocka_unit_test(options_check_takes_the_platforms_checkpoint_for_restarts),
        cmocka_unit_test(options_check_refuses_restarts_of_what_begins_anew),
        cmocka_unit_test(options_check_takes_restarts_from_checkpoints),
        cmocka_unit_test(options_of_the_launcher_may_be_hyperparameters),
        cmocka_unit_test(options_name_what_is_idle_under_a_foreign_mpirun),
        cmocka_unit_test(options_notice_help_anywhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
