/* tests/base/test_failure.c */
#include "base/failure.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"

static char folder[] = "/tmp/convoy-failure-XXXXXX";
static char path[128];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder + sizeof folder - 7, "XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/output/failure", folder);
    return 0;
}

static int remove_folder(void **state)
{
    char output[128];

    (void)state;
    snprintf(output, sizeof output, "%s/output", folder);
    unlink(path);
    rmdir(output);
    return rmdir(folder); /* fails if a temporary file is left */
}

static size_t written(struct buf *text)
{
    struct err err = {0};
    size_t chars = 0;

    buf_release(text);
    assert_int_equal(file_read(path, 1 << 20, text, &err), 0);
    for (size_t i = 0; i < text->bytes; i++)
        chars += (text->data[i] & 0xc0) != 0x80;
    return chars;
}

static void failure_says_reason_and_place_in_a_folder_that_it_makes(void **state)
{
    struct buf text = {0};
    struct err err = {0};

    (void)state;
    assert_int_equal(failure_write(path, "no\npictures", "host algo-1", &err), 0);
    written(&text);
    assert_string_equal(buf_text(&text), "no?pictures (host algo-1)");
    buf_release(&text);
}

static void failure_keeps_the_first_reason(void **state)
{
    struct buf text = {0};
    struct err err = {0};

    (void)state;
    assert_int_equal(failure_write(path, "first", NULL, &err), 0);
    assert_int_equal(failure_write(path, "second", "", &err), 0);
    written(&text);
    assert_string_equal(buf_text(&text), "first");
    buf_release(&text);
}

static void failure_has_at_most_1024_characters_and_keeps_the_place(void **state)
{
    char reason[4 * 2000 + 1] = "";
    struct buf text = {0};
    struct err err = {0};

    (void)state;
    for (int i = 0; i < 2000; i++)
        strcat(reason, "\xf0\x9f\x90\xb6"); /* a dog, 4 bytes */
    assert_int_equal(failure_write(path, reason, "rank 1", &err), 0);
    assert_int_equal(written(&text), 1024);
    assert_string_equal(buf_text(&text) + text.bytes - 9, " (rank 1)");
    assert_memory_equal(buf_text(&text) + text.bytes - 13, "\xf0\x9f\x90\xb6", 4);
    buf_release(&text);
}

static void failure_is_valid_utf8_whatever_it_is_given(void **state)
{
    /* a lone continuation, a character cut by the end, an overlong '/', a surrogate, above U+10FFFF
     */
    static const char reason[] = "a\x80"
                                 "b\xc0\xaf"
                                 "c\xed\xa0\x80"
                                 "d\xf4\x90\x80\x80"
                                 "e\xe2\x82";
    struct buf text = {0};
    struct err err = {0};

    (void)state;
    assert_int_equal(failure_write(path, reason, NULL, &err), 0);
    written(&text);
    assert_string_equal(buf_text(&text), "a?b??c???d????e??");
    buf_release(&text);
}

static void failure_names_the_file_that_cannot_be_made(void **state)
{
    struct err err = {0};

    (void)state;
    assert_int_equal(failure_write("/proc/nosuch/failure", "x", NULL, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, "/proc/nosuch"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(failure_says_reason_and_place_in_a_folder_that_it_makes,
                                        make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(failure_keeps_the_first_reason, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(failure_has_at_most_1024_characters_and_keeps_the_place,
                                        make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(failure_is_valid_utf8_whatever_it_is_given, make_folder,
                                        remove_folder),
        cmocka_unit_test(failure_names_the_file_that_cannot_be_made),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
