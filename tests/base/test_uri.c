/* tests/base/test_uri.c */
#include "base/uri.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static void uri_parse_takes_paths_files_and_s3(void **state)
{
    static const struct {
        const char *text;
        enum uri_scheme scheme;
        const char *bucket, *path;
    } cases[] = {
        {"/data/dogs", URI_FILE, NULL, "/data/dogs"},
        {"dogs", URI_FILE, NULL, "dogs"},
        {"./a%20b", URI_FILE, NULL, "./a%20b"},
        {"a:b", URI_FILE, NULL, "a:b"},
        {"s3", URI_FILE, NULL, "s3"},
        {"1x://y", URI_FILE, NULL, "1x://y"},
        {"dir/x://y", URI_FILE, NULL, "dir/x://y"},
        {"file:///data/a%20b%2Fc", URI_FILE, NULL, "/data/a b/c"},
        {"FILE:///", URI_FILE, NULL, "/"},
        {"s3://imgs/train/", URI_S3, "imgs", "train/"},
        {"s3://imgs", URI_S3, "imgs", ""},
        {"s3://imgs/", URI_S3, "imgs", ""},
        {"s3://imgs//odd key%20+&?#", URI_S3, "imgs", "/odd key%20+&?#"},
        {"S3://imgs/k", URI_S3, "imgs", "k"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct uri uri = {0};
        struct err err = {0};

        if (uri_parse(&uri, cases[i].text, &err) != 0)
            fail_msg("'%s': %s", cases[i].text, err.msg);
        assert_int_equal(uri.scheme, cases[i].scheme);
        assert_string_equal(uri.path, cases[i].path);
        if (cases[i].bucket == NULL)
            assert_null(uri.bucket);
        else
            assert_string_equal(uri.bucket, cases[i].bucket);
        uri_release(&uri);
    }
}

static void uri_parse_refuses_what_is_no_place_of_ours(void **state)
{
    static const char *const texts[] = {
        "",        "http://host/x", "https://h/",   "s3://",         "s3:///key", "file://host/x",
        "file://", "file:///a%2",   "file:///a%zz", "file:///a%00b", "hdfs://x",
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct uri uri = {0};
        struct err err = {0};

        if (uri_parse(&uri, texts[i], &err) != -1)
            fail_msg("'%s' was taken", texts[i]);
        assert_int_equal(err.code, ERR_USAGE);
        assert_null(uri.path);
        if (texts[i][0] != '\0')
            assert_non_null(strstr(err.msg, texts[i]));
    }
}

static void uri_join_puts_exactly_one_slash_between(void **state)
{
    static const struct {
        const char *base, *name, *want;
    } cases[] = {
        {"a", "b", "a/b"},
        {"a/", "b", "a/b"},
        {"a//", "/b", "a/b"},
        {"/", "b", "/b"},
        {"", "b", "b"},
        {"s3://bucket", "k/l", "s3://bucket/k/l"},
        {"s3://bucket/p/", "k", "s3://bucket/p/k"},
        {"file:///x", "y", "file:///x/y"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *got = uri_join(cases[i].base, cases[i].name);

        assert_string_equal(got, cases[i].want);
        free(got);
    }
}

static void uri_release_takes_null_and_zero(void **state)
{
    struct uri uri = {0};

    (void)state;
    uri_release(NULL);
    uri_release(&uri);
}

static void uri_decode_takes_every_escape_or_none(void **state)
{
    static const struct {
        const char *text, *decoded; /* NULL: refused */
    } cases[] = {{"", ""},         {"a+b", "a+b"},         {"%2B%2b", "++"},
                 {"%25%41", "%A"}, {"%C3%a4", "\xc3\xa4"}, {"a%", NULL},
                 {"a%4", NULL},    {"%4g", NULL},          {"%g4", NULL},
                 {"a%00b", NULL},  {"% 41", NULL}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[16];
        bool whole;

        snprintf(text, sizeof text, "%s", cases[i].text);
        whole = uri_decode(text);
        if (whole != (cases[i].decoded != NULL) || (whole && strcmp(text, cases[i].decoded) != 0))
            fail_msg("'%s': '%s'", cases[i].text, text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uri_parse_takes_paths_files_and_s3),
        cmocka_unit_test(uri_parse_refuses_what_is_no_place_of_ours),
        cmocka_unit_test(uri_join_puts_exactly_one_slash_between),
        cmocka_unit_test(uri_release_takes_null_and_zero),
        cmocka_unit_test(uri_decode_takes_every_escape_or_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
