/* tests/base/test_err.c */
#include "base/err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void err_set_keeps_code_and_line_and_returns_minus_one(void **state)
{
    struct err err = {0};

    (void)state;
    assert_int_equal(err_set(&err, ERR_INPUT, "'%s' is empty", "dogs"), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_string_equal(err.msg, "'dogs' is empty");
}

static void err_set_takes_null(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, ERR_IO, "x"), -1);
    assert_int_equal(err_set_errno(NULL, ERR_IO, EACCES, "x"), -1);
    assert_int_equal(err_wrap(NULL, "x"), -1);
}

static void err_set_errno_puts_the_reason_behind(void **state)
{
    struct err err = {0};

    (void)state;
    assert_int_equal(err_set_errno(&err, ERR_IO, ENOSPC, "cannot write '%s'", "a"), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_string_equal(err.msg, "cannot write 'a': No space left on device");
}

static void err_wrap_puts_its_text_in_front_and_keeps_the_code(void **state)
{
    struct err err = {0};

    (void)state;
    err_set(&err, ERR_NET, "HTTP 503");
    assert_int_equal(err_wrap(&err, "cannot get '%s'", "k"), -1);
    assert_int_equal(err_wrap(&err, "cannot read shard %d", 17), -1);
    assert_int_equal(err.code, ERR_NET);
    assert_string_equal(err.msg, "cannot read shard 17: cannot get 'k': HTTP 503");
}

static void err_set_takes_its_own_line_as_argument(void **state)
{
    struct err err = {0};

    (void)state;
    err_set(&err, ERR_INPUT, "bad");
    err_set(&err, ERR_USAGE, "twice %s %s", err.msg, err.msg);
    assert_string_equal(err.msg, "twice bad bad");
}

static void err_cuts_a_line_that_is_too_long(void **state)
{
    char text[5000];
    struct err err = {0};

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    err_set(&err, ERR_IO, "%s", text);
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
    err_wrap(&err, "front");
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
    assert_memory_equal(err.msg, "front: xx", 9);
    err_set_errno(&err, ERR_IO, ENOENT, "%s", text);
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
}

static void err_replaces_control_characters(void **state)
{
    struct err err = {0};

    (void)state;
    err_set(&err, ERR_INPUT, "%s", "a\nb\x1b[31mc\x7f\td\xc3\xa4");
    assert_string_equal(err.msg, "a?b?[31mc??d\xc3\xa4");
}

static void err_exit_code_follows_the_table(void **state)
{
    static const struct {
        enum err_code code;
        int want;
    } cases[] = {{ERR_NONE, 0},   {ERR_INTERNAL, 1}, {ERR_USAGE, 2}, {ERR_INPUT, 2},   {ERR_IO, 1},
                 {ERR_MEMORY, 1}, {ERR_NET, 3},      {ERR_PEER, 3},  {ERR_STOPPED, 75}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(err_exit_code(cases[i].code), cases[i].want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err_set_keeps_code_and_line_and_returns_minus_one),
        cmocka_unit_test(err_set_takes_null),
        cmocka_unit_test(err_set_errno_puts_the_reason_behind),
        cmocka_unit_test(err_wrap_puts_its_text_in_front_and_keeps_the_code),
        cmocka_unit_test(err_set_takes_its_own_line_as_argument),
        cmocka_unit_test(err_cuts_a_line_that_is_too_long),
        cmocka_unit_test(err_replaces_control_characters),
        cmocka_unit_test(err_exit_code_follows_the_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
