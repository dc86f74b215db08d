/*
 * tests/s3io/test_role.c -- profiles with role_arn: what STS is asked, by whose keys, through which
 * profiles, and the line when that cannot be.
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
#include "who.h"

#define BASE "[profile base]\naws_access_key_id = BASE\naws_secret_access_key = TOPSECRET\n"

static struct fake_sts sts;

static int setup(void **state)
{
    (void)state;
    place_open();
    sts = (struct fake_sts){0};
    fake_sts_start(&sts);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_sts_stop(&sts);
    place_close();
    return 0;
}

static void role_is_assumed_with_the_keys_of_its_source_profile(void **state)
{
    const char *seen;

    (void)state;
    place_write(".aws/config", BASE "[profile p]\nrole_arn = arn:aws:iam::123456789012:role/a b+c\n"
                                    "source_profile = base\nexternal_id = x&y\n"
                                    "role_session_name = me@here\nduration_seconds = 900\n");
    who_has_keys("p", "STS-1", "TOPSECRET", "TOKEN-1", "the role of profile 'p'");
    assert_int_equal(sts.seen_count, 1);
    seen = sts.seen[0];
    assert_true(strncmp(seen, "POST / HTTP/1.1\r\n", 17) == 0);
    expect_in(seen, "\r\n\r\nAction=AssumeRole&DurationSeconds=900&ExternalId=x%26y&"
                    "RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fa%20b%2Bc&"
                    "RoleSessionName=me%40here&Version=2011-06-15");
    expect_in(seen, "content-type: application/x-www-form-urlencoded; charset=utf-8\r\n");
    expect_in(seen, "Credential=BASE/");
    expect_in(seen, "/eu-west-1/sts/aws4_request, SignedHeaders=content-type;host;x-amz-date, ");
    assert_null(strstr(seen, "TOPSECRET"));
}

static void role_goes_before_the_profiles_own_keys_and_after_the_environments(void **state)
{
    (void)state;
    place_write(".aws/config", "[default]\nrole_arn = r\nsource_profile = default\n");
    place_write(".aws/credentials",
                "[default]\naws_access_key_id = OWN\naws_secret_access_key = TOPSECRET\n"
                "aws_session_token = own-token\n");
    who_has_keys(NULL, "STS-1", "TOPSECRET", "TOKEN-1", "the role of profile 'default'");
    expect_in(sts.seen[0], "Credential=OWN/");
    expect_in(sts.seen[0], "x-amz-security-token: own-token\r\n");
    expect_in(sts.seen[0], "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, ");
    expect_in(sts.seen[0], "RoleSessionName=convoy-");
    setenv("AWS_ACCESS_KEY_ID", "E", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "es", 1);
    who_has_keys(NULL, "E", "es", NULL, "the environment");
    assert_int_equal(sts.seen_count, 1);
}

static void roles_are_assumed_one_by_the_other_along_a_chain(void **state)
{
    (void)state;
    place_write(".aws/config", BASE "[profile b]\nrole_arn = role-b\nsource_profile = base\n"
                                    "[profile a]\nrole_arn = role-a\nsource_profile = b\n");
    who_has_keys("a", "STS-2", "TOPSECRET", "TOKEN-2", "the role of profile 'a'");
    assert_int_equal(sts.seen_count, 2);
    expect_in(sts.seen[0], "Credential=BASE/");
    expect_in(sts.seen[0], "RoleArn=role-b&");
    expect_in(sts.seen[1], "Credential=STS-1/");
    expect_in(sts.seen[1], "x-amz-security-token: TOKEN-1\r\n");
    expect_in(sts.seen[1], "RoleArn=role-a&");
}

static void role_of_a_source_profile_yields_to_its_own_keys(void **state)
{
    (void)state;
    place_write(".aws/config", "[profile b]\nrole_arn = role-b\nsource_profile = b\n"
                               "aws_access_key_id = B\naws_secret_access_key = TOPSECRET\n"
                               "[profile a]\nrole_arn = role-a\nsource_profile = b\n");
    who_has_keys("a", "STS-1", "TOPSECRET", "TOKEN-1", "the role of profile 'a'");
    expect_in(sts.seen[0], "Credential=B/"); /* as botocore has it */
}

static void role_may_have_a_process_or_a_web_identity_as_its_source(void **state)
{
    char text[1024];

    (void)state;
    snprintf(text, sizeof text,
             "[profile proc]\ncredential_process = printf '%%s' '{\"Version\":1,\"AccessKeyId\":"
             "\"PROC\",\"SecretAccessKey\":\"TOPSECRET\"}'\n"
             "[profile web]\nrole_arn = role-w\nweb_identity_token_file = %s\n"
             "[profile a]\nrole_arn = role-a\nsource_profile = proc\n"
             "[profile b]\nrole_arn = role-b\nsource_profile = web\n",
             place_write("token", "JWT"));
    place_write(".aws/config", text);
    who_has_keys("a", "STS-1", "TOPSECRET", "TOKEN-1", "the role of profile 'a'");
    expect_in(sts.seen[0], "Credential=PROC/");
    setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent", 1); /* not for a source profile */
    who_has_keys("b", "STS-3", "TOPSECRET", "TOKEN-3", "the role of profile 'b'");
    expect_in(sts.seen[1], "Action=AssumeRoleWithWebIdentity&RoleArn=role-w&");
    assert_null(strstr(sts.seen[1], "uthorization: "));
    expect_in(sts.seen[2], "Credential=STS-2/");
}

static void answer_keys(void *context, const char *request, struct buf *out, bool *silent)
{
    (void)silent;
    if (strncmp(request, "PUT ", 4) == 0)
        fake_reply(out, 200, "", "METADATA-TOKEN");
    else if (strstr(request, "/security-credentials/ HTTP") != NULL)
        fake_reply(out, 200, "", "instance-role");
    else
        fake_reply(out, 200, "", context);
}

static void role_may_have_a_place_as_its_source(void **state)
{
    static char document[] =
        "{\"Code\":\"Success\",\"AccessKeyId\":\"NEAR\",\"SecretAccessKey\":\"TOPSECRET\","
        "\"Token\":\"near\",\"Expiration\":\"2120-01-01T00:00:00Z\"}";
    struct fake *fake = fake_start("127.0.0.1", 0, answer_keys, document);
    char url[64];

    (void)state;
    place_write(".aws/config", "[profile e]\nrole_arn = r\ncredential_source = Environment\n"
                               "[profile c]\nrole_arn = r\ncredential_source = EcsContainer\n"
                               "[profile m]\nrole_arn = r\n"
                               "credential_source = Ec2InstanceMetadata\n"
                               "[profile x]\nrole_arn = r\ncredential_source = environment\n");
    expect_in(who_refusal("e", ERR_INPUT),
              ".aws/config' line 3: credential_source Environment of profile 'e': those variables "
              "are not set");
    expect_in(who_refusal("c", ERR_INPUT),
              ".aws/config' line 6: credential_source EcsContainer of profile 'c': "
              "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and _FULL_URI are not set");
    expect_in(who_refusal("m", ERR_INPUT),
              ".aws/config' line 9: credential_source Ec2InstanceMetadata of profile 'm': instance "
              "metadata is turned off by AWS_EC2_METADATA_DISABLED");
    expect_in(who_refusal("x", ERR_INPUT),
              ".aws/config' line 12: profile 'x' has a credential_source that is none of "
              "Environment, Ec2InstanceMetadata, EcsContainer");
    assert_int_equal(sts.seen_count, 0);
    setenv("AWS_ACCESS_KEY_ID", "ENV", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "TOPSECRET", 1);
    snprintf(url, sizeof url, "http://127.0.0.1:%d", fake_port(fake));
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url, 1);
    unsetenv("AWS_EC2_METADATA_DISABLED");
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url, 1);
    who_has_keys("e", "STS-1", "TOPSECRET", "TOKEN-1", "the role of profile 'e'");
    expect_in(sts.seen[0], "Credential=ENV/");
    who_has_keys("c", "STS-2", "TOPSECRET", "TOKEN-2", "the role of profile 'c'");
    expect_in(sts.seen[1], "Credential=NEAR/");
    assert_int_equal(fake_requests(fake), 1);
    who_has_keys("m", "STS-3", "TOPSECRET", "TOKEN-3", "the role of profile 'm'");
    expect_in(sts.seen[2], "Credential=NEAR/");
    assert_int_equal(fake_requests(fake), 4);
    fake_stop(fake);
}

static void role_settings_that_are_wrong_are_said(void **state)
{
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"[profile p]\nrole_arn = r\n",
         ".aws/config' line 2: profile 'p' has role_arn, and neither source_profile nor "
         "credential_source that say whose keys ask for the role"},
        {BASE
         "[profile p]\nrole_arn = r\nsource_profile = base\ncredential_source = EcsContainer\n",
         ".aws/config' line 7: profile 'p' has both source_profile and credential_source: remove "
         "one"},
        {"[profile p]\nrole_arn = r\nsource_profile = gone\n",
         ".aws/config' line 3: profile 'p' has source_profile 'gone', and there is no such "
         "profile"},
        {"[profile p]\nrole_arn = r\nsource_profile = p\n",
         ".aws/config' line 3: the source_profile of profile 'p' goes in a circle: p -> p"},
        {"[profile p]\nrole_arn = r\nsource_profile = q\n"
         "[profile q]\nrole_arn = r\nsource_profile = s\n"
         "[profile s]\nrole_arn = r\nsource_profile = q\n",
         ".aws/config' line 9: the source_profile of profile 's' goes in a circle: p -> q -> s -> "
         "q"},
        {"[profile p]\nrole_arn = r\nsource_profile = q\n[profile q]\nregion = eu-west-1\n",
         ".aws/config' line 3: profile 'p' has source_profile 'q', which has no keys"},
        {"[profile p]\nrole_arn = r\nsource_profile = q\n[profile q]\nsso_account_id = 1\n",
         ".aws/config' line 5: profile 'q' has sso_account_id, which is not supported: run 'aws "
         "configure export-credentials --profile p --format env'"},
        {BASE "[profile p]\nrole_arn = r\nsource_profile = base\nmfa_serial = arn:mfa\n",
         ".aws/config' line 7: profile 'p' has mfa_serial, which is not supported: run 'aws "
         "configure export-credentials --profile p --format env' and set the variables that it "
         "prints"},
        {BASE "[profile p]\nrole_arn = r\nsource_profile = base\nduration_seconds = an hour\n",
         ".aws/config' line 7: profile 'p' has a duration_seconds that is no number from 1 to "
         "43200"},
        {BASE "[profile p]\nrole_arn = r\nsource_profile = base\nduration_seconds = 43201\n",
         "no number from 1 to 43200"},
    };

    (void)state;
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/", 1); /* not asked */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        place_write(".aws/config", cases[i].text);
        expect_in(who_refusal("p", ERR_INPUT), cases[i].part);
    }
    assert_int_equal(sts.seen_count, 0);
}

static void role_that_may_not_be_assumed_is_said(void **state)
{
    static const struct {
        int status;
        const char *code, *says, *part;
    } cases[] = {
        {403, "AccessDenied", "User: arn:aws:iam::1:user/x is not authorized",
         "cannot assume the role 'arn:r' of profile 'p': HTTP 403 AccessDenied (request REQUEST17) "
         "from 127.0.0.1:"},
        {403, "AccessDenied", "User: arn:aws:iam::1:user/x is not authorized",
         ": the credentials from profile 'base' in the config file need sts:AssumeRole, and the "
         "role's trust policy must allow it to them; it says: User: arn:aws:iam::1:user/x is not "
         "authorized"},
        {403, "InvalidClientTokenId", "The security token included in the request is invalid.",
         "the credentials from profile 'base' in the config file have an access key id that nobody "
         "knows, or have expired"},
        {403, "SignatureDoesNotMatch", "The request signature we calculated does not match",
         "the credentials from profile 'base' in the config file have a secret access key that is "
         "not their access key id's"},
        {400, "ExpiredToken", "The security token included in the request is expired",
         "the credentials from profile 'base' in the config file have expired: get new ones"},
        {400, "ValidationError", "1 validation error: the external id 'TOPSECRET-ID' is too short",
         "HTTP 400 ValidationError (request REQUEST17) from 127.0.0.1:"},
        {400, "ValidationError", "1 validation error: the external id 'TOPSECRET-ID' is too short",
         "; it says: (a text with the secret in it)"},
        {403, "RegionDisabledException", "STS is not activated in this region",
         "STS is off in this region: switch it on, or set AWS_STS_REGIONAL_ENDPOINTS=legacy"},
    };

    (void)state;
    place_write(".aws/config", BASE "[profile p]\nrole_arn = arn:r\nsource_profile = base\n"
                                    "external_id = TOPSECRET-ID\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fake_lock(sts.fake);
        sts.status = cases[i].status;
        sts.code = cases[i].code;
        sts.says = cases[i].says;
        fake_unlock(sts.fake);
        expect_in(who_refusal("p", ERR_INPUT), cases[i].part);
        assert_int_equal(sts.seen_count, i + 1); /* not tried again */
    }
}

static void role_keys_are_renewed_ahead_of_their_end(void **state)
{
    struct who who;
    const double began_s = clock_now_s();

    (void)state;
    sts.lives_s = 6;
    place_write(".aws/config", BASE "[profile p]\nrole_arn = r\nsource_profile = base\n");
    who = who_open("p");
    who.credentials = s3_credentials_new(&who.config);
    assert_string_equal(who_access_key(&who), "STS-1");
    clock_sleep_s(1.5);
    assert_string_equal(who_access_key(&who), "STS-1"); /* three quarters of its life, no sooner */
    while (strcmp(who_access_key(&who), "STS-1") == 0 && clock_now_s() - began_s < 20)
        clock_sleep_s(0.02);
    assert_string_equal(who_access_key(&who), "STS-2");
    assert_true(clock_now_s() - began_s < 6);
    fake_lock(sts.fake); /* it fails: the keys at hand go on, without a row of tries */
    sts.status = 503;
    sts.code = "ServiceUnavailable";
    sts.says = "later";
    fake_unlock(sts.fake);
    while (fake_requests(sts.fake) < 3 && clock_now_s() - began_s < 20) {
        assert_string_equal(who_access_key(&who), "STS-2");
        clock_sleep_s(0.02);
    }
    assert_int_equal(fake_requests(sts.fake), 3);
    who_close(&who);
}

static void role_is_not_waited_for_after_a_cancel(void **state)
{
    static volatile sig_atomic_t cancel;
    struct who who;
    struct s3_keys keys = {0};
    struct err err = {0};
    const double began_s = clock_now_s();

    (void)state;
    cancel = 1;
    place_write(".aws/config", BASE "[profile p]\nrole_arn = r\nsource_profile = base\n");
    who = who_open("p");
    who.credentials = s3_credentials_new(&who.config);
    assert_int_equal(s3_credentials_get(who.credentials, &cancel, &keys, &err), -1);
    assert_int_equal(err.code, ERR_STOPPED);
    who_close(&who); /* which ends what was begun */
    assert_true(clock_now_s() - began_s < 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(role_is_assumed_with_the_keys_of_its_source_profile, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            role_goes_before_the_profiles_own_keys_and_after_the_environments, setup, teardown),
        cmocka_unit_test_setup_teardown(roles_are_assumed_one_by_the_other_along_a_chain, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(role_of_a_source_profile_yields_to_its_own_keys, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(role_may_have_a_process_or_a_web_identity_as_its_source,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(role_may_have_a_place_as_its_source, setup, teardown),
        cmocka_unit_test_setup_teardown(role_settings_that_are_wrong_are_said, setup, teardown),
        cmocka_unit_test_setup_teardown(role_that_may_not_be_assumed_is_said, setup, teardown),
        cmocka_unit_test_setup_teardown(role_keys_are_renewed_ahead_of_their_end, setup, teardown),
        cmocka_unit_test_setup_teardown(role_is_not_waited_for_after_a_cancel, setup, teardown),
    };

    return cmocka_run_group_tests_name("role", tests, NULL, NULL);
}
