/* tests/launcher/test_orted.c -- what Open MPI 4.1.4 sends, and what others might. */
#include "launcher/orted.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"

static char folder[] = "/tmp/convoy-orted-XXXXXX";
static char orted[64];

/* The words with '|' between them; "" and err where it is refused. */
static const char *parse(struct buf *text, struct err *err, const char *const *came)
{
    struct launch_words in = {0}, out = {0};

    text->bytes = 0;
    for (; *came != NULL; came++)
        launch_words_push(&in, *came);
    if (launch_orted_words(&in, "/own/convoy", &out, err) == 0)
        for (size_t i = 0; i < out.count; i++)
            buf_printf(text, "%s%s", i == 0 ? "" : "|", out.at[i]);
    launch_words_release(&in);
    launch_words_release(&out);
    return buf_text(text);
}

static void orted_words_are_cut_as_a_shell_would(void **state)
{
    static const char *const came[] = {
        " orted",  "--daemonize", "-mca", "ess",
        "\"env\"", "-mca",        "uri",  "\"1.0;tcp://10.0.0.1:4,5\"",
        NULL};
    struct buf text = {0};
    struct err err = {0};
    const char *words;

    (void)state;
    words = parse(&text, &err, came);
    assert_int_equal(strncmp(words, orted, strlen(orted)), 0);
    assert_string_equal(words + strlen(orted), "|-mca|ess|env|-mca|uri|1.0;tcp://10.0.0.1:4,5");
    buf_release(&text);
}

static void orted_words_pass_over_the_settings_in_front(void **state)
{
    static const char *const came[] = {"          PATH=/usr/bin:$PATH ; export PATH ; "
                                       "LD_LIBRARY_PATH=/usr/lib:${LD_LIBRARY_PATH:-} "
                                       "; export LD_LIBRARY_PATH ;   /elsewhere/orted",
                                       "-mca", "x", "\"y\"", NULL};
    struct buf text = {0};
    struct err err = {0};
    const char *words;

    (void)state;
    words = parse(&text, &err, came);
    assert_int_equal(strncmp(words, orted, strlen(orted)), 0); /* the one in PATH */
    assert_string_equal(words + strlen(orted), "|-mca|x|y");
    buf_release(&text);
}

/* Open MPI 4.1.4's daemon crashes, and its mpirun hangs, when this path is not there. */
static void orted_words_name_a_remote_shell_that_exists_here(void **state)
{
    static const char *const came[] = {"orted", "--mca", "plm_rsh_agent", "\"/their/convoy rsh\"",
                                       "-mca",  "plm",   "\"rsh\"",       NULL};
    struct buf text = {0};
    struct err err = {0};

    (void)state;
    assert_non_null(strstr(parse(&text, &err, came), "|plm_rsh_agent|/own/convoy|-mca|plm|rsh"));
    buf_release(&text);
}

static void orted_words_are_refused_when_they_are_something_else(void **state)
{
    static const char *const cases[][4] = {
        {"sh", "-c", "true"},
        {"PATH=/tmp ; export PATH ; sh"},
        {"orted2"},
        {"/bin/orted/sh"},
        {"; rm -rf / ; orted"},
        {"env orted"},
        {"export orted"},
        {"A=1 ;"},
        {""},
        {"'orted"},
        {"$(orted)"},
        {"orted;true"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf text = {0};
        struct err err = {0};

        if (strcmp(parse(&text, &err, cases[i]), "") != 0)
            fail_msg("'%s' was taken as %s", cases[i][0], buf_text(&text));
        assert_int_equal(err.code, ERR_INPUT);
        buf_release(&text);
    }
}

static void orted_words_say_how_to_get_one_when_there_is_none(void **state)
{
    static const char *const came[] = {"orted", NULL};
    char *path = strdup(getenv("PATH"));
    struct buf text = {0};
    struct err err = {0};

    (void)state;
    setenv("PATH", "/proc", 1);
    assert_string_equal(parse(&text, &err, came), "");
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, "openmpi-bin"));
    setenv("PATH", path, 1);
    buf_release(&text);
    free(path);
}

static int make_orted(void **state)
{
    char path[4096];

    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(orted, sizeof orted, "%s/orted", folder);
    if (symlink("/bin/true", orted) < 0)
        return -1;
    snprintf(path, sizeof path, "%s:%s", folder, getenv("PATH"));
    return setenv("PATH", path, 1);
}

static int remove_orted(void **state)
{
    (void)state;
    unlink(orted);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(orted_words_are_cut_as_a_shell_would),
        cmocka_unit_test(orted_words_pass_over_the_settings_in_front),
        cmocka_unit_test(orted_words_name_a_remote_shell_that_exists_here),
        cmocka_unit_test(orted_words_are_refused_when_they_are_something_else),
        cmocka_unit_test(orted_words_say_how_to_get_one_when_there_is_none),
    };

    return cmocka_run_group_tests(tests, make_orted, remove_orted);
}
