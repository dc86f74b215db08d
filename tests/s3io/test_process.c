/*
 * tests/s3io/test_process.c -- credential_process: how its command line is cut into words, what it
 * may write, and the line when it fails.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "place.h"
#include "s3io/process.h"
#include "who.h"

static int setup(void **state)
{
    (void)state;
    place_open();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    place_close();
    return 0;
}

/* --- words: what Python's shlex.split makes of the same lines --- */

static void process_words_are_those_of_shlex(void **state)
{
    static const struct {
        const char *command, *words; /* each in brackets; NULL: refused */
    } cases[] = {
        {"a b\tc\nd", "[a][b][c][d]"},
        {"  a  ", "[a]"},
        {"'a b' \"c d\"", "[a b][c d]"},
        {"a'b'\"c\"d", "[abcd]"},
        {"'' \"\" x", "[][][x]"},
        {"a\\ b \\'c \\\\", "[a b]['c][\\]"},
        {"\"a\\\"b\\\\c\\d\\$e\"", "[a\"b\\c\\d\\$e]"},
        {"'a\\'", "[a\\]"},
        {"~/x $HOME `y` # z ; * &", "[~/x][$HOME][`y`][#][z][;][*][&]"},
        {"", NULL},
        {"  ", NULL},
        {"a 'b", NULL},
        {"a \"b", NULL},
        {"a \"b\\", NULL},
        {"a\\", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {0};
        struct buf got = {0};
        char **words = s3_process_words(cases[i].command, &err);

        for (char **word = words; word != NULL && *word != NULL; word++)
            buf_printf(&got, "[%s]", *word);
        if (cases[i].words == NULL) {
            assert_null(words);
            assert_int_equal(err.code, ERR_INPUT);
        } else {
            assert_string_equal(buf_text(&got), cases[i].words);
        }
        s3_process_words_free(words);
        buf_release(&got);
    }
}

/* --- profiles --- */

/* A script in the home folder that is the credential_process of profile 'p'. */
static void write_process(const char *script)
{
    char text[1024];
    const char *path;

    snprintf(text, sizeof text, "#!/bin/sh\n%s\n", script);
    path = place_write("process", text);
    assert_int_equal(chmod(path, 0700), 0);
    snprintf(text, sizeof text, "[profile p]\ncredential_process = '%s' \"a b\"\n", path);
    place_write(".aws/config", text);
}

static void process_gives_keys(void **state)
{
    const char *source = "credential_process of profile 'p'";

    (void)state;
    write_process("echo '{\"Version\":1,\"AccessKeyId\":\"PK\",\"SecretAccessKey\":\"TOPSECRET\","
                  "\"SessionToken\":\"t\",\"Expiration\":\"2120-01-01T00:00:00+00:00\","
                  "\"AccountId\":\"123\"}'; echo noise >&2");
    who_has_keys("p", "PK", "TOPSECRET", "t", source);
    write_process("echo \"{\\\"Version\\\":1,\\\"AccessKeyId\\\":\\\"$#-${1% *}\\\","
                  "\\\"SecretAccessKey\\\":\\\"TOPSECRET\\\",\\\"SessionToken\\\":null,"
                  "\\\"Expiration\\\":null}\"");
    who_has_keys("p", "1-a", "TOPSECRET", NULL, source);
    /* Nothing to read, and nobody to ask. */
    write_process("read line && exit 1; (exec </dev/tty) 2>/dev/null && exit 2\n"
                  "printf '%s' '{\"Version\":1,\"AccessKeyId\":\"PK\",\"SecretAccessKey\":\"s\"}'");
    who_has_keys("p", "PK", "s", NULL, source);
    /* A child of its own that lives on holds its pipes: not waited for. */
    write_process(
        "echo '{\"Version\":1,\"AccessKeyId\":\"PK\",\"SecretAccessKey\":\"s\"}'; sleep 5 &");
    who_has_keys("p", "PK", "s", NULL, source);
}

static void process_is_between_the_two_files(void **state)
{
    (void)state;
    place_write(".aws/config", "[profile p]\ncredential_process = false\n"
                               "aws_access_key_id = C\naws_secret_access_key = TOPSECRET\n");
    expect_in(who_refusal("p", ERR_INPUT), "its exit status is 1");
    place_write(".aws/credentials",
                "[p]\naws_access_key_id = F\naws_secret_access_key = TOPSECRET\n");
    who_has_keys("p", "F", "TOPSECRET", NULL, "profile 'p' in the credentials file");
    place_write(".aws/credentials", "[p]\ncredential_process = no-such-program-17\n");
    expect_in(who_refusal("p", ERR_INPUT), ".aws/credentials' line 2: credential_process of "
                                           "profile 'p': cannot start 'no-such-program-17': No "
                                           "such file or directory");
}

static void process_command_line_may_have_what_looks_like_a_comment(void **state)
{
    (void)state;
    place_write(".aws/config",
                "[profile p]\ncredential_process = sh -c 'true ; echo \"$1\" #' x "
                "'{\"Version\":1,\"AccessKeyId\":\"PK\",\"SecretAccessKey\":\"s\"}'\n");
    who_has_keys("p", "PK", "s", NULL, "credential_process of profile 'p'");
}

static void process_that_fails_is_said(void **state)
{
    static const struct {
        const char *script, *part;
    } cases[] = {
        {"exit 3", ".aws/config' line 2: credential_process of profile 'p': its exit status is 3; "
                   "run it by hand to see why"},
        {"echo no vault TOPSECRET >&2; exit 1", "its exit status is 1; run it by hand to see why"},
        {"kill -TERM $$", "it was ended by signal 15; run it by hand to see why"},
        {"echo TOPSECRET", "what it writes is no JSON object"},
        {"echo no vault TOPSECRET >&2", "what it writes is no JSON object"},
        {"echo '[\"TOPSECRET\"]'", "what it writes is no JSON object"},
        {"echo '{\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"TOPSECRET\"}'",
         "what it writes has no Version, where 1 is the only one known"},
        {"echo '{\"Version\":2,\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"TOPSECRET\"}'",
         "what it writes has another Version, where 1 is the only one known"},
        {"echo '{\"Version\":\"1\",\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"TOPSECRET\"}'",
         "another Version"},
        {"echo '{\"Version\":1,\"SecretAccessKey\":\"TOPSECRET\"}'",
         "what it writes has no AccessKeyId"},
        {"echo '{\"Version\":1,\"AccessKeyId\":\"a\"}'", "what it writes has no SecretAccessKey"},
        {"echo "
         "'{\"Version\":1,\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"TOPSECRET\",\"Expiration\":"
         "\"soon\"}'",
         "what it writes has an Expiration that is no time"},
        {"echo "
         "'{\"Version\":1,\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"TOPSECRET\",\"Expiration\":"
         "1795340000}'",
         "what it writes has a member Expiration that is no text"},
        {"echo '{\"Version\":1,\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"TOP SECRET\"}'",
         "what it writes has an empty key, or one with white space"},
        {"dd if=/dev/zero bs=1024 count=70 2>/dev/null | tr '\\0' x",
         "what it writes is longer than 64 KiB"},
        {"dd if=/dev/zero bs=1024 count=300 2>/dev/null | tr '\\0' ' ' >&2; exit 1",
         "its exit status is 1; "},
    };
    const char *refusal;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_process(cases[i].script);
        refusal = who_refusal("p", ERR_INPUT);
        expect_in(refusal, cases[i].part);
        assert_null(strstr(refusal, "vault")); /* nothing of its standard error */
    }
    place_write(".aws/config", "[profile p]\ncredential_process = sh -c 'TOPSECRET\n");
    expect_in(who_refusal("p", ERR_INPUT),
              ".aws/config' line 2: credential_process of profile 'p': "
              "its command line ends inside quotes or behind a "
              "backslash");
}

static void process_that_hangs_is_ended_with_its_children(void **state)
{
    char command[256];
    struct s3_keys keys = {0};
    struct err err = {0};
    const double began_s = clock_now_s();

    (void)state;
    snprintf(command, sizeof command, "sh -c '(sleep 1; echo x >%s) & sleep 60; true'",
             place_path("late"));
    assert_int_equal(
        s3_process_fetch(&(struct s3_process){.command = command, .limit_s = 0.3}, &keys, &err),
        -1);
    assert_int_equal(err.code, ERR_NET);
    assert_string_equal(err.msg, "it did not end within 0.3 s");
    assert_true(clock_now_s() - began_s < 10);
    clock_sleep_s(1.5);
    assert_false(file_exists(place_path("late")));
}

static void process_status_may_be_taken_by_others(void **state)
{
    void (*before)(int) = signal(SIGCHLD, SIG_IGN); /* as the launcher, which waits for all */

    (void)state;
    write_process(
        "echo '{\"Version\":1,\"AccessKeyId\":\"PK\",\"SecretAccessKey\":\"s\"}'; sleep 0.2");
    who_has_keys("p", "PK", "s", NULL, "credential_process of profile 'p'");
    write_process("echo no vault >&2; exit 1");
    expect_in(who_refusal("p", ERR_INPUT), "what it writes is no JSON object");
    signal(SIGCHLD, before);
}

static void process_is_ended_by_a_cancel(void **state)
{
    static const volatile sig_atomic_t cancel = 1;
    struct s3_keys keys = {0};
    struct err err = {0};

    (void)state;
    assert_int_equal(s3_process_fetch(&(struct s3_process){"sleep 60", 60, &cancel}, &keys, &err),
                     -1);
    assert_int_equal(err.code, ERR_STOPPED);
}

static void process_is_asked_again_before_its_keys_end(void **state)
{
    struct who who;
    const double began_s = clock_now_s();

    (void)state;
    write_process("cd \"${0%/*}\"; n=$(cat n 2>/dev/null || echo 0); n=$((n + 1)); echo $n >n\n"
                  "[ $n -gt 2 ] && exit 1\n"
                  "echo \"{\\\"Version\\\":1,\\\"AccessKeyId\\\":\\\"PK-$n\\\","
                  "\\\"SecretAccessKey\\\":\\\"s\\\",\\\"Expiration\\\":\\\""
                  "$(date -u -d '+8 seconds' +%FT%TZ)\\\"}\"");
    who = who_open("p");
    who.credentials = s3_credentials_new(&who.config);
    assert_string_equal(who_access_key(&who), "PK-1");
    while (strcmp(who_access_key(&who), "PK-1") == 0 && clock_now_s() - began_s < 20)
        clock_sleep_s(0.05);
    assert_true(clock_now_s() - began_s < 7); /* the old ones were still valid */
    assert_string_equal(who_access_key(&who), "PK-2");
    clock_sleep_s(1.2); /* now it fails, and they go on */
    assert_string_equal(who_access_key(&who), "PK-2");
    who_close(&who);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(process_words_are_those_of_shlex),
        cmocka_unit_test_setup_teardown(process_gives_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(process_is_between_the_two_files, setup, teardown),
        cmocka_unit_test_setup_teardown(process_command_line_may_have_what_looks_like_a_comment,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(process_that_fails_is_said, setup, teardown),
        cmocka_unit_test_setup_teardown(process_that_hangs_is_ended_with_its_children, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(process_status_may_be_taken_by_others, setup, teardown),
        cmocka_unit_test_setup_teardown(process_is_ended_by_a_cancel, setup, teardown),
        cmocka_unit_test_setup_teardown(process_is_asked_again_before_its_keys_end, setup,
                                        teardown),
    };

    return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
