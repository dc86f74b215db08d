/* tests/base/test_log.c -- stderr is caught in a file; the bar is tried on a pseudo-terminal's
 * width by environment, since a file is no terminal. */
#include "base/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"

static struct buf caught;
static int stderr_kept;
static char catch_path[64];

static void catch_begin(void)
{
    int fd;

    strcpy(catch_path, "/tmp/convoy-log-XXXXXX");
    fd = mkstemp(catch_path);
    assert_true(fd >= 0);
    fflush(stderr);
    stderr_kept = dup(STDERR_FILENO);
    dup2(fd, STDERR_FILENO);
    close(fd);
}

static const char *catch_end(void)
{
    dup2(stderr_kept, STDERR_FILENO);
    close(stderr_kept);
    caught.bytes = 0;
    assert_int_equal(file_read(catch_path, 1 << 24, &caught, NULL), 0);
    unlink(catch_path);
    return buf_text(&caught);
}

static void log_writes_prefix_level_and_line(void **state)
{
    (void)state;
    unsetenv("CONVOY_LOG");
    log_init("[3/8 node-2]", false);
    catch_begin();
    log_info("epoch %d", 2);
    log_warn("cannot save '%s'", "x");
    log_error("gone");
    log_debug("unseen");
    assert_string_equal(catch_end(), "[3/8 node-2] epoch 2\n"
                                     "[3/8 node-2] warning: cannot save 'x'\n"
                                     "[3/8 node-2] error: gone\n");
}

static void log_drops_info_alone_when_quiet(void **state)
{
    (void)state;
    log_init(NULL, true);
    catch_begin();
    log_info("unseen");
    log_warn("seen");
    log_error("seen too");
    assert_string_equal(catch_end(), "warning: seen\nerror: seen too\n");
}

static void log_shows_debug_when_the_environment_asks(void **state)
{
    (void)state;
    setenv("CONVOY_LOG", "debug", 1);
    log_init("", false);
    catch_begin();
    log_debug("here");
    unsetenv("CONVOY_LOG");
    log_init("", false);
    log_debug("not here");
    assert_string_equal(catch_end(), "debug: here\n");
}

static void log_drops_info_when_the_environment_wants_warnings_alone(void **state)
{
    (void)state;
    setenv("CONVOY_LOG", "warn", 1);
    log_init("", false);
    unsetenv("CONVOY_LOG");
    catch_begin();
    log_info("not here");
    log_warn("here");
    log_error("here too");
    log_init("", false);
    assert_string_equal(catch_end(), "warning: here\nerror: here too\n");
}

static void log_keeps_a_message_on_one_line_of_bounded_length(void **state)
{
    char text[10000];
    const char *got;

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    log_init("", false);
    catch_begin();
    log_info("a\nb\x1b[2Jc");
    log_info("%s", text);
    got = catch_end();
    assert_memory_equal(got, "a?b?[2Jc\nxxx", 12);
    assert_true(strlen(got) < 4096);
    assert_int_equal(got[strlen(got) - 1], '\n');
}

static void *write_lines(void *arg)
{
    for (int i = 0; i < 500; i++)
        log_info("%s", (const char *)arg);
    return NULL;
}

static void log_lines_of_several_threads_do_not_mix(void **state)
{
    char texts[4][101];
    pthread_t threads[4];
    char *rest, *line;
    int lines = 0;

    (void)state;
    log_init("", false);
    catch_begin();
    for (int t = 0; t < 4; t++) {
        memset(texts[t], 'a' + t, 100);
        texts[t][100] = '\0';
        pthread_create(&threads[t], NULL, write_lines, texts[t]);
    }
    for (int t = 0; t < 4; t++)
        pthread_join(threads[t], NULL);
    rest = (char *)(void *)catch_end();
    while ((line = strsep(&rest, "\n")) != NULL && line[0] != '\0') {
        assert_string_equal(line, texts[line[0] - 'a']);
        lines++;
    }
    assert_int_equal(lines, 4 * 500);
}

static void log_bar_is_silent_without_a_terminal(void **state)
{
    int width;

    (void)state;
    unsetenv("CONVOY_TERMINAL_COLUMNS");
    catch_begin();
    width = log_bar_width();
    log_bar("50 %");
    log_bar("");
    assert_string_equal(catch_end(), "");
    assert_int_equal(width, 0);
}

static void log_bar_width_takes_only_a_sane_number(void **state)
{
    static const struct {
        const char *text;
        int want;
    } cases[] = {{"80", 80}, {"", 0}, {"-4", 0}, {"x", 0}, {"99999999", 0}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int got;

        setenv("CONVOY_TERMINAL_COLUMNS", cases[i].text, 1);
        catch_begin();
        got = log_bar_width();
        catch_end();
        assert_int_equal(got, cases[i].want);
    }
}

static void log_bar_is_cut_wiped_for_a_line_and_drawn_again(void **state)
{
    (void)state;
    setenv("CONVOY_TERMINAL_COLUMNS", "6", 1);
    log_init("", false);
    catch_begin();
    log_bar("\xc3\xa4"
            "bcdefgh");
    log_info("line");
    log_bar("");
    log_bar("");
    log_info("after");
    assert_string_equal(catch_end(), "\r\033[K\xc3\xa4"
                                     "bcde"
                                     "\r\033[Kline\n\xc3\xa4"
                                     "bcde"
                                     "\r\033[Kafter\n");
}

static void log_bar_is_drawn_at_most_ten_times_a_second(void **state)
{
    const double begin_s = clock_now_s();
    double seconds;
    int draws = 0;

    (void)state;
    setenv("CONVOY_TERMINAL_COLUMNS", "40", 1);
    catch_begin();
    for (int i = 0; i < 1000; i++)
        log_bar("x");
    seconds = clock_now_s() - begin_s;
    for (const char *c = catch_end(); *c != '\0'; c++)
        draws += *c == 'x';
    log_bar("");
    assert_true(draws >= 1);
    assert_true(draws <= 1 + (int)(seconds * 10));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_writes_prefix_level_and_line),
        cmocka_unit_test(log_drops_info_alone_when_quiet),
        cmocka_unit_test(log_shows_debug_when_the_environment_asks),
        cmocka_unit_test(log_drops_info_when_the_environment_wants_warnings_alone),
        cmocka_unit_test(log_keeps_a_message_on_one_line_of_bounded_length),
        cmocka_unit_test(log_lines_of_several_threads_do_not_mix),
        cmocka_unit_test(log_bar_is_silent_without_a_terminal),
        cmocka_unit_test(log_bar_width_takes_only_a_sane_number),
        cmocka_unit_test(log_bar_is_cut_wiped_for_a_line_and_drawn_again),
        cmocka_unit_test(log_bar_is_drawn_at_most_ten_times_a_second),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);

    buf_release(&caught);
    return failed;
}
