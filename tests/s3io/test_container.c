/* tests/s3io/test_container.c -- the container endpoint: where it may be, its token, and what is
 * tried again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "fake.h"
#include "place.h"
#include "s3io/container.h"
#include "s3io/keys.h"

#define RELATIVE   "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
#define FULL       "AWS_CONTAINER_CREDENTIALS_FULL_URI"
#define TOKEN      "AWS_CONTAINER_AUTHORIZATION_TOKEN"
#define TOKEN_FILE "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
#define KEYS       "{\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"TOPSECRET\",\"Token\":\"t\"}"

static bool own_network;
static const struct s3_container_pace pace = {.timeout_s = 0.3, .pause_s = 0.01};

/* What the endpoint does, request by request: the last one goes on. */
struct script {
    int status[8]; /* 0: close without an answer; -1: keep silent */
    const char *body;
    int at;
    char head[2048]; /* of the last request */
};

static void answer(void *context, const char *request, struct buf *out, bool *silent)
{
    struct script *script = context;
    const int status = script->status[script->at];

    if (script->at < 7 && script->status[script->at + 1] != 0)
        script->at++;
    snprintf(script->head, sizeof script->head, "%s", request);
    if (status < 0)
        *silent = true;
    else if (status > 0)
        fake_reply(out, status, "", script->body != NULL ? script->body : KEYS);
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

static void point_at(const struct fake *fake)
{
    char url[64];

    snprintf(url, sizeof url, "http://127.0.0.1:%d/keys?a=b", fake_port(fake));
    setenv(FULL, url, 1);
}

static void fetch_or_fail(void)
{
    struct s3_keys keys = {0};
    struct err err = {0};

    if (s3_container_fetch(&pace, &keys, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(keys.access_key, "AK");
    assert_string_equal(keys.secret_key, "TOPSECRET");
    assert_string_equal(keys.token, "t");
    s3_keys_release(&keys);
}

static const char *refusal(enum err_code code)
{
    static struct err err;
    struct s3_keys keys = {0};

    err = (struct err){0};
    assert_int_equal(s3_container_fetch(&pace, &keys, &err), -1);
    if (err.code != code)
        fail_msg("code %d: %s", err.code, err.msg);
    assert_null(strstr(err.msg, "TOPSECRET"));
    assert_null(keys.secret_key);
    return err.msg;
}

static void container_asks_near_hosts_and_https_only(void **state)
{
    static const char *const refused[] = {"http://example.com/",
                                          "http://169.254.170.3/",
                                          "http://169.254.170.2.example.com/",
                                          "http://127.0.0.1.example.com/",
                                          "http://127.0.0.1@example.com/",
                                          "http://example.com\\@127.0.0.1/",
                                          "http://localhost.example.com/",
                                          "http://0x7f.1/",
                                          "http://127.1/",
                                          "http://2130706433/",
                                          "http://[::2]/",
                                          "http://[::1/",
                                          "http://[fd00:ec2::24]/",
                                          "http:///",
                                          "http://",
                                          "ftp://127.0.0.1/",
                                          "127.0.0.1/",
                                          "http://127.0.0.1/\r\nX-Evil: 1",
                                          "http://127.0.0.1 /",
                                          "http://10.0.0.1:80/",
                                          "https://u:TOPSECRET@h/"};
    static const char *const relative[] = {"@example.com/", "keys", ".example.com/", "/a b",
                                           "/a\n"};

    (void)state;
    assert_false(s3_container_is_set());
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        setenv(FULL, refused[i], 1);
        assert_true(s3_container_is_set());
        assert_non_null(strstr(refusal(ERR_INPUT), FULL));
    }
    for (size_t i = 0; i < sizeof relative / sizeof *relative; i++) {
        setenv(RELATIVE, relative[i], 1);
        assert_non_null(strstr(refusal(ERR_INPUT), RELATIVE));
    }
}

static void container_takes_the_hosts_of_aws_and_loopback(void **state)
{
    static const struct {
        const char *address, *url;
    } taken[] = {{"169.254.170.2", "http://169.254.170.2:8080/"},
                 {"169.254.170.23", "http://169.254.170.23:8080"},
                 {"fd00:ec2::23", "http://[fd00:ec2:0::23]:8080/"},
                 {"127.3.2.1", "http://127.3.2.1:8080/"},
                 {"::1", "http://[::1]:8080/"},
                 {"127.0.0.1", "HTTP://LocalHost:8080/"}};

    (void)state;
    if (!own_network)
        skip();
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        struct script script = {.status = {200}};
        struct fake *fake = fake_start(taken[i].address, 8080, answer, &script);

        setenv(FULL, taken[i].url, 1);
        fetch_or_fail();
        fake_stop(fake);
    }
    setenv(FULL, "https://10.1.2.3/", 1); /* https may be anywhere: that it is tried is all */
    assert_non_null(strstr(refusal(ERR_NET), "10.1.2.3:443"));
}

static void container_path_is_asked_at_the_fixed_address(void **state)
{
    struct script script = {.status = {200}};
    struct fake *fake;

    (void)state;
    if (!own_network)
        skip();
    fake = fake_start("169.254.170.2", 80, answer, &script);
    setenv(RELATIVE, "/v2/credentials/1-2-3", 1);
    setenv(FULL, "http://127.0.0.1:1/", 1); /* yields to it */
    fetch_or_fail();
    assert_non_null(strstr(script.head, "GET /v2/credentials/1-2-3 HTTP/1.1\r\n"));
    assert_null(strcasestr(script.head, "\nAuthorization:"));
    fake_stop(fake);
}

static void container_reads_the_token_file_at_each_fetch(void **state)
{
    struct script script = {.status = {200}};
    struct fake *fake = fake_start("127.0.0.1", 0, answer, &script);

    (void)state;
    point_at(fake);
    setenv(TOKEN, "from-variable", 1);
    fetch_or_fail();
    assert_non_null(strstr(script.head, "GET /keys?a=b HTTP/1.1\r\n"));
    assert_non_null(strstr(script.head, "Authorization: from-variable\r\n"));
    setenv(TOKEN_FILE, place_write("token", "first"), 1);
    fetch_or_fail();
    assert_non_null(strstr(script.head, "Authorization: first\r\n"));
    place_write("token", "Bearer second");
    fetch_or_fail();
    assert_non_null(strstr(script.head, "Authorization: Bearer second\r\n"));
    fake_stop(fake);
}

static void container_refuses_a_token_that_is_no_header(void **state)
{
    static const char *const tokens[] = {"TOPSECRET\r\nX-Evil: 1", "TOPSECRET\n", "\rTOPSECRET",
                                         "TOPSECRET\x01", "TOPSECRET\xc3\xa4"};
    struct script script = {.status = {200}};
    struct fake *fake = fake_start("127.0.0.1", 0, answer, &script);

    (void)state;
    point_at(fake);
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        unsetenv(TOKEN_FILE);
        setenv(TOKEN, tokens[i], 1);
        assert_non_null(strstr(refusal(ERR_INPUT), TOKEN ": the token has a"));
        setenv(TOKEN_FILE, place_write("token", tokens[i]), 1);
        assert_non_null(strstr(refusal(ERR_INPUT), TOKEN_FILE ": the token has a"));
    }
    place_write("token", "");
    assert_non_null(strstr(refusal(ERR_INPUT), "is empty"));
    setenv(TOKEN_FILE, place_path("gone"), 1);
    assert_non_null(strstr(refusal(ERR_INPUT), place_path("gone")));
    assert_int_equal(fake_requests(fake), 0);
    fake_stop(fake);
}

static void container_tries_again_what_may_mend(void **state)
{
    struct script script = {.status = {503, -1, 200}}; /* the second one costs the time limit */
    struct fake *fake = fake_start("127.0.0.1", 0, answer, &script);

    (void)state;
    point_at(fake);
    fetch_or_fail();
    assert_int_equal(fake_requests(fake), 3);
    fake_stop(fake);

    script = (struct script){.status = {429}};
    fake = fake_start("127.0.0.1", 0, answer, &script);
    point_at(fake);
    assert_non_null(strstr(refusal(ERR_NET), "HTTP 429"));
    assert_int_equal(fake_requests(fake), S3_CONTAINER_TRIES);
    fake_stop(fake);
}

static void container_does_not_ask_twice_after_a_no(void **state)
{
    static const struct {
        int status;
        const char *body, *why;
    } cases[] = {
        {403, "TOPSECRET", "HTTP 403: is its token"},
        {404, "TOPSECRET", "HTTP 404"},
        {302, "TOPSECRET", "HTTP 302"},
        {200, "TOPSECRET", "no JSON object"},
        {200, "{\"SecretAccessKey\":\"TOPSECRET\"}", "no AccessKeyId"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct script script = {.status = {cases[i].status}, .body = cases[i].body};
        struct fake *fake = fake_start("127.0.0.1", 0, answer, &script);

        point_at(fake);
        setenv(TOKEN, "TOPSECRET-token", 1);
        assert_non_null(strstr(refusal(ERR_INPUT), cases[i].why));
        assert_int_equal(fake_requests(fake), 1);
        fake_stop(fake);
    }
}

static void container_is_never_asked_through_a_proxy(void **state)
{
    struct script script = {.status = {200}};
    struct fake *fake = fake_start("127.0.0.1", 0, answer, &script);

    (void)state;
    setenv("http_proxy", "http://127.0.0.1:9", 1);
    setenv("HTTP_PROXY", "http://127.0.0.1:9", 1);
    setenv("all_proxy", "http://127.0.0.1:9", 1);
    point_at(fake);
    fetch_or_fail();
    fake_stop(fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(container_asks_near_hosts_and_https_only, setup, teardown),
        cmocka_unit_test_setup_teardown(container_takes_the_hosts_of_aws_and_loopback, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(container_path_is_asked_at_the_fixed_address, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(container_reads_the_token_file_at_each_fetch, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(container_refuses_a_token_that_is_no_header, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(container_tries_again_what_may_mend, setup, teardown),
        cmocka_unit_test_setup_teardown(container_does_not_ask_twice_after_a_no, setup, teardown),
        cmocka_unit_test_setup_teardown(container_is_never_asked_through_a_proxy, setup, teardown),
    };

    own_network = fake_enter_network();
    return cmocka_run_group_tests_name("container", tests, NULL, NULL);
}
