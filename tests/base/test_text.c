/* tests/base/test_text.c -- copies and variables. */
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void copies_are_the_callers(void **state)
{
    const char text[] = "as it is";
    char *const copy = text_copy(text), *const part = text_copy_bytes(text, 2),
                *const all = text_copy_bytes("a\0b", 3);

    (void)state;
    assert_ptr_not_equal(copy, text);
    assert_string_equal(copy, text);
    assert_string_equal(part, "as");
    assert_string_equal(all, "a");
    assert_null(text_copy(NULL));
    free(copy);
    free(part);
    free(all);
}

static void empty_variable_is_none(void **state)
{
    (void)state;
    setenv("CONVOY_TEST_TEXT", "x", 1);
    assert_string_equal(text_variable("CONVOY_TEST_TEXT"), "x");
    setenv("CONVOY_TEST_TEXT", "", 1);
    assert_null(text_variable("CONVOY_TEST_TEXT"));
    unsetenv("CONVOY_TEST_TEXT");
    assert_null(text_variable("CONVOY_TEST_TEXT"));
}

static void number_is_all_digits(void **state)
{
    static const char *const none[] = {"",
                                       " 1",
                                       "+1",
                                       "-1",
                                       "1 ",
                                       "0x1",
                                       "1.0",
                                       "18446744073709551616",
                                       "99999999999999999999999"};
    uint64_t number = 7;

    (void)state;
    assert_true(text_number("0", &number));
    assert_int_equal(number, 0);
    assert_true(text_number("0018446744073709551615", &number));
    assert_true(number == UINT64_MAX);
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_false(text_number(none[i], &number));
    assert_true(number == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_are_the_callers),
        cmocka_unit_test(empty_variable_is_none),
        cmocka_unit_test(number_is_all_digits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
