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
#include "s3io/config.h"
#include "s3io/credentials.h"
#include "who.h"

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

static void credentials_are_taken_in_order(void **state)
{
    struct endpoint endpoint = {0};
    struct fake *fake = start(&endpoint);

    (void)state;
    who_has_keys(NULL, "AK-1", "TOPSECRET", "t", "the container endpoint");
    place_write(".aws/config", "[default]\naws_access_key_id = C\naws_secret_access_key = cs\n"
                               "[profile p]\naws_access_key_id = P\naws_secret_access_key = ps\n");
    who_has_keys(NULL, "C", "cs", NULL, "profile 'default' in the config file");
    place_write(".aws/credentials",
                "[default]\naws_access_key_id = F\naws_secret_access_key = fs\naws_session_token = "
                "ft\n");
    who_has_keys(NULL, "F", "fs", "ft", "profile 'default' in the credentials file");
    setenv("AWS_PROFILE", "p", 1);
    who_has_keys(NULL, "P", "ps", NULL, "profile 'p' in the config file");
    setenv("AWS_ACCESS_KEY_ID", "E", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "es", 1);
    who_has_keys(NULL, "E", "es", NULL, "the environment");
    setenv("AWS_SECURITY_TOKEN", "old", 1);
    who_has_keys(NULL, "E", "es", "old", "the environment");
    setenv("AWS_SESSION_TOKEN", "new", 1);
    who_has_keys(NULL, "E", "es", "new", "the environment");
    who_has_keys("p", "P", "ps", NULL, "profile 'p' in the config file"); /* given by option */
    assert_int_equal(fake_requests(fake), 1);
    fake_stop(fake);
}

static void credentials_line_lists_every_place_when_there_are_none(void **state)
{
    const char *line = who_refusal(NULL, ERR_INPUT);

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
    line = who_refusal("p", ERR_INPUT);
    expect_in(line, "(passed over: a profile was given)");
    expect_in(line, ".aws/credentials' (no such profile)");
    expect_in(line, ".aws/config' (the profile has no keys)");
    expect_in(line, "instance metadata (cannot connect to 127.0.0.1:9");
}

static void credentials_that_are_half_or_damaged_are_an_error(void **state)
{
    (void)state;
    setenv("AWS_SECRET_ACCESS_KEY", "TOPSECRET", 1);
    expect_in(who_refusal(NULL, ERR_INPUT),
              "AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not");
    setenv("AWS_ACCESS_KEY_ID", "", 1); /* empty is unset */
    expect_in(who_refusal(NULL, ERR_INPUT), "AWS_ACCESS_KEY_ID is not");
    setenv("AWS_ACCESS_KEY_ID", "AK", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "", 1);
    expect_in(who_refusal(NULL, ERR_INPUT),
              "AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not");
    setenv("AWS_SECRET_ACCESS_KEY", "TOPSECRET\n", 1);
    expect_in(who_refusal(NULL, ERR_INPUT), "AWS_SECRET_ACCESS_KEY has white space");
    setenv("AWS_SECRET_ACCESS_KEY", "TOPSECRET", 1);
    setenv("AWS_SESSION_TOKEN", "TOPSECRET\r\nx-evil: 1", 1);
    expect_in(who_refusal(NULL, ERR_INPUT), "AWS_SESSION_TOKEN has white space");
    unsetenv("AWS_SESSION_TOKEN");
    setenv("AWS_CREDENTIAL_EXPIRATION", "soon", 1);
    expect_in(who_refusal(NULL, ERR_INPUT), "AWS_CREDENTIAL_EXPIRATION is no time");
    setenv("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00Z", 1);
    expect_in(who_refusal(NULL, ERR_INPUT), "expired at 2020-01-01T00:00:00Z");
    setenv("AWS_CREDENTIAL_EXPIRATION", "2120-01-01T00:00:00Z", 1);
    who_has_keys(NULL, "AK", "TOPSECRET", NULL, "the environment");
    unsetenv("AWS_ACCESS_KEY_ID");
    unsetenv("AWS_SECRET_ACCESS_KEY");
    place_write(".aws/credentials", "[default]\n\naws_secret_access_key = TOPSECRET\n");
    expect_in(who_refusal(NULL, ERR_INPUT), ".aws/credentials' line 3: profile 'default' has "
                                            "aws_secret_access_key and no aws_access_key_id");
    place_write(".aws/credentials", "[default]\naws_access_key_id = a\naws_secret_access_key = TOP "
                                    "SECRET\n");
    expect_in(who_refusal(NULL, ERR_INPUT), "aws_secret_access_key has white space");
}

static void credentials_that_need_what_is_not_there_are_refused(void **state)
{
    static const struct {
        const char *key;
        bool before_keys; /* of the credentials file: botocore's order */
    } cases[] = {{"sso_account_id", true},
                 {"sso_role_name", true},
                 {"login_session", false},
                 {"sso_session", false},
                 {"sso_start_url", false}};
    struct endpoint endpoint = {0};
    struct fake *fake = start(&endpoint);

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256], part[256];

        snprintf(text, sizeof text, "[profile p]\n%s = x\n[default]\n", cases[i].key);
        place_write(".aws/config", text);
        place_write(".aws/credentials", "");
        snprintf(part, sizeof part,
                 ".aws/config' line 2: profile 'p' has %s, which is not supported: run 'aws "
                 "configure export-credentials --profile p --format env' and set the variables "
                 "that it prints",
                 cases[i].key);
        expect_in(who_refusal("p", ERR_INPUT), part);
        place_write(".aws/credentials",
                    "[p]\naws_access_key_id = F\naws_secret_access_key = TOPSECRET\n");
        if (cases[i].before_keys)
            expect_in(who_refusal("p", ERR_INPUT), part);
        else
            who_has_keys("p", "F", "TOPSECRET", NULL, "profile 'p' in the credentials file");
    }
    assert_int_equal(fake_requests(fake), 0); /* those would be somebody else's keys */
    fake_stop(fake);
}

static void credentials_of_a_failing_endpoint_are_not_taken_elsewhere(void **state)
{
    struct endpoint endpoint = {.status = 403};
    struct fake *fake = start(&endpoint);

    (void)state;
    expect_in(who_refusal(NULL, ERR_INPUT), "HTTP 403");
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
            who_has_keys(NULL, "IM", "TOPSECRET", "t", "instance metadata");
        else
            expect_in(who_refusal(NULL, cases[i].code), cases[i].part);
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
        assert_string_equal(who_access_key(&who), "AK-1");
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
    assert_string_equal(who_access_key(&who), "AK-1");
    assert_string_equal(who_access_key(&who), "AK-1");
    while (strcmp(who_access_key(&who), "AK-1") == 0 && clock_now_s() - began_s < 20)
        clock_sleep_s(0.05);
    assert_string_equal(who_access_key(&who), "AK-2");
    assert_true(clock_now_s() - began_s < 4); /* AK-1 was still valid */
    /* The source fails: the keys at hand go on. */
    fake_lock(fake);
    endpoint.status = 403;
    fake_unlock(fake);
    while (fake_requests(fake) < 3 && clock_now_s() - began_s < 20) {
        assert_string_equal(who_access_key(&who), "AK-2");
        clock_sleep_s(0.05);
    }
    who_close(&who);
    fake_stop(fake);
}

static void credentials_at_hand_serve_while_new_ones_are_fetched(void **state)
{
    struct endpoint endpoint = {.lives_s = 8};
    struct fake *fake = start(&endpoint);
    struct who who = who_open(NULL);
    double began_s, longest_s = 0;

    (void)state;
    who.credentials = s3_credentials_new(&who.config);
    assert_string_equal(who_access_key(&who), "AK-1");
    fake_lock(fake);
    endpoint.pause_s = 1;
    fake_unlock(fake);
    began_s = clock_now_s();
    while (clock_now_s() - began_s < 6) {
        const double before_s = clock_now_s();
        const bool renewed = strcmp(who_access_key(&who), "AK-2") == 0;

        if (clock_now_s() - before_s > longest_s)
            longest_s = clock_now_s() - before_s;
        if (renewed)
            break;
        clock_sleep_s(0.02);
    }
    assert_string_equal(who_access_key(&who), "AK-2");
    assert_true(longest_s < 0.5);
    who_close(&who);
    fake_stop(fake);
}

static void *cancel_soon(void *context)
{
    clock_sleep_s(0.2);
    __atomic_store_n((volatile sig_atomic_t *)context, 1, __ATOMIC_RELAXED);
    return NULL;
}

/* One who waits gives up; the fetch goes on for the others. */
static void credentials_are_not_waited_for_by_who_is_cancelled(void **state)
{
    struct endpoint endpoint = {.pause_s = 1};
    struct fake *fake = start(&endpoint);
    struct who who = who_open(NULL);
    volatile sig_atomic_t cancel = 0;
    struct s3_keys keys = {0};
    struct err err = {0};
    const double began_s = clock_now_s();
    pthread_t thread;

    (void)state;
    who.credentials = s3_credentials_new(&who.config);
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, (void *)&cancel), 0);
    assert_int_equal(s3_credentials_get(who.credentials, &cancel, &keys, &err), -1);
    assert_int_equal(err.code, ERR_STOPPED);
    assert_true(clock_now_s() - began_s < 0.7);
    assert_string_equal(who_access_key(&who), "AK-1");
    assert_int_equal(fake_requests(fake), 1);
    pthread_join(thread, NULL);
    who_close(&who);
    fake_stop(fake);
}

/* Nor for long by who tidies up. */
static void credentials_are_waited_for_within_a_limit(void **state)
{
    struct endpoint endpoint = {.pause_s = 1};
    struct fake *fake = start(&endpoint);
    struct who who = who_open(NULL);
    struct s3_keys keys = {0};
    struct err err = {0};

    (void)state;
    who.credentials = s3_credentials_new(&who.config);
    assert_int_equal(s3_credentials_get_within(who.credentials, 0.2, &keys, &err), -1);
    assert_int_equal(err.code, ERR_STOPPED);
    assert_non_null(who_access_key(&who)); /* the fetch goes on for others */
    assert_int_equal(s3_credentials_get_within(who.credentials, 0, &keys, &err), 0);
    s3_keys_release(&keys);
    who_close(&who);
    fake_stop(fake);
}

static void silence(void *context, const char *request, struct buf *out, bool *silent)
{
    (void)context, (void)request, (void)out;
    *silent = true;
}

static void credentials_are_freed_without_waiting_for_a_fetch(void **state)
{
    struct fake *fake = fake_start("127.0.0.1", 0, silence, NULL);
    static const char *const names[] = {"AWS_CONTAINER_CREDENTIALS_FULL_URI",
                                        "AWS_EC2_METADATA_SERVICE_ENDPOINT"};
    char url[64];

    (void)state;
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", fake_port(fake));
    setenv("AWS_METADATA_SERVICE_TIMEOUT", "3", 1);
    setenv("AWS_EC2_METADATA_DISABLED", "false", 1);
    for (int i = 0; i < 2; i++) {
        struct who who = who_open(NULL);
        struct s3_keys keys = {0};
        const int before = fake_requests(fake);
        double began_s;

        setenv(names[i], url, 1);
        who.credentials = s3_credentials_new(&who.config);
        assert_int_equal(s3_credentials_get_within(who.credentials, 0, &keys, NULL), -1);
        while (fake_requests(fake) == before)
            clock_sleep_s(0.01);
        began_s = clock_now_s();
        who_close(&who);
        assert_true(clock_now_s() - began_s < 1.5);
        unsetenv(names[i]);
    }
    fake_stop(fake);
}

/* The looks at the clock that are left until it is a day later; -1: it goes as it does. */
static int looks_left = -1;

double __real_clock_wall_s(void); /* NOLINT(bugprone-reserved-identifier): ld's --wrap */
double __wrap_clock_wall_s(void); /* NOLINT(bugprone-reserved-identifier) */

double __wrap_clock_wall_s(void) /* NOLINT(bugprone-reserved-identifier) */
{
    const int left = __atomic_load_n(&looks_left, __ATOMIC_RELAXED);

    if (left > 0)
        __atomic_store_n(&looks_left, left - 1, __ATOMIC_RELAXED);
    return __real_clock_wall_s() + (left == 0 ? 86400 : 0);
}

static void credentials_that_end_between_two_looks_at_the_clock_are_not_waited_for(void **state)
{
    struct endpoint endpoint = {.lives_s = 3600};
    struct fake *fake = start(&endpoint);

    (void)state;
    for (int looks = 0; looks < 4; looks++) {
        struct who who = who_open(NULL);
        struct s3_keys keys = {0};

        who.credentials = s3_credentials_new(&who.config);
        assert_int_equal(s3_credentials_get(who.credentials, NULL, &keys, NULL), 0);
        s3_keys_release(&keys);
        __atomic_store_n(&looks_left, looks, __ATOMIC_RELAXED);
        assert_int_equal(s3_credentials_get_within(who.credentials, 5, &keys, NULL), 0);
        __atomic_store_n(&looks_left, -1, __ATOMIC_RELAXED);
        s3_keys_release(&keys);
        who_close(&who);
    }
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
    assert_string_equal(who_access_key(&who), "AK-1");
    fake_lock(fake);
    endpoint.status = 404;
    fake_unlock(fake);
    while (s3_credentials_get(who.credentials, NULL, &keys, &err) == 0 &&
           clock_now_s() - began_s < 20) {
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
        assert_string_equal(who_access_key(&who), "AK-1");
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
    assert_int_equal(s3_credentials_get(who.credentials, NULL, &old, &err), 0);
    for (int thread = 0; thread < 8; thread++) { /* each was refused with the old ones */
        s3_credentials_refused(who.credentials, &old);
        assert_string_equal(who_access_key(&who), "AK-2");
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
    assert_int_equal(s3_credentials_get(who.credentials, NULL, &old, &err), 0);
    place_write(".aws/credentials",
                "[default]\naws_access_key_id = B\naws_secret_access_key = s\n");
    assert_string_equal(who_access_key(&who), "A");
    s3_credentials_refused(who.credentials, &old);
    assert_string_equal(who_access_key(&who), "B");
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
    w->failures += s3_credentials_get(w->who->credentials, NULL, &keys, NULL) != 0;
    snprintf(w->first, sizeof w->first, "%s", keys.access_key != NULL ? keys.access_key : "none");
    pthread_barrier_wait(w->barrier);
    if (keys.access_key != NULL)
        s3_credentials_refused(w->who->credentials, &keys);
    s3_keys_release(&keys);
    w->failures += s3_credentials_get(w->who->credentials, NULL, &keys, NULL) != 0;
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
        cmocka_unit_test_setup_teardown(credentials_that_need_what_is_not_there_are_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(credentials_of_a_failing_endpoint_are_not_taken_elsewhere,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(credentials_come_from_the_instance_role, setup, teardown),
        cmocka_unit_test_setup_teardown(credentials_are_kept_while_they_last, setup, teardown),
        cmocka_unit_test_setup_teardown(credentials_are_renewed_ahead_of_their_end, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(credentials_at_hand_serve_while_new_ones_are_fetched, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(credentials_are_not_waited_for_by_who_is_cancelled, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(credentials_are_waited_for_within_a_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(credentials_are_freed_without_waiting_for_a_fetch, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            credentials_that_end_between_two_looks_at_the_clock_are_not_waited_for, setup,
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
