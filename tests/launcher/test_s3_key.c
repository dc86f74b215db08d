/* tests/launcher/test_s3_key.c */
#include "launcher/s3/key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void key_is_shown_on_one_line_and_can_be_read_back(void **state)
{
    static const struct {
        const char *key, *shown;
    } cases[] = {
        {"", ""},
        {"a b/c+d%41", "a b/c+d%41"},
        {"\\n", "\\\\n"},
        {"a\nb\tc\rd", "a\\nb\\tc\\rd"},
        {"\x01\x1f\x7f", "\\x01\\x1f\\x7f"},
        {"\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\x95", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\x95"},
        {"\xc2\x85\xc2\x9b", "\\xc2\\x85\\xc2\\x9b"},          /* C1: NEL, CSI */
        {"\xff\xc3(\xc3", "\\xff\\xc3(\\xc3"},                 /* broken, cut */
        {"\xc0\xaf\xe0\x80\x80", "\\xc0\\xaf\\xe0\\x80\\x80"}, /* longer than needed */
        {"\xed\xa0\x80\xf4\x90\x80\x80",
         "\\xed\\xa0\\x80\\xf4\\x90\\x80\\x80"}, /* surrogate, > 10FFFF */
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf out = {0};

        launch_s3_key_show(cases[i].key, &out);
        assert_string_equal(buf_text(&out), cases[i].shown);
        buf_release(&out);
    }
}

static void key_is_utf8_tells_text_from_other_bytes(void **state)
{
    static const char *const yes[] = {"", "a", "\x01", "\xc3\xa4", "\xf4\x8f\xbf\xbf"};
    static const char *const no[] = {"\x80", "a\xff", "\xc3", "\xed\xbf\xbf", "\xf4\x90\x80\x80"};

    (void)state;
    for (size_t i = 0; i < COUNT(yes); i++)
        assert_true(launch_s3_key_is_utf8(yes[i]));
    for (size_t i = 0; i < COUNT(no); i++)
        assert_false(launch_s3_key_is_utf8(no[i]));
}

static void key_that_is_no_file_inside_the_folder_is_refused(void **state)
{
    static const char *const yes[] = {"a", "a/b", "a/", "...", "..a/.b/c..", " ", "a\\..\\b"};
    static const char *const no[] = {"",  "..", "../a", "a/../b", "a/..", "a/../", "/a",
                                     "/", "//", "a//b", "a//",    ".",    "./a",   "a/./b"};

    (void)state;
    for (size_t i = 0; i < COUNT(yes); i++)
        assert_int_equal(launch_s3_key_check_path("k", yes[i], NULL), 0);
    for (size_t i = 0; i < COUNT(no); i++) {
        struct err err = {0};

        assert_int_equal(launch_s3_key_check_path("whole/\nkey", no[i], &err), -1);
        assert_int_equal(err.code, ERR_INPUT);
        assert_non_null(strstr(err.msg, "'whole/\\nkey'"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key_is_shown_on_one_line_and_can_be_read_back),
        cmocka_unit_test(key_is_utf8_tells_text_from_other_bytes),
        cmocka_unit_test(key_that_is_no_file_inside_the_folder_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
