/* tests/launcher/test_spool.c -- how the processes that read Pipe channels end, and what becomes of
 * that. They are scripts here: `SCRIPT spool FIFO FOLDER`. */
#include "launcher/spool.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/file.h"
#include "launcher/child.h"
#include "launcher/outcome.h"
#include "launcher/words.h"

#define WAIT "while :; do sleep 0.05; done"

static char folder[] = "/tmp/convoy-spool-XXXXXX", script[sizeof folder + 8];
static struct launch_signals signals;

/* A test that hangs ends by SIGALRM. */
static int set_up(void **state)
{
    (void)state;
    strcpy(folder + sizeof folder - 7, "XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(script, sizeof script, "%s/script", folder);
    alarm(60);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    alarm(0);
    return unlink(script) == 0 ? rmdir(folder) : -1;
}

/* Read the channels "a" and "b" by a script whose $2 is the FIFO. */
static void run(const char *text, struct launch_outcome *outcome)
{
    static const char *const words[] = {"/in/a_0", "/spool/a", "/in/b_0", "/spool/b"};
    struct launch_words pipes = {0};
    struct err err = {0};
    char program[2048];
    const int bytes = snprintf(program, sizeof program, "#!/bin/sh\n%s\n", text);

    assert_int_equal(file_replace(script, program, (size_t)bytes, &err), 0);
    assert_int_equal(chmod(script, 0755), 0);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        launch_words_push(&pipes, words[i]);
    if (launch_spool_run(&pipes, script, &signals, outcome, &err) < 0)
        fail_msg("%s", err.msg);
    launch_words_release(&pipes);
}

/* The signal that waits for whoever comes next; SIGCHLD apart. 0: none. */
static int pending(void)
{
    static const struct timespec at_once;
    int number = 0;

    while ((number = sigtimedwait(&signals.waited, NULL, &at_once)) == SIGCHLD)
        ;
    return number < 0 ? 0 : number;
}

static void spool_is_done_when_all_channels_are(void **state)
{
    struct launch_outcome outcome = {0};

    (void)state;
    run("exit 0", &outcome);
    assert_int_equal(outcome.code, 0);
    assert_string_equal(outcome.failure, "");
    assert_int_equal(pending(), 0);
}

static void spool_names_the_channel_whose_reader_was_killed(void **state)
{
    struct launch_outcome outcome = {0};

    (void)state;
    run("[ $2 = /in/a_0 ] && exec sleep 1000\nkill -9 $$", &outcome);
    assert_int_equal(outcome.code, 128 + SIGKILL);
    assert_non_null(strstr(outcome.failure, "channel 'b'"));
    assert_non_null(strstr(outcome.failure, "'/in/b_0'"));
    assert_non_null(strstr(outcome.failure, "signal 9 (Killed), as the kernel does when memory"));
}

static void spool_keeps_the_status_of_the_first_that_failed(void **state)
{
    struct launch_outcome outcome = {0};

    (void)state;
    run("[ $2 = /in/a_0 ] && exit 2\ntrap 'exit 75' TERM\n" WAIT, &outcome);
    assert_int_equal(outcome.code, 2);
    assert_non_null(strstr(outcome.failure, "channel 'a'"));
}

/* They come while the readers are past their last look at them, not yet ready for them, or in
 * their midst. */
static void signal_is_a_stop_whatever_the_readers_make_of_it(void **state)
{
    static const char *const scripts[] = {
        "trap 'exit 0' TERM\nkill -TERM $PPID\n" WAIT,
        "kill -TERM $PPID\nexec sleep 1000",
        "trap 'exit 75' TERM\nkill -TERM $PPID\n" WAIT,
        "trap 'exit 1' TERM\nkill -TERM $PPID\n" WAIT,
    };

    (void)state;
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        struct launch_outcome outcome = {0};

        run(scripts[i], &outcome);
        assert_int_equal(outcome.code, LAUNCH_EXIT_STOPPED);
        assert_non_null(strstr(outcome.failure, "stopped (Terminated)"));
        assert_int_equal(pending(), SIGTERM); /* for whoever waits for signals next */
        assert_int_equal(pending(), 0);
    }
}

static void second_interrupt_ends_them_now(void **state)
{
    struct launch_outcome outcome = {0};

    (void)state;
    run("trap '' TERM\n[ $2 = /in/a_0 ] && exec sleep 1000\n"
        "asked=\ntrap asked=yes TERM\nkill -INT $PPID\n" /* asked to end: the first was taken */
        "while [ -z \"$asked\" ]; do sleep 0.05; done\nkill -INT $PPID\nexec sleep 1000",
        &outcome);
    assert_int_equal(outcome.code, 128 + SIGINT);
    assert_int_equal(pending(), SIGINT);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(spool_is_done_when_all_channels_are),
        CASE(spool_names_the_channel_whose_reader_was_killed),
        CASE(spool_keeps_the_status_of_the_first_that_failed),
        CASE(signal_is_a_stop_whatever_the_readers_make_of_it),
        CASE(second_interrupt_ends_them_now),
    };

    signal(SIGINT, SIG_DFL); /* a shell's background job ignores it */
    launch_signals_init(&signals);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
