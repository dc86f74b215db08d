/* tests/s3io/test_metadata.c -- instance metadata: session tokens, what it says when it cannot, and
 * who may be asked. */
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
#include "s3io/metadata.h"

#define ENDPOINT "AWS_EC2_METADATA_SERVICE_ENDPOINT"

static bool own_network;

/* A service that hands out tokens TOKEN-1, TOKEN-2, ... and takes the last one only. */
struct service {
    int put_status;     /* 0: 200; -1: keep silent */
    int ttl_s;          /* said of a token; 0: nothing said */
    int busy;           /* so many requests get busy_status first */
    int busy_status;    /* 503 */
    bool optional;      /* requests without a token are served too */
    bool refuse_always; /* 401 whatever the token */
    int tokens, gets;   /* so far */
    int valid;          /* the number of the token that is taken */
    char last[1024];    /* head of the last GET */
};

static void answer_put(struct service *service, const char *request, struct buf *out, bool *silent)
{
    char body[32], headers[96] = "";

    assert_non_null(strstr(request, "PUT /latest/api/token HTTP/1.1\r\n"));
    assert_non_null(strcasestr(request, "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n"));
    if (service->put_status < 0) {
        *silent = true;
        return;
    }
    service->valid = ++service->tokens;
    snprintf(body, sizeof body, "TOKEN-%d", service->tokens);
    if (service->ttl_s > 0)
        snprintf(headers, sizeof headers, "X-Aws-Ec2-Metadata-Token-Ttl-Seconds: %d\r\n",
                 service->ttl_s);
    fake_reply(out, service->put_status > 0 ? service->put_status : 200, headers, body);
}

static void answer(void *context, const char *request, struct buf *out, bool *silent)
{
    struct service *service = context;
    char expected[64];

    if (service->busy > 0) {
        service->busy--;
        fake_reply(out, service->busy_status, "", "");
        return;
    }
    if (strncmp(request, "PUT ", 4) == 0) {
        answer_put(service, request, out, silent);
        return;
    }
    service->gets++;
    snprintf(service->last, sizeof service->last, "%s", request);
    snprintf(expected, sizeof expected, "x-aws-ec2-metadata-token: TOKEN-%d\r\n", service->valid);
    if (service->refuse_always ||
        !(strcasestr(request, expected) != NULL ||
          (service->optional && strcasestr(request, "metadata-token") == NULL)))
        fake_reply(out, 401, "", "");
    else if (strstr(request, "GET /latest/meta-data/placement/region ") != NULL)
        fake_reply(out, 200, "", "eu-west-1");
    else if (strstr(request, "GET /latest/meta-data/forbidden ") != NULL)
        fake_reply(out, 403, "", "");
    else
        fake_reply(out, 404, "", "nothing");
}

static int setup(void **state)
{
    (void)state;
    place_open();
    unsetenv("AWS_EC2_METADATA_DISABLED");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    place_close();
    return 0;
}

static struct fake *start(struct service *service)
{
    struct fake *fake = fake_start("127.0.0.1", 0, answer, service);
    char url[64];

    snprintf(url, sizeof url, "http://127.0.0.1:%d/", fake_port(fake));
    setenv(ENDPOINT, url, 1);
    return fake;
}

/* The region, twice from the same object: `rc` and the text each time. */
static void region_is_there(struct s3_metadata *metadata)
{
    struct buf out = {0};
    struct err err = {0};

    buf_append(&out, "=", 1); /* it is appended */
    if (s3_metadata_get(metadata, "meta-data/placement/region", &out, &err) != 1)
        fail_msg("%s", err.msg);
    assert_string_equal(buf_text(&out), "=eu-west-1");
    buf_release(&out);
}

static const char *refusal(struct s3_metadata *metadata, const char *item, enum err_code code)
{
    static struct err err;
    struct buf out = {0};

    err = (struct err){0};
    assert_int_equal(s3_metadata_get(metadata, item, &out, &err), -1);
    if (err.code != code)
        fail_msg("code %d: %s", err.code, err.msg);
    assert_int_equal(out.bytes, 0);
    assert_null(strstr(err.msg, "TOKEN-"));
    return err.msg;
}

/* Of a new object, under the variables as they are. */
static const char *fresh_refusal(enum err_code code)
{
    struct s3_metadata *metadata = s3_metadata_new(NULL);
    const char *line = refusal(metadata, "meta-data/placement/region", code);

    s3_metadata_free(metadata);
    return line;
}

static void metadata_keeps_its_token(void **state)
{
    struct service service = {.ttl_s = 21600};
    struct fake *fake = start(&service);
    struct s3_metadata *metadata = s3_metadata_new(NULL);
    struct buf out = {0};
    struct err err = {0};

    (void)state;
    assert_false(s3_metadata_answered(metadata));
    region_is_there(metadata);
    region_is_there(metadata);
    assert_true(s3_metadata_answered(metadata));
    assert_int_equal(s3_metadata_get(metadata, "meta-data/spot/instance-action", &out, &err), 0);
    assert_int_equal(out.bytes, 0);
    assert_int_equal(service.tokens, 1);
    assert_int_equal(service.gets, 3);
    assert_null(strcasestr(service.last, "X-Forwarded-For"));
    s3_metadata_free(metadata);
    fake_stop(fake);
}

static void metadata_fetches_a_token_that_ends_soon_again(void **state)
{
    struct service service = {.ttl_s = 30}; /* less than the minute by which it is ahead */
    struct fake *fake = start(&service);
    struct s3_metadata *metadata = s3_metadata_new(NULL);

    (void)state;
    region_is_there(metadata);
    region_is_there(metadata);
    assert_int_equal(service.tokens, 2);
    s3_metadata_free(metadata);
    fake_stop(fake);
}

static void metadata_fetches_a_refused_token_again_once(void **state)
{
    struct service service = {0};
    struct fake *fake = start(&service);
    struct s3_metadata *metadata = s3_metadata_new(NULL);

    (void)state;
    region_is_there(metadata);
    service.valid = 99; /* forgotten by the service */
    region_is_there(metadata);
    assert_int_equal(service.tokens, 2);
    service.refuse_always = true;
    assert_non_null(strstr(refusal(metadata, "meta-data/placement/region", ERR_INPUT),
                           "refused a new session"));
    assert_int_equal(service.tokens, 3); /* no third one */
    s3_metadata_free(metadata);
    fake_stop(fake);
}

static void metadata_waits_when_it_is_throttled(void **state)
{
    static const int statuses[] = {429, 503};

    (void)state;
    setenv("AWS_METADATA_SERVICE_TIMEOUT", "0.2", 1); /* the waits are in proportion */
    for (size_t i = 0; i < 2; i++) {
        struct service service = {.busy = 2, .busy_status = statuses[i]};
        struct fake *fake = start(&service);
        struct s3_metadata *metadata = s3_metadata_new(NULL);

        region_is_there(metadata);
        service.busy = 100;
        assert_non_null(strstr(refusal(metadata, "meta-data/placement/region", ERR_NET), "HTTP "));
        assert_int_equal(service.busy, 96);
        s3_metadata_free(metadata);
        fake_stop(fake);
    }
}

static void metadata_says_what_to_do_when_the_token_is_lost(void **state)
{
    /* A hop limit of 1 and a container's bridge: the token's answer does not arrive, others do. */
    struct service service = {.put_status = -1};
    struct fake *fake = start(&service);

    (void)state;
    setenv("AWS_METADATA_SERVICE_TIMEOUT", "0.2", 1);
    assert_non_null(strstr(fresh_refusal(ERR_INPUT), "hop-limit"));
    assert_int_equal(service.gets, 2);
    setenv("AWS_EC2_METADATA_V1_DISABLED", "true", 1);
    assert_non_null(strstr(fresh_refusal(ERR_NET), "hop-limit"));
    assert_int_equal(service.gets, 2);
    fake_stop(fake);
}

static void metadata_goes_without_token_where_it_may(void **state)
{
    static const int statuses[] = {-1, 403, 404, 405};

    (void)state;
    setenv("AWS_METADATA_SERVICE_TIMEOUT", "0.2", 1);
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        struct service service = {.put_status = statuses[i], .optional = true};
        struct fake *fake = start(&service);
        struct s3_metadata *metadata = s3_metadata_new(NULL);

        region_is_there(metadata);
        assert_null(strcasestr(service.last, "metadata-token"));
        s3_metadata_free(metadata);
        setenv("AWS_EC2_METADATA_V1_DISABLED", "true", 1);
        fresh_refusal(statuses[i] < 0 ? ERR_NET : ERR_INPUT);
        assert_int_equal(service.gets, 1);
        unsetenv("AWS_EC2_METADATA_V1_DISABLED");
        fake_stop(fake);
    }
}

static void metadata_that_says_no_is_not_asked_again(void **state)
{
    struct service service = {0};
    struct fake *fake = start(&service);
    struct s3_metadata *metadata = s3_metadata_new(NULL);

    (void)state;
    assert_non_null(strstr(refusal(metadata, "meta-data/forbidden", ERR_INPUT), "HTTP 403 for"));
    assert_int_equal(service.gets, 1);
    s3_metadata_free(metadata);
    fake_stop(fake);
    setenv("AWS_EC2_METADATA_DISABLED", "True", 1);
    assert_non_null(strstr(fresh_refusal(ERR_INPUT), "AWS_EC2_METADATA_DISABLED"));
}

static void metadata_is_not_there_on_other_hosts(void **state)
{
    struct s3_metadata *metadata;

    (void)state;
    setenv(ENDPOINT, "http://127.0.0.1:9", 1);
    setenv("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "3", 1);
    metadata = s3_metadata_new(NULL);
    assert_non_null(
        strstr(refusal(metadata, "meta-data/placement/region", ERR_NET), "127.0.0.1:9"));
    assert_false(s3_metadata_answered(metadata));
    s3_metadata_free(metadata);
}

static void metadata_is_at_its_address_of_either_kind(void **state)
{
    static const char *const modes[][2] = {
        {"IPv4", "169.254.169.254"}, {"IPv6", "fd00:ec2::254"}, {"", "169.254.169.254"}};

    (void)state;
    if (!own_network)
        skip();
    setenv("http_proxy", "http://127.0.0.1:9", 1); /* never through it */
    for (size_t i = 0; i < 3; i++) {
        struct service service = {0};
        struct fake *fake = fake_start(modes[i][1], 80, answer, &service);
        struct s3_metadata *metadata;

        setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", modes[i][0], 1);
        metadata = s3_metadata_new(NULL);
        region_is_there(metadata);
        s3_metadata_free(metadata);
        fake_stop(fake);
    }
}

static void metadata_names_the_variable_that_is_wrong(void **state)
{
    static const char *const cases[][2] = {
        {"AWS_EC2_METADATA_DISABLED", "1"},
        {"AWS_EC2_METADATA_V1_DISABLED", "no"},
        {"AWS_METADATA_SERVICE_TIMEOUT", "0"},
        {"AWS_METADATA_SERVICE_TIMEOUT", "soon"},
        {"AWS_METADATA_SERVICE_TIMEOUT", "nan"},
        {"AWS_METADATA_SERVICE_NUM_ATTEMPTS", "-1"},
        {"AWS_METADATA_SERVICE_NUM_ATTEMPTS", "1000"},
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv5"},
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT", "169.254.169.254"},
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://a b"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setenv(cases[i][0], cases[i][1], 1);
        assert_non_null(strstr(fresh_refusal(ERR_USAGE), cases[i][0]));
        unsetenv(cases[i][0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(metadata_keeps_its_token, setup, teardown),
        cmocka_unit_test_setup_teardown(metadata_fetches_a_token_that_ends_soon_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(metadata_fetches_a_refused_token_again_once, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(metadata_waits_when_it_is_throttled, setup, teardown),
        cmocka_unit_test_setup_teardown(metadata_says_what_to_do_when_the_token_is_lost, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(metadata_goes_without_token_where_it_may, setup, teardown),
        cmocka_unit_test_setup_teardown(metadata_that_says_no_is_not_asked_again, setup, teardown),
        cmocka_unit_test_setup_teardown(metadata_is_not_there_on_other_hosts, setup, teardown),
        cmocka_unit_test_setup_teardown(metadata_is_at_its_address_of_either_kind, setup, teardown),
        cmocka_unit_test_setup_teardown(metadata_names_the_variable_that_is_wrong, setup, teardown),
    };

    own_network = fake_enter_network();
    return cmocka_run_group_tests_name("metadata", tests, NULL, NULL);
}
