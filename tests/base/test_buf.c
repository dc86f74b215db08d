/* tests/base/test_buf.c */
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

/* Under AddressSanitizer too, malloc shall answer NULL for what cannot be had, as it does without.
 */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void buf_append_keeps_all_bytes_while_it_grows(void **state)
{
    struct buf buf = {0};

    (void)state;
    for (int i = 0; i < 10000; i++) {
        const unsigned char byte = (unsigned char)(i % 251);

        buf_append(&buf, &byte, 1);
    }
    buf_append(&buf, NULL, 0);
    assert_int_equal(buf.bytes, 10000);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(buf.data[i], i % 251);
    buf_release(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.capacity, 0);
}

static void buf_printf_appends_text_of_any_length(void **state)
{
    char big[5000];
    struct buf buf = {0};

    (void)state;
    memset(big, 'b', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    buf_printf(&buf, "%d:", 42);
    buf_printf(&buf, "%s", big);
    assert_int_equal(buf.bytes, 3 + sizeof big - 1);
    assert_memory_equal(buf_text(&buf), "42:bbb", 6);
    assert_int_equal(strlen(buf_text(&buf)), buf.bytes);
    buf_release(&buf);
}

static void buf_text_ends_with_a_nul_that_does_not_count(void **state)
{
    struct buf buf = {0};

    (void)state;
    assert_string_equal(buf_text(&buf), "");
    for (size_t i = 0; i < 200; i++) { /* passes through every full capacity on its way */
        buf_append(&buf, "x", 1);
        assert_int_equal(strlen(buf_text(&buf)), i + 1);
        assert_int_equal(buf.bytes, i + 1);
    }
    buf_release(&buf);
}

static void buf_reserve_reports_what_cannot_be_had_and_leaves_the_buf(void **state)
{
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 4};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct buf buf = {0};
        struct err err = {0};

        buf_append(&buf, "kept", 4);
        assert_int_equal(buf_reserve(&buf, sizes[i], &err), -1);
        assert_int_equal(err.code, ERR_MEMORY);
        assert_string_equal(buf_text(&buf), "kept");
        buf_release(&buf);
    }
}

static void buf_reserve_makes_room_that_appends_do_not_move(void **state)
{
    struct buf buf = {0};
    unsigned char *before;

    (void)state;
    assert_int_equal(buf_reserve(&buf, 1000, NULL), 0);
    before = buf.data;
    for (int i = 0; i < 1000; i++)
        buf_append(&buf, "y", 1);
    assert_ptr_equal(buf.data, before);
    buf_release(&buf);
    buf_release(&buf);
    buf_release(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buf_append_keeps_all_bytes_while_it_grows),
        cmocka_unit_test(buf_printf_appends_text_of_any_length),
        cmocka_unit_test(buf_text_ends_with_a_nul_that_does_not_count),
        cmocka_unit_test(buf_reserve_reports_what_cannot_be_had_and_leaves_the_buf),
        cmocka_unit_test(buf_reserve_makes_room_that_appends_do_not_move),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
