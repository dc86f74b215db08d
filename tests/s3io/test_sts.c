/*
 * tests/s3io/test_sts.c -- where STS is asked, what of its answers is taken, and what is tried
 * again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "fake_sts.h"
#include "place.h"
#include "s3io/client.h"
#include "s3io/sts.h"
#include "who.h"

static struct fake_sts sts;

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

static int setup_server(void **state)
{
    setup(state);
    sts = (struct fake_sts){0};
    fake_sts_start(&sts);
    place_write(".aws/config",
                "[profile base]\naws_access_key_id = BASE\naws_secret_access_key = TOPSECRET\n"
                "[profile p]\nrole_arn = arn:r\nsource_profile = base\n");
    return 0;
}

static int teardown_server(void **state)
{
    fake_sts_stop(&sts);
    return teardown(state);
}

/* --- where --- */

static void sts_is_at(const char *here, const char *url, const char *region)
{
    struct s3_config config;
    struct s3_sts_address address = {0};
    struct err err = {0};
    char got[256];

    if (s3_config_read(&config, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    s3_sts_address_make(&address, &(struct s3_sts){.config = &config, .region = here});
    snprintf(got, sizeof got, "%s%s", buf_text(&address.origin), buf_text(&address.path));
    assert_string_equal(got, url);
    assert_string_equal(address.host, strstr(buf_text(&address.origin), "//") + 2);
    assert_string_equal(address.region, region);
    s3_sts_address_release(&address);
    s3_config_release(&config);
}

static void sts_of_aws_is_the_regions_own(void **state)
{
    (void)state;
    sts_is_at(NULL, "https://sts.us-east-1.amazonaws.com/", "us-east-1");
    sts_is_at("eu-north-1", "https://sts.eu-north-1.amazonaws.com/", "eu-north-1"); /* metadata's */
    place_write(".aws/config", "[default]\nregion = eu-west-3\n");
    sts_is_at("eu-north-1", "https://sts.eu-west-3.amazonaws.com/", "eu-west-3");
    setenv("AWS_DEFAULT_REGION", "eu-south-2", 1);
    sts_is_at(NULL, "https://sts.eu-south-2.amazonaws.com/", "eu-south-2");
    setenv("AWS_REGION", "cn-north-1", 1);
    sts_is_at(NULL, "https://sts.cn-north-1.amazonaws.com.cn/", "cn-north-1");
    setenv("AWS_USE_DUALSTACK_ENDPOINT", "true", 1);
    sts_is_at(NULL, "https://sts.cn-north-1.api.amazonwebservices.com.cn/", "cn-north-1");
    setenv("AWS_REGION", "us-west-2", 1);
    sts_is_at(NULL, "https://sts.us-west-2.api.aws/", "us-west-2");
    setenv("AWS_USE_FIPS_ENDPOINT", "true", 1);
    sts_is_at(NULL, "https://sts-fips.us-west-2.api.aws/", "us-west-2");
    unsetenv("AWS_USE_DUALSTACK_ENDPOINT");
    sts_is_at(NULL, "https://sts-fips.us-west-2.amazonaws.com/", "us-west-2");
    setenv("AWS_REGION", "us-gov-west-1", 1);
    sts_is_at(NULL, "https://sts.us-gov-west-1.amazonaws.com/", "us-gov-west-1");
    place_write(".aws/config", "[default]\ns3 =\n  use_dualstack_endpoint = true\n");
    sts_is_at(NULL, "https://sts.us-gov-west-1.amazonaws.com/", "us-gov-west-1"); /* S3's only */
}

static void sts_is_the_global_one_where_that_is_asked_for(void **state)
{
    (void)state;
    place_write(".aws/config", "[default]\nsts_regional_endpoints = legacy\nregion = eu-west-1\n");
    sts_is_at(NULL, "https://sts.amazonaws.com/", "us-east-1");
    setenv("AWS_REGION", "eu-south-2", 1); /* newer than that: it has only its own */
    sts_is_at(NULL, "https://sts.eu-south-2.amazonaws.com/", "eu-south-2");
    setenv("AWS_STS_REGIONAL_ENDPOINTS", "regional", 1);
    setenv("AWS_REGION", "eu-west-1", 1);
    sts_is_at(NULL, "https://sts.eu-west-1.amazonaws.com/", "eu-west-1");
}

static void sts_endpoint_is_taken_by_precedence(void **state)
{
    (void)state;
    setenv("AWS_REGION", "eu-west-1", 1);
    setenv("S3_ENDPOINT_URL", "http://not-for-sts", 1);
    setenv("AWS_ENDPOINT_URL_S3", "http://nor-this", 1);
    sts_is_at(NULL, "https://sts.eu-west-1.amazonaws.com/", "eu-west-1");
    place_write(".aws/config", "[default]\nendpoint_url = http://profile:1\n");
    sts_is_at(NULL, "http://profile:1/", "eu-west-1");
    place_write(".aws/config", "[default]\nservices = s\nendpoint_url = http://profile:1\n"
                               "[services s]\nsts =\n  endpoint_url = http://services/a/b/\n");
    sts_is_at(NULL, "http://services/a/b/", "eu-west-1");
    setenv("AWS_ENDPOINT_URL", "http://all", 1);
    sts_is_at(NULL, "http://all/", "eu-west-1");
    setenv("AWS_ENDPOINT_URL_STS", "https://[::1]:8443", 1);
    sts_is_at(NULL, "https://[::1]:8443/", "eu-west-1");
    setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true", 1);
    sts_is_at(NULL, "https://sts.eu-west-1.amazonaws.com/", "eu-west-1");
}

static void sts_settings_that_are_wrong_are_said(void **state)
{
    struct s3_config config;
    struct err err = {0};

    (void)state;
    setenv("AWS_STS_REGIONAL_ENDPOINTS", "near", 1);
    assert_int_equal(s3_config_read(&config, NULL, &err), -1);
    assert_string_equal(err.msg, "AWS_STS_REGIONAL_ENDPOINTS must be regional or legacy");
    unsetenv("AWS_STS_REGIONAL_ENDPOINTS");
    setenv("AWS_ENDPOINT_URL_STS", "sts.local", 1);
    assert_int_equal(s3_config_read(&config, NULL, &err), -1);
    expect_in(err.msg, "AWS_ENDPOINT_URL_STS must be 'http://HOST'");
}

/* --- answers --- */

static void answers_with(int status, const char *code, const char *says, int count)
{
    fake_lock(sts.fake);
    sts.status = status;
    sts.code = code;
    sts.says = says;
    fake_sts_forget(&sts);
    sts.fail_count = count;
    fake_unlock(sts.fake);
}

static void sts_is_asked_again_after_what_time_may_mend(void **state)
{
    static const struct {
        int status;
        const char *code;
    } cases[] = {{500, "InternalFailure"},
                 {503, "ServiceUnavailable"},
                 {400, "Throttling"},
                 {400, "IDPCommunicationError"}};
    char last[8];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        answers_with(cases[i].status, cases[i].code, "later", 2);
        snprintf(last, sizeof last, "STS-%zu", i + 1);
        setenv("AWS_MAX_ATTEMPTS", "3", 1);
        {
            struct who who = who_open("p");

            who.credentials = s3_credentials_new(&who.config);
            assert_string_equal(who_access_key(&who), last);
            who_close(&who);
        }
        assert_int_equal(sts.seen_count, 3);
    }
    setenv("AWS_MAX_ATTEMPTS", "2", 1);
    answers_with(503, "ServiceUnavailable", "later", 0);
    expect_in(who_refusal("p", ERR_NET),
              "cannot assume the role 'arn:r' of profile 'p': gave up after 2 tries: HTTP 503 "
              "ServiceUnavailable (request REQUEST17) from 127.0.0.1:");
    assert_int_equal(sts.seen_count, 2);
}

static void sts_that_is_down_is_named(void **state)
{
    (void)state;
    setenv("AWS_MAX_ATTEMPTS", "2", 1);
    setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9", 1);
    expect_in(
        who_refusal("p", ERR_NET),
        "cannot assume the role 'arn:r' of profile 'p': gave up after 2 tries: cannot connect "
        "to 127.0.0.1:9: Connection refused");
}

static void sts_clock_is_taken_over_once(void **state)
{
    (void)state;
    sts.headers = "Date: Thu, 01 Jan 2037 00:00:00 GMT\r\n";
    answers_with(403, "SignatureDoesNotMatch", "Signature expired: 1 is now earlier than 2", 1);
    who_has_keys("p", "STS-1", "TOPSECRET", "TOKEN-1", "the role of profile 'p'");
    assert_int_equal(sts.seen_count, 2);
    expect_in(sts.seen[1], "x-amz-date: 20370101T0000");
    answers_with(403, "RequestTimeTooSkewed", "off", 0);
    expect_in(who_refusal("p", ERR_INPUT), "says 2037-01-01 00:00:00 UTC: set this host's clock");
}

static void sts_answers_that_are_none_are_refused(void **state)
{
    static const struct {
        const char *body, *part;
        enum err_code code;
    } cases[] = {
        {"<html>TOPSECRET", "the answer is not the XML that was expected", ERR_NET},
        {"<a/>", " has no SessionToken: is it an STS endpoint?", ERR_INPUT},
        {"<a><Credentials><AccessKeyId>A</AccessKeyId><SessionToken>t</SessionToken><Expiration>"
         "2120-01-01T00:00:00Z</Expiration></Credentials></a>",
         " has no SecretAccessKey", ERR_INPUT},
        {"<a><Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>TOP SECRET</SecretAccessKey>"
         "<SessionToken>t</SessionToken><Expiration>2120-01-01T00:00:00Z</Expiration>"
         "</Credentials></a>",
         " has an empty key, or one with white space", ERR_INPUT},
        {"<a><Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>TOPSECRET</SecretAccessKey>"
         "<SessionToken>t</SessionToken><Expiration>TOPSECRET</Expiration></Credentials></a>",
         " has an Expiration that is no time", ERR_INPUT},
        {"<a><Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>TOPSECRET</SecretAccessKey>"
         "<SessionToken>t</SessionToken></Credentials></a>",
         " has no Expiration", ERR_INPUT},
    };

    (void)state;
    setenv("AWS_MAX_ATTEMPTS", "1", 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fake_lock(sts.fake);
        sts.body = cases[i].body;
        fake_unlock(sts.fake);
        expect_in(who_refusal("p", cases[i].code), cases[i].part);
    }
}

static void sts_is_asked_through_a_proxy_and_metadata_is_not(void **state)
{
    char proxy[64];

    (void)state;
    snprintf(proxy, sizeof proxy, "http://127.0.0.1:%d", fake_port(sts.fake));
    setenv("HTTP_PROXY", proxy, 1);
    setenv("AWS_ENDPOINT_URL_STS", "http://sts.example.com", 1);
    who_has_keys("p", "STS-1", "TOPSECRET", "TOKEN-1", "the role of profile 'p'");
    assert_int_equal(strncmp(sts.seen[0], "POST http://sts.example.com/ HTTP/1.1\r\n", 39), 0);
    expect_in(sts.seen[0], "\r\nHost: sts.example.com\r\n");
    setenv("NO_PROXY", "sts.example.com,sts.invalid", 1);
    setenv("AWS_ENDPOINT_URL_STS", "http://sts.invalid", 1);
    setenv("AWS_MAX_ATTEMPTS", "1", 1);
    expect_in(who_refusal("p", ERR_NET), "cannot connect to sts.invalid:80");
    place_write(".aws/config",
                "[profile p]\nrole_arn = r\ncredential_source = Ec2InstanceMetadata\n"
                "[profile c]\nrole_arn = r\ncredential_source = EcsContainer\n");
    unsetenv("AWS_EC2_METADATA_DISABLED");
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9", 1);
    expect_in(who_refusal("p", ERR_NET), "cannot connect to 127.0.0.1:9");
    assert_int_equal(sts.seen_count, 1);
}

static void answer_metadata(void *context, const char *request, struct buf *out, bool *silent)
{
    static const char keys[] = "{\"Code\":\"Success\",\"AccessKeyId\":\"IM\",\"SecretAccessKey\":"
                               "\"TOPSECRET\",\"Token\":\"t\"}";

    (void)context, (void)silent;
    if (strncmp(request, "PUT ", 4) == 0)
        fake_reply(out, 200, "", "METADATA-TOKEN");
    else if (strstr(request, "/placement/region HTTP") != NULL)
        fake_reply(out, 200, "", "eu-north-1");
    else
        fake_reply(out, 200, "", strstr(request, "/role HTTP") != NULL ? keys : "role");
}

static void sts_is_asked_in_the_region_of_this_host(void **state)
{
    struct fake *metadata = fake_start("127.0.0.1", 0, answer_metadata, NULL);
    char url[64];

    (void)state;
    place_write(".aws/config",
                "[profile p]\nrole_arn = r\ncredential_source = Ec2InstanceMetadata\n");
    snprintf(url, sizeof url, "http://127.0.0.1:%d", fake_port(metadata));
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url, 1);
    unsetenv("AWS_EC2_METADATA_DISABLED");
    snprintf(url, sizeof url, "http://127.0.0.1:%d", fake_port(sts.fake));
    setenv("HTTPS_PROXY", url, 1); /* AWS is not to be reached from here: the proxy says no */
    unsetenv("AWS_ENDPOINT_URL_STS");
    unsetenv("AWS_REGION");
    setenv("AWS_MAX_ATTEMPTS", "1", 1);
    fake_lock(sts.fake);
    sts.status = 403;
    sts.code = sts.says = "";
    fake_unlock(sts.fake);
    expect_in(who_refusal("p", ERR_NET), "cannot connect to sts.eu-north-1.amazonaws.com:443: ");
    assert_int_equal(sts.seen_count, 1);
    assert_int_equal(
        strncmp(sts.seen[0], "CONNECT sts.eu-north-1.amazonaws.com:443 HTTP/1.1\r\n", 51), 0);
    assert_null(strstr(sts.seen[0], "uthorization")); /* that is for the other end of the tunnel */
    fake_stop(metadata);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sts_of_aws_is_the_regions_own, setup, teardown),
        cmocka_unit_test_setup_teardown(sts_is_the_global_one_where_that_is_asked_for, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(sts_endpoint_is_taken_by_precedence, setup, teardown),
        cmocka_unit_test_setup_teardown(sts_settings_that_are_wrong_are_said, setup, teardown),
        cmocka_unit_test_setup_teardown(sts_is_asked_again_after_what_time_may_mend, setup_server,
                                        teardown_server),
        cmocka_unit_test_setup_teardown(sts_that_is_down_is_named, setup_server, teardown_server),
        cmocka_unit_test_setup_teardown(sts_clock_is_taken_over_once, setup_server,
                                        teardown_server),
        cmocka_unit_test_setup_teardown(sts_answers_that_are_none_are_refused, setup_server,
                                        teardown_server),
        cmocka_unit_test_setup_teardown(sts_is_asked_through_a_proxy_and_metadata_is_not,
                                        setup_server, teardown_server),
        cmocka_unit_test_setup_teardown(sts_is_asked_in_the_region_of_this_host, setup_server,
                                        teardown_server),
    };

    return cmocka_run_group_tests_name("sts", tests, NULL, NULL);
}
