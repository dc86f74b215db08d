/* tests/base/test_json.c */
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"

static json_t *parse(const char *text, struct err *err)
{
    return json_read_text(text, strlen(text), "the test", err);
}

static void json_read_text_takes_an_object_with_or_without_a_mark(void **state)
{
    static const char *const texts[] = {"{\"a\": 1}", "\xef\xbb\xbf{\"a\": 1}\n", " {\"a\":1} "};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct err err = {0};
        json_t *tree = parse(texts[i], &err);

        assert_non_null(tree);
        assert_int_equal(json_integer_value(json_object_get(tree, "a")), 1);
        json_decref(tree);
    }
}

static void json_read_text_refuses_what_is_malformed_and_says_the_line(void **state)
{
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "line 1"},
        {"{\"a\": 1", "the test: line 1"},
        {"{\n\n\"a\": }", "line 3"},
        {"{\"a\": 1, \"a\": 2}", "duplicate"},
        {"{\"a\": 1} x", "line 1"},
        {"{\"a\": 99999999999999999999}", "integer"},
        {"{\"a\": \"\xff\"}", "decode byte"},
        {"{\"a\": \"\\u0000\"}", "NUL"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err = {0};

        assert_null(parse(cases[i].text, &err));
        assert_int_equal(err.code, ERR_INPUT);
        if (strcasestr(err.msg, cases[i].part) == NULL)
            fail_msg("'%s' lacks '%s'", err.msg, cases[i].part);
    }
}

static json_t *parse_nested(int depth, struct err *err)
{
    struct buf text = {0};
    json_t *tree;

    buf_printf(&text, "[\"]]{{[[\\\"[\"\n");
    for (int i = 1; i < depth; i++)
        buf_printf(&text, ",[1");
    for (int i = 0; i < depth; i++)
        buf_printf(&text, "]");
    tree = json_read_text((char *)text.data, text.bytes, "nest", err);
    buf_release(&text);
    return tree;
}

static void json_read_text_stops_at_the_depth_limit(void **state)
{
    struct err err = {0};
    json_t *tree;

    (void)state;
    tree = parse_nested(JSON_READ_DEPTH_MAX, &err);
    assert_non_null(tree);
    json_decref(tree);
    assert_null(parse_nested(JSON_READ_DEPTH_MAX + 1, &err));
    assert_string_equal(err.msg, "nest: line 2: nested deeper than 32 levels");
    assert_null(parse_nested(1000000, &err));
}

static void json_read_file_names_the_file(void **state)
{
    char path[] = "/tmp/convoy-json-XXXXXX";
    const int fd = mkstemp(path);
    struct err err = {0};
    json_t *tree;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(file_replace(path, "[1,2]", 5, &err), 0);
    tree = json_read_file(path, 5, &err);
    assert_int_equal(json_array_size(tree), 2);
    json_decref(tree);
    assert_null(json_read_file(path, 4, &err));
    assert_non_null(strstr(err.msg, path));
    assert_int_equal(file_replace(path, "[1,", 3, &err), 0);
    assert_null(json_read_file(path, 100, &err));
    assert_non_null(strstr(err.msg, path));
    remove(path);
    assert_null(json_read_file(path, 100, &err));
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, path));
}

static void json_read_members_checks_presence_type_and_range(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"{}", "t: 'n' is missing"},
        {"{\"n\": \"5\"}", "t: 'n' is not an integer"},
        {"{\"n\": 5.0}", "t: 'n' is not an integer"},
        {"{\"n\": 11}", "t: 'n' is 11, not between 1 and 10"},
        {"{\"n\": 0}", "t: 'n' is 0, not between 1 and 10"},
        {"[]", "t: an object with 'n' was expected"},
    };
    int64_t number = 77;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err = {0};
        json_t *tree = parse(cases[i].text, &err);

        assert_non_null(tree);
        assert_int_equal(json_read_integer(tree, "n", 1, 10, &number, "t", &err), -1);
        assert_int_equal(err.code, ERR_INPUT);
        assert_string_equal(err.msg, cases[i].want);
        json_decref(tree);
    }
    assert_int_equal(number, 77);
}

static void json_read_members_gives_values_of_the_right_type(void **state)
{
    struct err err = {0};
    json_t *tree = parse("{\"n\": -9223372036854775808, \"s\": \"x\", \"a\": [3]}", &err);
    const char *text = NULL;
    int64_t number = 0;

    (void)state;
    assert_int_equal(json_read_integer(tree, "n", INT64_MIN, 0, &number, "t", &err), 0);
    assert_true(number == INT64_MIN);
    assert_int_equal(json_read_string(tree, "s", &text, "t", &err), 0);
    assert_string_equal(text, "x");
    assert_int_equal(json_array_size(json_read_array(tree, "a", "t", &err)), 1);
    assert_null(json_read_array(tree, "s", "t", &err));
    assert_string_equal(err.msg, "t: 's' is not an array");
    assert_null(json_read_array(tree, "none", "t", &err));
    assert_int_equal(json_read_string(tree, "n", &text, "t", &err), -1);
    assert_string_equal(err.msg, "t: 'n' is not a string");
    json_decref(tree);
}

static void json_new_text_keeps_what_is_utf8(void **state)
{
#define X "\xef\xbf\xbd"
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", ""},
        {"a/b c.jpg", "a/b c.jpg"},
        {"\xc3\xbc\xe2\x82\xac\xf0\x9f\x90\x95", "\xc3\xbc\xe2\x82\xac\xf0\x9f\x90\x95"},
        {"\xc3\xbc\xff.jpg", "\xc3\xbc" X ".jpg"},
        {"\xff\xc3\xbc", X "\xc3\xbc"},
        {"\xc3", X},                                     /* cut short */
        {"\xe2\x82", X X},                               /* cut short */
        {"\xf0\x9f\x90z", X X X "z"},                    /* cut short */
        {"\xc0\xaf\xe0\x80\xaf", X X X X X},             /* longer than they need be */
        {"\xed\xa0\x80\xf4\x90\x80\x80", X X X X X X X}, /* surrogates, above U+10FFFF */
        {"\xf4\x8f\xbf\xbf\xed\x9f\xbf", "\xf4\x8f\xbf\xbf\xed\x9f\xbf"},
    };
#undef X

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *const made = json_new_text(cases[i].text);

        assert_string_equal(json_string_value(made), cases[i].want);
        json_decref(made);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_read_text_takes_an_object_with_or_without_a_mark),
        cmocka_unit_test(json_read_text_refuses_what_is_malformed_and_says_the_line),
        cmocka_unit_test(json_read_text_stops_at_the_depth_limit),
        cmocka_unit_test(json_read_file_names_the_file),
        cmocka_unit_test(json_read_members_checks_presence_type_and_range),
        cmocka_unit_test(json_read_members_gives_values_of_the_right_type),
        cmocka_unit_test(json_new_text_keeps_what_is_utf8),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
