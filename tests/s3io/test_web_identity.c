/*
 * tests/s3io/test_web_identity.c -- a role by the token of an identity provider: what STS is asked,
 * and the line when the token is missing, expired or wrong.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "fake_sts.h"
#include "place.h"
#include "who.h"

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

static void web_identity_is_taken_from_the_environment(void **state)
{
    (void)state;
    setenv("AWS_WEB_IDENTITY_TOKEN_FILE", place_write("token", "eyJ.TOPSECRET.x=\n"), 1);
    setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/irsa", 1);
    setenv("AWS_ROLE_SESSION_NAME", "pod-7", 1);
    who_has_keys(NULL, "STS-1", "TOPSECRET", "TOKEN-1", "the role by web identity");
    expect_in(sts.seen[0], "\r\n\r\nAction=AssumeRoleWithWebIdentity&"
                           "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Firsa&RoleSessionName=pod-7&"
                           "Version=2011-06-15&WebIdentityToken=eyJ.TOPSECRET.x%3D");
    assert_null(strstr(sts.seen[0], "uthorization"));
    assert_null(strstr(sts.seen[0], "x-amz-"));
    unsetenv("AWS_ROLE_SESSION_NAME");
    who_has_keys(NULL, "STS-2", "TOPSECRET", "TOKEN-2", "the role by web identity");
    expect_in(sts.seen[1], "&RoleSessionName=convoy-");
}

static void web_identity_of_a_profile_yields_to_the_environments(void **state)
{
    char text[512];

    (void)state;
    snprintf(text, sizeof text,
             "[profile p]\nrole_arn = role-p\nrole_session_name = session-p\n"
             "web_identity_token_file = %s\n",
             place_write("token-p", "JWT-P"));
    place_write(".aws/config", text);
    place_write(".aws/credentials",
                "[p]\naws_access_key_id = F\naws_secret_access_key = TOPSECRET\n");
    setenv("AWS_ROLE_ARN", "role-e", 1);
    who_has_keys("p", "STS-1", "TOPSECRET", "TOKEN-1", "the role by web identity");
    expect_in(sts.seen[0], "RoleArn=role-p&RoleSessionName=session-p&");
    expect_in(sts.seen[0], "&WebIdentityToken=JWT-P");
    setenv("AWS_PROFILE", "p", 1); /* not by option: the environment counts */
    who_has_keys(NULL, "STS-2", "TOPSECRET", "TOKEN-2", "the role by web identity");
    expect_in(sts.seen[1], "RoleArn=role-e&RoleSessionName=session-p&");
    expect_in(sts.seen[1], "&WebIdentityToken=JWT-P");
}

static void web_identity_token_is_read_anew_at_each_refresh(void **state)
{
    struct who who;
    struct s3_keys old = {0};
    struct err err = {0};

    (void)state;
    setenv("AWS_WEB_IDENTITY_TOKEN_FILE", place_write("token", "JWT-1"), 1);
    setenv("AWS_ROLE_ARN", "r", 1);
    who = who_open(NULL);
    who.credentials = s3_credentials_new(&who.config);
    assert_int_equal(s3_credentials_get(who.credentials, NULL, &old, &err), 0);
    place_write("token", "JWT-2");
    s3_credentials_refused(who.credentials, &old);
    assert_string_equal(who_access_key(&who), "STS-2");
    expect_in(sts.seen[0], "WebIdentityToken=JWT-1");
    expect_in(sts.seen[1], "WebIdentityToken=JWT-2");
    s3_keys_release(&old);
    who_close(&who);
}

static void web_identity_that_is_incomplete_is_said(void **state)
{
    char part[512];
    const char *path = place_path("token");

    (void)state;
    setenv("AWS_WEB_IDENTITY_TOKEN_FILE", path, 1);
    snprintf(part, sizeof part,
             "the web identity token in '%s' has no role: set AWS_ROLE_ARN, or role_arn in profile "
             "'default'",
             path);
    expect_in(who_refusal(NULL, ERR_INPUT), part);
    setenv("AWS_ROLE_ARN", "r", 1);
    snprintf(part, sizeof part,
             "cannot assume the role 'r' by web identity: cannot read the web identity token: "
             "cannot read '%s': No such file or directory",
             path);
    assert_string_equal(who_refusal(NULL, ERR_INPUT), part);
    place_write("token", "\n");
    snprintf(part, sizeof part, "'%s', the file of the web identity token, is empty", path);
    expect_in(who_refusal(NULL, ERR_INPUT), part);
    place_write("token", "TOPSECRET TOPSECRET");
    snprintf(part, sizeof part, "'%s' holds no web identity token, but other bytes", path);
    expect_in(who_refusal(NULL, ERR_INPUT), part);
    assert_int_equal(sts.seen_count, 0);
}

static void web_identity_that_sts_refuses_is_said(void **state)
{
    static const struct {
        int status;
        const char *code, *says, *part;
    } cases[] = {
        {400, "ExpiredTokenException", "Token expired: current date/time 1 must be before 0",
         " has expired: its writer must renew it; it says: Token expired: current date/time 1 must "
         "be before 0"},
        {403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity",
         " is not among those that the role's trust policy allows sts:AssumeRoleWithWebIdentity; "
         "it says: Not authorized"},
        {400, "InvalidIdentityToken", "No OpenIDConnect provider found in your account",
         " is not accepted: the account needs its issuer as an identity provider; it says: No "
         "OpenIDConnect"},
        {400, "ValidationError", "Value 'eyJhbGciOiJSUzI1NiJ9.TOPSECRET' failed",
         "; it says: (a text with the secret in it)"},
    };
    char head[512];

    (void)state;
    setenv("AWS_WEB_IDENTITY_TOKEN_FILE", place_write("token", "eyJhbGciOiJSUzI1NiJ9.TOPSECRET"),
           1);
    setenv("AWS_ROLE_ARN", "arn:r", 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *line;

        fake_lock(sts.fake);
        sts.status = cases[i].status;
        sts.code = cases[i].code;
        sts.says = cases[i].says;
        fake_unlock(sts.fake);
        line = who_refusal(NULL, ERR_INPUT);
        snprintf(head, sizeof head,
                 "cannot assume the role 'arn:r' by web identity: HTTP %d %s (request REQUEST17) "
                 "from 127.0.0.1:%d",
                 cases[i].status, cases[i].code, fake_port(sts.fake));
        expect_in(line, head);
        expect_in(line, cases[i].part);
        if (strcmp(cases[i].code, "ValidationError") != 0) {
            snprintf(head, sizeof head, "the web identity token in '%s'", place_path("token"));
            expect_in(line, head);
        }
        assert_int_equal(sts.seen_count, i + 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(web_identity_is_taken_from_the_environment, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(web_identity_of_a_profile_yields_to_the_environments, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(web_identity_token_is_read_anew_at_each_refresh, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(web_identity_that_is_incomplete_is_said, setup, teardown),
        cmocka_unit_test_setup_teardown(web_identity_that_sts_refuses_is_said, setup, teardown),
    };

    return cmocka_run_group_tests_name("web_identity", tests, NULL, NULL);
}
