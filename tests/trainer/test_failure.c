/* tests/trainer/test_failure.c -- the first failure is in the file, whole, as a platform takes it.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "trainer/failure.h"

static char folder[sizeof "/tmp/convoy-failure-XXXXXX"], path[64];
static struct buf text;

static int begin(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/convoy-failure-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/failure", folder);
    return setenv("CONVOY_FAILURE", path, 1);
}

static int end(void **state)
{
    char command[128];

    (void)state;
    buf_release(&text);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static const char *written(void)
{
    text.bytes = 0;
    assert_int_equal(file_read(path, 1 << 20, &text, NULL), 0);
    return buf_text(&text);
}

static void failure_is_prefix_and_message(void **state)
{
    (void)state;
    train_failure_write("[3/8 algo-2]", "cannot read 'x': no such file");
    assert_string_equal(written(), "[3/8 algo-2] cannot read 'x': no such file");
}

static void failure_written_first_stays(void **state)
{
    char command[128];

    (void)state;
    train_failure_write("[0/2 a]", "first");
    train_failure_write("[1/2 b]", "second");
    assert_string_equal(written(), "[0/2 a] first");
    snprintf(command, sizeof command, "test $(ls -A '%s' | wc -l) = 1", folder);
    assert_int_equal(system(command), 0); /* nothing temporary */
}

static void failure_of_many_at_once_is_one_of_them_whole(void **state)
{
    enum { PROCESSES = 8 };
    char longest[900], first;

    (void)state;
    fflush(NULL);
    for (int i = 0; i < PROCESSES; i++) {
        if (fork() == 0) {
            memset(longest, 'a' + i, sizeof longest - 1);
            longest[sizeof longest - 1] = '\0';
            train_failure_write("p", longest);
            _exit(0);
        }
    }
    for (int i = 0; i < PROCESSES; i++)
        wait(NULL);
    first = written()[2];
    assert_int_equal(text.bytes, 2 + sizeof longest - 1);
    for (size_t i = 2; i < text.bytes; i++)
        assert_int_equal(text.data[i], first);
}

static void failure_is_nothing_without_a_file_and_no_harm_without_a_folder(void **state)
{
    (void)state;
    unsetenv("CONVOY_FAILURE");
    train_failure_write("p", "message");
    assert_false(file_exists(path));
    setenv("CONVOY_FAILURE", "/proc/nosuch/failure", 1);
    train_failure_write("p", "message");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(failure_is_prefix_and_message),
        CASE(failure_written_first_stays),
        CASE(failure_of_many_at_once_is_one_of_them_whole),
        CASE(failure_is_nothing_without_a_file_and_no_harm_without_a_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
