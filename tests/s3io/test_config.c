/* tests/s3io/test_config.c -- where each setting is taken from, and the line when it is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "place.h"
#include "s3io/client.h"
#include "s3io/config.h"

static int setup(void **state)
{
    (void)state;
    place_open();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    place_close();
    return 0;
}

static struct s3_config config_of(const struct s3_client_options *options)
{
    struct s3_config config;
    struct err err = {0};

    if (s3_config_read(&config, options, &err) < 0)
        fail_msg("%s", err.msg);
    return config;
}

static const char *refusal(const struct s3_client_options *options, enum err_code code)
{
    static struct err err;
    struct s3_config config;

    err = (struct err){0};
    assert_int_equal(s3_config_read(&config, options, &err), -1);
    assert_int_equal(err.code, code);
    return err.msg;
}

static void endpoint_is(const char *expected)
{
    struct s3_config config = config_of(NULL);

    if (expected == NULL)
        assert_null(config.endpoint);
    else
        assert_string_equal(config.endpoint, expected);
    s3_config_release(&config);
}

static void region_is(const struct s3_client_options *options, const char *expected)
{
    struct s3_config config = config_of(options);

    if (expected == NULL)
        assert_null(config.region);
    else
        assert_string_equal(config.region, expected);
    s3_config_release(&config);
}

static void config_has_defaults_where_nothing_is_set(void **state)
{
    struct s3_config config = config_of(NULL);

    (void)state;
    assert_string_equal(config.profile, "default");
    assert_false(config.profile_explicit);
    assert_null(config.region);
    assert_null(config.endpoint);
    assert_null(config.ca_bundle);
    assert_null(config.sse);
    assert_int_equal(config.attempts, 0);
    assert_int_equal(config.addressing, S3_ADDRESS_AUTO);
    assert_false(config.dualstack || config.fips);
    assert_true(config.sends_checksums && config.asks_checksums);
    assert_null(config.user_agent);
    s3_config_release(&config);
    s3_config_release(&config); /* all-zero again */
}

static void config_takes_the_region_by_precedence(void **state)
{
    (void)state;
    region_is(NULL, NULL);
    place_write(".aws/config", "[default]\nregion = profile-1\n");
    region_is(NULL, "profile-1");
    setenv("AWS_DEFAULT_REGION", "default-1", 1);
    region_is(NULL, "default-1");
    setenv("AWS_REGION", "", 1); /* empty is unset */
    region_is(NULL, "default-1");
    setenv("AWS_REGION", "region-1", 1);
    region_is(NULL, "region-1");
    region_is(&(struct s3_client_options){.region = "option-1"}, "option-1");
}

static void config_takes_the_endpoint_by_precedence(void **state)
{
    (void)state;
    setenv("S3_ENDPOINT_URL", "http://local:1/", 1);
    endpoint_is("http://local:1");
    place_write(".aws/config", "[default]\nendpoint_url = http://profile\n");
    endpoint_is("http://profile");
    place_write(".aws/config", "[default]\nservices = s\nendpoint_url = http://profile\n"
                               "[services s]\nsts =\n  endpoint_url = http://sts\n");
    endpoint_is("http://profile"); /* of another service */
    place_write(".aws/config", "[default]\nservices = s\nendpoint_url = http://profile\n"
                               "[services s]\ns3 =\n  endpoint_url = http://services/a/b\n");
    endpoint_is("http://services/a/b");
    setenv("AWS_ENDPOINT_URL", "https://[::1]:7480", 1);
    endpoint_is("https://[::1]:7480");
    setenv("AWS_ENDPOINT_URL_S3", "http://s3:80", 1);
    endpoint_is("http://s3:80");
    setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true", 1);
    endpoint_is(NULL);
    setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "FALSE", 1);
    endpoint_is("http://s3:80");
    unsetenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
    place_write(".aws/config", "[default]\nignore_configured_endpoint_urls = true\n");
    endpoint_is(NULL);
    {
        struct s3_config config =
            config_of(&(struct s3_client_options){.endpoint = "http://option"});

        assert_string_equal(config.endpoint, "http://option");
        s3_config_release(&config);
    }
}

static void config_refuses_what_is_no_endpoint(void **state)
{
    static const char *const texts[] = {"127.0.0.1:7480",
                                        "ftp://a",
                                        "http://",
                                        "http://:80",
                                        "http://a:",
                                        "http://a:b",
                                        "http://a b",
                                        "http://u:TOPSECRET@a",
                                        "http://a/?b=TOPSECRET",
                                        "http://a\n",
                                        "http://[::1",
                                        "http:///a",
                                        "https://[::1]x:9y",
                                        "http://a\x80"};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *line;

        setenv("AWS_ENDPOINT_URL", texts[i], 1);
        line = refusal(NULL, ERR_USAGE);
        assert_non_null(strstr(line, "AWS_ENDPOINT_URL must be"));
        assert_null(strstr(line, "TOPSECRET"));
    }
    unsetenv("AWS_ENDPOINT_URL");
    place_write(".aws/config", "[default]\n\nendpoint_url = nonsense\n");
    assert_non_null(strstr(refusal(NULL, ERR_INPUT), ".aws/config' line 3: endpoint_url must be"));
    place_write(".aws/config", "[default]\nservices = gone\n");
    assert_non_null(strstr(refusal(NULL, ERR_INPUT), "line 2: services names a"));
}

static void config_chooses_the_profile(void **state)
{
    struct s3_config config;

    (void)state;
    place_write(".aws/config", "[profile a]\nregion = a-1\n[profile b]\nregion = b-1\n[c]\n");
    place_write(".aws/credentials", "[b]\nregion = b-2\n[d]\n");
    setenv("AWS_DEFAULT_PROFILE", "a", 1);
    region_is(NULL, "a-1");
    setenv("AWS_PROFILE", "b", 1);
    region_is(NULL, "b-2"); /* the credentials file goes first */
    config = config_of(&(struct s3_client_options){.profile = "a"});
    assert_true(config.profile_explicit);
    assert_string_equal(config.profile, "a");
    assert_string_equal(config.region, "a-1");
    s3_config_release(&config);
    setenv("AWS_PROFILE", "d", 1);
    region_is(NULL, NULL);
    setenv("AWS_PROFILE", "gone", 1);
    assert_non_null(strstr(refusal(NULL, ERR_INPUT), "no profile 'gone' (AWS_PROFILE) in '"));
    setenv("AWS_PROFILE", "c", 1);
    assert_non_null(strstr(refusal(NULL, ERR_INPUT), "must be called '[profile c]'"));
}

static void config_takes_the_rest_from_variables_and_profile(void **state)
{
    struct s3_config config;

    (void)state;
    place_write(".aws/config", "[default]\n"
                               "ca_bundle = /profile.pem\n"
                               "max_attempts = 4\n"
                               "use_fips_endpoint = true\n"
                               "request_checksum_calculation = when_required\n"
                               "response_checksum_validation = WHEN_REQUIRED\n"
                               "sdk_ua_app_id = nightly\n"
                               "s3 =\n"
                               "  addressing_style = virtual\n"
                               "  use_dualstack_endpoint = true\n");
    config = config_of(NULL);
    assert_string_equal(config.ca_bundle, "/profile.pem");
    assert_int_equal(config.attempts, 4);
    assert_true(config.fips && config.dualstack);
    assert_false(config.sends_checksums || config.asks_checksums);
    assert_non_null(strstr(config.user_agent, " app/nightly"));
    assert_int_equal(config.addressing, S3_ADDRESS_VIRTUAL);
    s3_config_release(&config);
    setenv("AWS_CA_BUNDLE", "/variable.pem", 1);
    setenv("AWS_MAX_ATTEMPTS", "1", 1);
    setenv("AWS_USE_FIPS_ENDPOINT", "false", 1);
    setenv("AWS_USE_DUALSTACK_ENDPOINT", "False", 1);
    setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported", 1);
    setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_supported", 1);
    setenv("AWS_SDK_UA_APP_ID", "a b\r\n(c)", 1);
    config = config_of(NULL);
    assert_string_equal(config.ca_bundle, "/variable.pem");
    assert_int_equal(config.attempts, 1);
    assert_false(config.fips || config.dualstack);
    assert_true(config.sends_checksums && config.asks_checksums);
    assert_non_null(strstr(config.user_agent, " app/a-b---c-"));
    s3_config_release(&config);
}

static void config_names_the_variable_or_line_that_is_wrong(void **state)
{
    static const struct {
        const char *name, *value;
    } cases[] = {
        {"AWS_REGION", "eu west"},
        {"AWS_REGION", "-a"},
        {"AWS_REGION", "a.example.com/"},
        {"AWS_REGION", "a12345678901234567890123456789012345678901234567890123456789012345"},
        {"AWS_MAX_ATTEMPTS", "0"},
        {"AWS_MAX_ATTEMPTS", "-3"},
        {"AWS_MAX_ATTEMPTS", "3x"},
        {"AWS_MAX_ATTEMPTS", "99999999999999999999"},
        {"AWS_USE_FIPS_ENDPOINT", "yes"},
        {"AWS_USE_DUALSTACK_ENDPOINT", "1"},
        {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "on"},
        {"AWS_REQUEST_CHECKSUM_CALCULATION", "never"},
        {"AWS_RESPONSE_CHECKSUM_VALIDATION", "always"},
        {"CONVOY_SSE", "kms"},
        {"CONVOY_SSE_KMS_KEY_ID", "a\r\nx-evil: 1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setenv(cases[i].name, cases[i].value, 1);
        assert_non_null(strstr(refusal(NULL, ERR_USAGE), cases[i].name));
        unsetenv(cases[i].name);
    }
    place_write(".aws/config", "[default]\ns3 =\n  addressing_style = round\n");
    assert_non_null(strstr(refusal(NULL, ERR_INPUT), "line 3: s3.addressing_style must be"));
    place_write(".aws/config", "[default]\nregion = a/b\n");
    assert_non_null(strstr(refusal(NULL, ERR_INPUT), "line 2: region is no region's name"));
    place_write(".aws/config", "[default\n");
    assert_non_null(strstr(refusal(NULL, ERR_INPUT), "line 1"));
}

static void config_takes_encryption_from_options_before_variables(void **state)
{
    static const struct {
        const char *option, *option_key, *variable, *variable_key, *sse, *key;
    } cases[] = {
        {NULL, NULL, NULL, NULL, NULL, NULL},
        {"AES256", NULL, NULL, NULL, "AES256", NULL},
        {NULL, NULL, "AES256", NULL, "AES256", NULL},
        {NULL, NULL, "aws:kms", NULL, "aws:kms", NULL},
        {NULL, NULL, NULL, "alias/k", "aws:kms", "alias/k"},
        {NULL, "o", NULL, "v", "aws:kms", "o"},
        {NULL, "o", "AES256", NULL, "aws:kms", "o"},
        {"AES256", NULL, "aws:kms", "v", "AES256", NULL},
        {"aws:kms", NULL, "AES256", "v", "aws:kms", "v"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct s3_client_options options = {.sse = cases[i].option,
                                                  .sse_key_id = cases[i].option_key};
        struct s3_config config;

        setenv("CONVOY_SSE", cases[i].variable != NULL ? cases[i].variable : "", 1);
        setenv("CONVOY_SSE_KMS_KEY_ID", cases[i].variable_key != NULL ? cases[i].variable_key : "",
               1);
        config = config_of(&options);
        assert_string_equal(config.sse != NULL ? config.sse : "none",
                            cases[i].sse != NULL ? cases[i].sse : "none");
        assert_string_equal(config.sse_key_id != NULL ? config.sse_key_id : "none",
                            cases[i].key != NULL ? cases[i].key : "none");
        s3_config_release(&config);
    }
    unsetenv("CONVOY_SSE_KMS_KEY_ID");
    refusal(&(struct s3_client_options){.sse = "AES256", .sse_key_id = "k"}, ERR_USAGE);
    setenv("CONVOY_SSE", "AES256", 1);
    setenv("CONVOY_SSE_KMS_KEY_ID", "k", 1);
    assert_non_null(strstr(refusal(NULL, ERR_USAGE), "CONVOY_SSE is AES256"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(config_has_defaults_where_nothing_is_set, setup, teardown),
        cmocka_unit_test_setup_teardown(config_takes_the_region_by_precedence, setup, teardown),
        cmocka_unit_test_setup_teardown(config_takes_the_endpoint_by_precedence, setup, teardown),
        cmocka_unit_test_setup_teardown(config_refuses_what_is_no_endpoint, setup, teardown),
        cmocka_unit_test_setup_teardown(config_chooses_the_profile, setup, teardown),
        cmocka_unit_test_setup_teardown(config_takes_the_rest_from_variables_and_profile, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(config_names_the_variable_or_line_that_is_wrong, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(config_takes_encryption_from_options_before_variables,
                                        setup, teardown),
    };

    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
