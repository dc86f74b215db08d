/*
 * tests/s3io/test_credentials.c -- which place keys are taken from, the line when none has any, and
 * how threads share and renew them.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "fake.h"
#include "place.h"
#include "s3io/client.h"
#include "s3io/config.h"
#include "s3io/credentials.h"

#define THREADS 32

/* A container endpoint: each answer has keys of its own, AK-1, AK-2, ..., that live for lives_s. */
struct endpoint {
    double lives_s; /* 0: for ever */
    int status;     /* 0: 200 */
    int number;     /* of the last keys; fixed: stays as it is */
    bool fixed;
    double pause_s; /* before the answer */
};

static void answer(void *context, const char *request, struct buf *out, bool *silent)
{
    struct endpoint *endpoint = context;
    char body[256], expires[64] = "";

    (void)request;
    (void)silent;
    clock_sleep_s(endpoint->pause_s);
    if (endpoint->status != 0) {
        fake_reply(out, endpoint->status, "", "TOPSECRET");
        return;
    }
    endpoint->number += endpoint->fixed ? 0 : 1;
    if (endpoint->lives_s != 0) {
        const double when_s = clock_wall_s() + endpoint->lives_s;
        const time_t when = (time_t)when_s;
        char second[32];
        struct tm utc;

        gmtime_r(&when, &utc);
        strftime(second, sizeof second, "%Y-%m-%dT%H:%M:%S", &utc);
        snprintf(expires, sizeof expires, ",\"Expiration\":\"%s.%03dZ\"", second,
                 (int)((when_s - (double)when) * 1000));
    }
    snprintf(body, sizeof body,
             "{\"AccessKeyId\":\"AK-%d\",\"SecretAccessKey\":\"TOPSECRET\",\"Token\":\"t\"%s}",
             endpoint->number, expires);
    fake_reply(out, 200, "", body);
}

static struct fake *start(struct endpoint *endpoint)
{
    struct fake *fake = fake_start("127.0.0.1", 0, answer, endpoint);
    char url[64];

    snprintf(url, sizeof url, "http://127.0.0.1:%d/", fake_port(fake));
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url, 1);
    return fake;
}

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

/* Settings and credentials together, as a client has them. */
struct who {
    struct s3_config config;
    struct s3_credentials *credentials;
};

static struct who who_open(const char *profile)
{
    const struct s3_client_options options = {.profile = profile};
    struct who who;
    struct err err = {0};

    if (s3_config_read(&who.config, &options, &err) < 0)
        fail_msg("%s", err.msg);
    return who;
}

static void who_close(struct who *who)
{
    s3_credentials_free(who->credentials);
    s3_config_release(&who->config);
}

static const char *access_key_of(struct who *who)
{
    static char text[64];
    struct s3_keys keys = {0};
    struct err err = {0};

    if (s3_credentials_get(who->credentials, &keys, &err) < 0)
        fail_msg("%s", err.msg);
    snprintf(text, sizeof text, "%s", keys.access_key);
    s3_keys_release(&keys);
    return text;
}

static void keys_are(const char *profile, const char *access_key, const char *secret_key,
                     const char *token, const char *source)
{
    struct who who = who_open(profile);
    struct s3_keys keys = {0};
    struct err err = {0};

    who.credentials = s3_credentials_new(&who.config);
    assert_string_equal(s3_credentials_source(who.credentials), "nowhere");
    if (s3_credentials_get(who.credentials, &keys, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(keys.access_key, access_key);
    assert_string_equal(keys.secret_key, secret_key);
    assert_string_equal(keys.token != NULL ? keys.token : "none", token != NULL ? token : "none");
    assert_string_equal(s3_credentials_source(who.credentials), source);
    s3_keys_release(&keys);
    who_close(&who);
}

static const char *refusal(const char *profile, enum err_code code)
{
    static struct err err;
    struct who who = who_open(profile);
    struct s3_keys keys = {0};

    err = (struct err){0};
    who.credentials = s3_credentials_new(&who.config);
    assert_int_equal(s3_credentials_get(who.credentials, &keys, &err), -1);
    if (err.code != code)
        fail_msg("code %d: %s", err.code, err.msg);
    assert_null(strstr(err.msg, "TOPSECRET"));
    assert_null(strchr(err.msg, '\n'));
    assert_null(keys.access_key);
    who_close(&who);
    return err.msg;
}

static void expect_in(const char *line, const char *part)
{
    assert_non_null(line);
    if (strstr(line, part) == NULL)
        fail_msg("no \"%s\" in: %s", part, line != NULL ? line : "nothing");
}

static void credentials_are_taken_in_order(void **state)
{
    struct endpoint endpoint = {0};
    struct fake *fake = start(&endpoint);

    (void)state;
    keys_are(NULL, "AK-1", "TOPSECRET", "t", "the container endpoint");
    place_write(".aws/config", "[default]\naws_access_key_id = C\naws_secret_access_key = cs\n"
                               "[profile p]\naws_access_key_id = P\naws_secret_access_key = ps\n");
    keys_are(NULL, "C", "cs", NULL, "profile 'default' in the config file");
    place_write(".aws/credentials",
                "[default]\naws_access_key_id = F\naws_secret_access_key = fs\naws_session_token = "
                "ft\n");
    keys_are(NULL, "F", "fs", "ft", "profile 'default' in the credentials file");
    setenv("AWS_PROFILE", "p", 1);
    keys_are(NULL, "P", "ps", NULL, "profile 'p' in the config file");
    setenv("AWS_ACCESS_KEY_ID", "E", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "es", 1);
    keys_are(NULL, "E", "es", NULL, "the environment");
    setenv("AWS_SECURITY_TOKEN", "old", 1);
    keys_are(NULL, "E", "es", "old", "the environment");
    setenv("AWS_SESSION_TOKEN", "new", 1);
    keys_are(NULL, "E", "es", "new", "the environment");
    keys_are("p", "P", "ps", NULL, "profile 'p' in the config file"); /* given by option */
    assert_int_equal(fake_requests(fake), 1);
    fake_stop(fake);
}

static void credentials_line_lists_every_place_when_there_are_none(void **state)
{
    const char *line = refusal(NULL, ERR_INPUT);

    (void)state;
    expect_in(line,
              "no credentials; looked at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (not set)");
    expect_in(line, ".aws/credentials' (no such file)");
    expect_in(line, ".aws/config' (no such file)");
    expect_in(line, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    expect_in(line, "AWS_EC2_METADATA_DISABLED");
    expect_in(line, "; set AWS_ACCESS_KEY_ID");
    place_write(".aws/config", "[profile p]\n");
    place_write(".aws/credentials", "[other]\n");
    setenv("AWS_ACCESS_KEY_ID", "E", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "TOPSECRET", 1);
    unsetenv("AWS_EC2_METADATA_DISABLED");
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9", 1);
    line = refusal("p", ERR_INPUT);
    expect_in(line, "(passed over: a profile was given)");
    expect_in(line, ".aws/credentials' (no such profile)");
    expect_in(line, ".aws/config' (the profile has no keys)");
    expect_in(line, "instance metadata (cannot connect to 127.0.0.1:9");
}

static void credentials_that_are_half_or_damaged_are_an_error(void **state)
{
    (void)state;
    setenv("AWS_SECRET_ACCESS_KEY", "TOPSECRET", 1);
    expect_in(refusal(NULL, ERR_INPUT),
              "AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not");
    setenv("AWS_ACCESS_KEY_ID", "", 1); /* empty is unset */
    expect_in(refusal(NULL, ERR_INPUT), "AWS_ACCESS_KEY_ID is not");
    setenv("AWS_ACCESS_KEY_ID", "AK", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "", 1);
    expect_in(refusal(NULL, ERR_INPUT),
              "AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not");
    setenv("AWS_SECRET_ACCESS_KEY", "TOPSECRET\n", 1);
    expect_in(refusal(NULL, ERR_INPUT), "AWS_SECRET_ACCESS_KEY has white space");
    setenv("AWS_SECRET_ACCESS_KEY", "TOPSECRET", 1);
    setenv("AWS_SESSION_TOKEN", "TOPSECRET\r\nx-evil: 1", 1);
    expect_in(refusal(NULL, ERR_INPUT), "AWS_SESSION_TOKEN has white space");
    unsetenv("AWS_SESSION_TOKEN");
    setenv("AWS_CREDENTIAL_EXPIRATION", "soon", 1);
    expect_in(refusal(NULL, ERR_INPUT), "AWS_CREDENTIAL_EXPIRATION is no time");
    setenv("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00Z", 1);
    expect_in(refusal(NULL, ERR_INPUT), "expired at 2020-01-01T00:00:00Z");
    setenv("AWS_CREDENTIAL_EXPIRATION", "2120-01-01T00:00:00Z", 1);
    keys_are(NULL, "AK", "TOPSECRET", NULL, "the environment");
    unsetenv("AWS_ACCESS_KEY_ID");
    unsetenv("AWS_SECRET_ACCESS_KEY");
    place_write(".aws/credentials", "[default]\n\naws_secret_access_key = TOPSECRET\n");
    expect_in(refusal(NULL, ERR_INPUT), ".aws/credentials' line 3: profile 'default' has "
                                        "aws_secret_access_key and no aws_access_key_id");
    place_write(".aws/credentials", "[default]\naws_access_key_id = a\naws_secret_access_key = TOP "
                                    "SECRET\n");
    expect_in(refusal(NULL, ERR_INPUT), "aws_secret_access_key has white space");
}

static void credentials_that_need_what_is_not_built_are_refused(void **state)
{
    static const char *const roles[] = {"role_arn = r\nsource_profile = default",
                                        "web_identity_token_file = f", "sso_session = s",
                                        "sso_start_url = u"};

    (void)state;
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        char text[256];

        snprintf(text, sizeof text, "[profile p]\n%s\n[default]\n", roles[i]);
        place_write(".aws/config", text);
        place_write(".aws/credentials",
                    "[p]\naws_access_key_id = F\naws_secret_access_key = TOPSECRET\n");
        expect_in(refusal("p", ERR_INPUT), ".aws/config' line 2: profile 'p' has ");
        expect_in(refusal("p", ERR_INPUT),
                  "not supported yet: run 'aws configure export-credentials "
                  "--profile p --format env'");
    }
    place_write(".aws/config", "[profile p]\ncredential_process = TOPSECRET\n"
                               "aws_access_key_id = C\naws_secret_access_key = TOPSECRET\n");
    keys_are("p", "F", "TOPSECRET", NULL, "profile 'p' in the credentials file");
    place_write(".aws/credentials", "");
    expect_in(refusal("p", ERR_INPUT), "has credential_process");
    setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/f", 1);
    setenv("AWS_ROLE_ARN", "r", 1);
    expect_in(refusal(NULL, ERR_INPUT), "AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN are set");
}

static void credentials_of_a_failing_endpoint_are_not_taken_elsewhere(void **state)
{
    struct endpoint endpoint = {.status = 403};
    struct fake *fake = start(&endpoint);

    (void)state;
    expect_in(refusal(NULL, ERR_INPUT), "HTTP 403");
    fake_stop(fake);
}

/* --- instance metadata --- */

static void answer_metadata(void *context, const char *request, struct buf *out, bool *silent)
{
    const char *role = context;
    char body[256];

    (void)silent;
    snprintf(body, sizeof body,
             "{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"IM\","
             "\"SecretAccessKey\":\"TOPSECRET\",\"Token\":\"t\",\"Expiration\":"
             "\"2120-01-01T00:00:00Z\"}");
    if (strncmp(request, "PUT ", 4) == 0)
        fake_reply(out, 200, "", "TOKEN");
    else if (role[0] == '\0' || strcmp(role, "503") == 0)
        fake_reply(out, role[0] == '\0' ? 404 : 503, "", "");
    else if (strstr(request, "/iam/security-credentials/ HTTP") != NULL)
        fake_reply(out, 200, "", role);
    else if (strstr(request, "/iam/security-credentials/my-role@x HTTP") != NULL)
        fake_reply(out, 200, "", body);
    else
        fake_reply(out, 404, "", "");
}

static void credentials_come_from_the_instance_role(void **state)
{
    static const struct {
        const char *role, *part;
        enum err_code code;
    } cases[] = {{"my-role@x\nother\n", "", ERR_NONE},
                 {"", "instance metadata (no role is attached", ERR_INPUT},
                 {"../../user-data", "a role's name that is none", ERR_INPUT},
                 {"a b", "a role's name that is none", ERR_INPUT},
                 {"503", "instance metadata answered HTTP 503", ERR_NET}};

    (void)state;
    unsetenv("AWS_EC2_METADATA_DISABLED");
    setenv("AWS_METADATA_SERVICE_TIMEOUT", "0.3", 1); /* the waits are in proportion */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fake *fake =
            fake_start("127.0.0.1", 0, answer_metadata, (void *)(uintptr_t)cases[i].role);
        char url[64];

        snprintf(url, sizeof url, "http://127.0.0.1:%d", fake_port(fake));
        setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url, 1);
        if (cases[i].code == ERR_NONE)
            keys_are(NULL, "IM", "TOPSECRET", "t", "instance metadata");
        else
            expect_in(refusal(NULL, cases[i].code), cases[i].part);
        fake_stop(fake);
    }
}

/* --- renewal and threads --- */

static void credentials_are_kept_while_they_last(void **state)
{
    struct endpoint endpoint = {.lives_s = S3_REFRESH_AHEAD_S + 60};
    struct fake *fake = start(&endpoint);
    struct who who = who_open(NULL);

    (void)state;
    who.credentials = s3_credentials_new(&who.config);
    for (int i = 0; i < 100; i++)
        assert_string_equal(access_key_of(&who), "AK-1");
    assert_int_equal(fake_requests(fake), 1);
    who_close(&who);
    fake_stop(fake);
}

static void credentials_are_renewed_ahead_of_their_end(void **state)
{
    struct endpoint endpoint = {
        .lives_s = 5}; /* inside of the 15 minutes: due at once, but not in a row */
    struct fake *fake = start(&endpoint);
    struct who who = who_open(NULL);
    const double began_s = clock_now_s();

    (void)state;
    who.credentials = s3_credentials_new(&who.config);
    assert_string_equal(access_key_of(&who), "AK-1");
    assert_string_equal(access_key_of(&who), "AK-1");
    while (strcmp(access_key_of(&who), "AK-1") == 0 && clock_now_s() - began_s < 20)
        clock_sleep_s(0.05);
    assert_string_equal(access_key_of(&who), "AK-2");
    assert_true(clock_now_s() - began_s < 4); /* AK-1 was still valid */
    /* The source fails: the keys at hand go on. */
    fake_lock(fake);
    endpoint.status = 403;
    fake_unlock(fake);
    while (fake_requests(fake) < 3 && clock_now_s() - began_s < 20) {
        assert_string_equal(access_key_of(&who), "AK-2");
        clock_sleep_s(0.05);
    }
    who_close(&who);
    fake_stop(fake);
}

static void credentials_that_ended_are_an_error_when_no_new_ones_come(void **state)
{
    struct endpoint endpoint = {.lives_s = 0.7};
    struct fake *fake = start(&endpoint);
    struct who who = who_open(NULL);
    struct s3_keys keys = {0};
    struct err err = {0};
    const double began_s = clock_now_s();

    (void)state;
    who.credentials = s3_credentials_new(&who.config);
    assert_string_equal(access_key_of(&who), "AK-1");
    fake_lock(fake);
    endpoint.status = 404;
    fake_unlock(fake);
    while (s3_credentials_get(who.credentials, &keys, &err) == 0 && clock_now_s() - began_s < 20) {
        s3_keys_release(&keys);
        clock_sleep_s(0.05);
    }
    expect_in(err.msg, "HTTP 404");
    who_close(&who);
    fake_stop(fake);
}

static void credentials_that_seem_to_have_ended_are_left_to_the_server(void **state)
{
    /* This host's clock may be ahead; and asking in a row would not help. */
    struct endpoint endpoint = {.lives_s = -3600};
    struct fake *fake = start(&endpoint);
    struct who who = who_open(NULL);

    (void)state;
    who.credentials = s3_credentials_new(&who.config);
    for (int i = 0; i < 10; i++)
        assert_string_equal(access_key_of(&who), "AK-1");
    assert_int_equal(fake_requests(fake), 1);
    who_close(&who);
    fake_stop(fake);
}

static void credentials_refused_by_the_server_are_fetched_anew_once(void **state)
{
    struct endpoint endpoint = {0};
    struct fake *fake = start(&endpoint);
    struct who who = who_open(NULL);
    struct s3_keys old = {0};
    struct err err = {0};

    (void)state;
    who.credentials = s3_credentials_new(&who.config);
    assert_int_equal(s3_credentials_get(who.credentials, &old, &err), 0);
    for (int thread = 0; thread < 8; thread++) { /* each was refused with the old ones */
        s3_credentials_refused(who.credentials, &old);
        assert_string_equal(access_key_of(&who), "AK-2");
    }
    assert_int_equal(fake_requests(fake), 2);
    s3_keys_release(&old);
    who_close(&who);
    fake_stop(fake);
}

static void credentials_in_files_are_read_again_when_refused(void **state)
{
    struct who who;
    struct s3_keys old = {0};
    struct err err = {0};

    (void)state;
    place_write(".aws/credentials",
                "[default]\naws_access_key_id = A\naws_secret_access_key = s\n");
    who = who_open(NULL);
    who.credentials = s3_credentials_new(&who.config);
    assert_int_equal(s3_credentials_get(who.credentials, &old, &err), 0);
    place_write(".aws/credentials",
                "[default]\naws_access_key_id = B\naws_secret_access_key = s\n");
    assert_string_equal(access_key_of(&who), "A");
    s3_credentials_refused(who.credentials, &old);
    assert_string_equal(access_key_of(&who), "B");
    s3_keys_release(&old);
    who_close(&who);
}

/* What a thread does: get keys, have them refused, get new ones. */
struct worker {
    struct who *who;
    pthread_barrier_t *barrier;
    int failures;
    char first[16], second[16];
};

static void *work(void *context)
{
    struct worker *w = context;
    struct s3_keys keys = {0};

    pthread_barrier_wait(w->barrier);
    w->failures += s3_credentials_get(w->who->credentials, &keys, NULL) != 0;
    snprintf(w->first, sizeof w->first, "%s", keys.access_key != NULL ? keys.access_key : "none");
    pthread_barrier_wait(w->barrier);
    if (keys.access_key != NULL)
        s3_credentials_refused(w->who->credentials, &keys);
    s3_keys_release(&keys);
    w->failures += s3_credentials_get(w->who->credentials, &keys, NULL) != 0;
    snprintf(w->second, sizeof w->second, "%s", keys.access_key != NULL ? keys.access_key : "none");
    s3_keys_release(&keys);
    return NULL;
}

static void run_threads(struct who *who, struct worker workers[THREADS])
{
    pthread_t threads[THREADS];
    pthread_barrier_t barrier;

    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.who = who, .barrier = &barrier};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
}

static void credentials_are_fetched_once_for_all_threads(void **state)
{
    struct endpoint endpoint = {.pause_s = 0.1};
    struct fake *fake = start(&endpoint);
    struct who who = who_open(NULL);
    struct worker workers[THREADS];

    (void)state;
    who.credentials = s3_credentials_new(&who.config);
    run_threads(&who, workers);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(workers[i].failures, 0);
        assert_string_equal(workers[i].first, "AK-1");
        assert_string_equal(workers[i].second, "AK-2");
    }
    assert_int_equal(fake_requests(fake), 2);
    who_close(&who);
    fake_stop(fake);
}

static void credentials_that_fail_fail_for_all_who_wait(void **state)
{
    struct endpoint endpoint = {.status = 403, .pause_s = 0.3};
    struct fake *fake = start(&endpoint);
    struct who who = who_open(NULL);
    struct worker workers[THREADS];

    (void)state;
    who.credentials = s3_credentials_new(&who.config);
    run_threads(&who, workers);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(workers[i].failures, 2);
    assert_true(fake_requests(fake) < THREADS); /* one by one it would be twice as many */
    who_close(&who);
    fake_stop(fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(credentials_are_taken_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(credentials_line_lists_every_place_when_there_are_none,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(credentials_that_are_half_or_damaged_are_an_error, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(credentials_that_need_what_is_not_built_are_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(credentials_of_a_failing_endpoint_are_not_taken_elsewhere,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(credentials_come_from_the_instance_role, setup, teardown),
        cmocka_unit_test_setup_teardown(credentials_are_kept_while_they_last, setup, teardown),
        cmocka_unit_test_setup_teardown(credentials_are_renewed_ahead_of_their_end, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(credentials_that_ended_are_an_error_when_no_new_ones_come,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(credentials_that_seem_to_have_ended_are_left_to_the_server,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(credentials_refused_by_the_server_are_fetched_anew_once,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(credentials_in_files_are_read_again_when_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(credentials_are_fetched_once_for_all_threads, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(credentials_that_fail_fail_for_all_who_wait, setup,
                                        teardown),
    };

    return cmocka_run_group_tests_name("credentials", tests, NULL, NULL);
}
