/* tests/s3io/test_keys.c -- times and answers as sources of keys write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "s3io/keys.h"

static void time_is_read_in_every_form_of_rfc_3339(void **state)
{
    static const struct {
        const char *text;
        double seconds;
    } cases[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2026-11-21T06:50:17Z", 1795243817},
        {"2026-11-21t06:50:17z", 1795243817},
        {"2026-11-21 06:50:17Z", 1795243817},
        {"2026-11-21T06:50:17.0000000000Z", 1795243817},
        {"2026-11-21T06:50:17.75Z", 1795243817.75},
        {"2026-11-21T07:50:17+01:00", 1795243817},
        {"2026-11-21T04:20:17-02:30", 1795243817},
        {"2024-02-29T23:59:59Z", 1709251199},
        {"2016-12-31T23:59:60Z", 1483228800},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double seconds = -1;

        if (s3_keys_parse_time(cases[i].text, &seconds) < 0 || seconds != cases[i].seconds)
            fail_msg("'%s' became %.3f", cases[i].text, seconds);
    }
}

static void time_is_refused_when_it_is_none(void **state)
{
    static const char *const cases[] = {"",
                                        "soon",
                                        "2026-11-21",
                                        "2026-11-21T06:50:17",
                                        "2026-11-21T06:50:17Zx",
                                        "2026-11-21T06:50:17.Z",
                                        "2026-11-21T06:50:17+0100",
                                        "2026-11-21T06:50:17+24:00",
                                        "2026-13-21T06:50:17Z",
                                        "2026-00-21T06:50:17Z",
                                        "2026-02-30T06:50:17Z",
                                        "2025-02-29T06:50:17Z",
                                        "2026-11-21T24:50:17Z",
                                        "2026-11-21T06:60:17Z",
                                        "2026-11-21T06:50:61Z",
                                        "1969-12-31T23:59:59Z",
                                        "26-11-21T06:50:17Z",
                                        " 2026-11-21T06:50:17Z",
                                        "2026-11-21T06:50:-1Z",
                                        "1795243817"};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double seconds = -7;

        if (s3_keys_parse_time(cases[i], &seconds) == 0)
            fail_msg("'%s' became %.3f", cases[i], seconds);
        assert_true(seconds == -7);
    }
}

static void keys_are_read_from_an_answer(void **state)
{
    static const char text[] =
        "{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"AK\",\"SecretAccessKey\":"
        "\"s/e+c=\",\"Token\":\"t\",\"Expiration\":\"2026-11-21T06:50:17Z\",\"More\":[1]}";
    static const char least[] = "{\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"s\",\"Token\":\"\"}";
    struct s3_keys keys = {0}, copy = {0};
    struct err err = {0};

    (void)state;
    assert_int_equal(s3_keys_parse(&keys, text, strlen(text), "it", &err), 0);
    assert_string_equal(keys.access_key, "AK");
    assert_string_equal(keys.secret_key, "s/e+c=");
    assert_string_equal(keys.token, "t");
    assert_true(keys.expires_s == 1795243817);
    s3_keys_copy(&copy, &keys);
    assert_true(s3_keys_equal(&copy, &keys));
    s3_keys_release(&keys);
    s3_keys_release(&keys); /* all-zero again */
    assert_int_equal(s3_keys_parse(&keys, least, strlen(least), "it", &err), 0);
    assert_null(keys.token);
    assert_true(keys.expires_s == 0);
    assert_false(s3_keys_equal(&copy, &keys));
    s3_keys_release(&keys);
    s3_keys_release(&copy);
}

static void keys_are_refused_without_showing_the_answer(void **state)
{
    static const char *const cases[] = {
        "",
        "TOPSECRET",
        "{\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"TOPSECRET\"",
        "[\"TOPSECRET\"]",
        "\"TOPSECRET\"",
        "{\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"TOPSECRET\"} TOPSECRET",
        "{\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"TOPSECRET\",\"AccessKeyId\":\"AK\"}",
        "{\"Code\":\"TOPSECRET\",\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"TOPSECRET\"}",
        "{\"AccessKeyId\":\"TOPSECRET\"}",
        "{\"SecretAccessKey\":\"TOPSECRET\"}",
        "{\"AccessKeyId\":7,\"SecretAccessKey\":\"TOPSECRET\"}",
        "{\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"TOPSECRET\\r\\n\"}",
        "{\"AccessKeyId\":\"\",\"SecretAccessKey\":\"TOPSECRET\"}",
        "{\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"TOPSECRET\",\"Token\":\"a b\"}",
        "{\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"TOPSECRET\",\"Expiration\":\"TOPSECRET\"}",
        "{\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"TOPSECRET\",\"Expiration\":1795340000}",
        "{\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"TOPSECRET\",\"Token\":[\"t\"]}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct s3_keys keys = {0};
        struct err err = {0};

        if (s3_keys_parse(&keys, cases[i], strlen(cases[i]), "the answer", &err) == 0)
            fail_msg("taken: %s", cases[i]);
        assert_int_equal(err.code, ERR_INPUT);
        assert_non_null(strstr(err.msg, "the answer"));
        assert_null(strstr(err.msg, "TOPSECRET"));
        assert_null(keys.secret_key);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_is_read_in_every_form_of_rfc_3339),
        cmocka_unit_test(time_is_refused_when_it_is_none),
        cmocka_unit_test(keys_are_read_from_an_answer),
        cmocka_unit_test(keys_are_refused_without_showing_the_answer),
    };

    return cmocka_run_group_tests_name("keys", tests, NULL, NULL);
}
