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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_are_the_callers),
        cmocka_unit_test(empty_variable_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
