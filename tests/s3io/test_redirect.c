/* tests/s3io/test_redirect.c -- buckets that are in another region, or at another host. */
#include "s3io/request.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "bed.h"
#include "place.h"

static void request_follows_a_bucket_to_its_region_and_remembers_it(void **state)
{
    static const char *const answers[] = {
        FAULT("301", "x-amz-bucket-region: eu-west-1\r\n", "PermanentRedirect", ""),
        FAULT("400", "", "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"),
        FAULT("307", "x-amz-bucket-region: eu-west-1\r\n", "TemporaryRedirect", ""),
    };

    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        const struct fault_step steps[] = {{.text = answers[i], .then = FAULT_CLOSE},
                                           {.text = HELLO}};

        BEGIN(steps);
        assert_int_equal(read_hello(), S3_YES);
        assert_request_has(0, "/us-east-1/s3/aws4_request");
        assert_request_has(1, "/eu-west-1/s3/aws4_request");
        assert_int_equal(read_hello(), S3_YES);
        assert_int_equal(faults_requests(bed_faults), 3);
        assert_request_has(2, "/eu-west-1/s3/aws4_request");
        bed_end();
    }
}

static void request_follows_a_location_to_another_host(void **state)
{
    static char redirect[512];
    const struct fault_step there_steps[] = {{.text = HELLO}};
    const struct fault_step steps[] = {{.text = redirect, .then = FAULT_CLOSE}};
    struct faults *there = FAULTS(there_steps);
    char host[64];

    (void)state;
    snprintf(
        redirect, sizeof redirect,
        "HTTP/1.1 307 x\r\nLocation: http://localhost:%d/imgs/k?x\r\nContent-Length: 0\r\n\r\n",
        faults_port(there));
    BEGIN(steps);
    assert_int_equal(read_hello(), S3_YES);
    snprintf(host, sizeof host, "\r\nhost: localhost:%d\r\n", faults_port(there));
    assert_non_null(strcasestr(faults_request(there, 0), host));
    assert_non_null(strstr(faults_request(there, 0), "GET /imgs/k HTTP/1.1"));
    bed_end();
    faults_stop(there);
}

static void request_follows_twice_at_most(void **state)
{
    const struct fault_step steps[] = {
        {.text = FAULT("301", "x-amz-bucket-region: eu-west-1\r\n", "PermanentRedirect", ""),
         .then = FAULT_CLOSE},
        {.text = FAULT("301", "x-amz-bucket-region: eu-west-2\r\n", "PermanentRedirect", ""),
         .then = FAULT_CLOSE},
        {.text = FAULT("301", "x-amz-bucket-region: eu-west-3\r\n", "PermanentRedirect", ""),
         .then = FAULT_CLOSE},
        /* the second half: to where we are */
        {.text = FAULT("301", "", "PermanentRedirect", ""), .then = FAULT_CLOSE},
    };

    (void)state;
    BEGIN(steps);
    assert_int_equal(read_hello(), -1);
    assert_int_equal(faults_requests(bed_faults), 3);
    assert_int_equal(bed_err.code, ERR_INPUT);
    assert_says("set AWS_REGION=eu-west-3");
    assert_int_equal(read_hello(), -1);
    assert_int_equal(faults_requests(bed_faults), 4);
    assert_says("set AWS_REGION");
    bed_end();
}

static char redirect[512];

/* "301 x" with a Location at that server, and nothing else. */
static void redirect_to(const char *status, const struct faults *there, const char *host)
{
    snprintf(redirect, sizeof redirect,
             "HTTP/1.1 %s x\r\nLocation: http://%s:%d/imgs/k?x\r\nContent-Length: 0\r\n\r\n",
             status, host, faults_port(there));
}

static void redirect_with_a_location_alone_is_remembered_where_it_lasts(void **state)
{
    static const struct {
        const char *status;
        int requests; /* of two readings, that first place sees */
    } cases[] = {{"301", 1}, {"308", 1}, {"307", 2}, {"302", 2}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct fault_step there_steps[] = {{.text = HELLO}};
        const struct fault_step steps[] = {{.text = redirect, .then = FAULT_CLOSE}};
        struct faults *there = FAULTS(there_steps);

        redirect_to(cases[i].status, there, "127.0.0.1");
        BEGIN(steps);
        assert_int_equal(read_hello(), S3_YES);
        assert_int_equal(read_hello(), S3_YES);
        assert_int_equal(faults_requests(bed_faults), cases[i].requests);
        assert_int_equal(faults_requests(there), 2);
        bed_end();
        faults_stop(there);
    }
}

static void redirect_is_not_remembered_before_it_led_somewhere(void **state)
{
    const struct fault_step steps[] = {
        {.text = FAULT("301", "x-amz-bucket-region: eu-west-1\r\n", "PermanentRedirect", ""),
         .then = FAULT_CLOSE},
        {.text = FAULT("403", "", "AccessDenied", ""), .then = FAULT_CLOSE},
        {.text = HELLO}};

    (void)state;
    BEGIN(steps);
    assert_int_equal(read_hello(), -1);
    assert_request_has(1, "/eu-west-1/s3/aws4_request");
    assert_int_equal(read_hello(), S3_YES);
    assert_request_has(2, "/us-east-1/s3/aws4_request");
    bed_end();
}

/* S3 names the bucket's region with whatever is wrong. */
static void redirect_is_none_where_the_region_is_the_one_that_was_asked(void **state)
{
    const struct fault_step steps[] = {
        {.text = FAULT("400", "x-amz-bucket-region: us-east-1\r\n", "InvalidArgument", ""),
         .then = FAULT_CLOSE}};

    (void)state;
    BEGIN(steps);
    assert_int_equal(read_hello(), -1);
    assert_int_equal(faults_requests(bed_faults), 1);
    assert_says("HTTP 400 InvalidArgument");
    assert_null(strstr(bed_err.msg, "AWS_REGION"));
    bed_end();
}

static void redirect_to_a_strange_host_gets_no_session_token(void **state)
{
    const struct fault_step there_steps[] = {{.text = HELLO}};
    const struct fault_step steps[] = {{.text = redirect, .then = FAULT_CLOSE}};
    struct faults *there = FAULTS(there_steps);

    (void)state;
    setenv("AWS_SESSION_TOKEN", "the-token", 1);
    redirect_to("307", there, "localhost");
    BEGIN(steps);
    assert_int_equal(read_hello(), -1);
    assert_int_equal(bed_err.code, ERR_INPUT);
    assert_says("is said to be at http://localhost:");
    assert_says("AWS_ENDPOINT_URL_S3=http://localhost:");
    assert_null(strstr(bed_err.msg, "the-token"));
    assert_int_equal(faults_requests(there), 0);
    bed_end();
    redirect_to("307", there, "127.0.0.1"); /* the same host */
    BEGIN(steps);
    assert_int_equal(read_hello(), S3_YES);
    bed_end();
    unsetenv("AWS_SESSION_TOKEN");
    faults_stop(there);
}

static void *ask_region(void *context)
{
    (void)context;
    free(s3_client_region(bed_client, "imgs"));
    return NULL;
}

static void region_is_asked_of_instance_metadata_while_others_go_on(void **state)
{
    const struct fault_step steps[] = {{.text = NULL, .then = FAULT_HOLD}};
    struct s3_client_stats stats;
    pthread_t thread;
    double begun;

    (void)state;
    bed_faults = FAULTS(steps);
    unsetenv("AWS_EC2_METADATA_DISABLED");
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", faults_url(bed_faults), 1);
    assert_int_equal(s3_client_open(&bed_client, NULL, &bed_err), 0);
    assert_int_equal(pthread_create(&thread, NULL, ask_region, NULL), 0);
    while (faults_requests(bed_faults) == 0)
        clock_sleep_s(0.01);
    begun = clock_now_s();
    s3_client_stats(bed_client, &stats);
    assert_true(clock_now_s() - begun < 0.5); /* of the second that it is waited for */
    pthread_join(thread, NULL);
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
    unsetenv("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    bed_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_follows_a_bucket_to_its_region_and_remembers_it),
        cmocka_unit_test(request_follows_a_location_to_another_host),
        cmocka_unit_test(request_follows_twice_at_most),
        cmocka_unit_test(redirect_with_a_location_alone_is_remembered_where_it_lasts),
        cmocka_unit_test(redirect_is_not_remembered_before_it_led_somewhere),
        cmocka_unit_test(redirect_is_none_where_the_region_is_the_one_that_was_asked),
        cmocka_unit_test(redirect_to_a_strange_host_gets_no_session_token),
        cmocka_unit_test(region_is_asked_of_instance_metadata_while_others_go_on),
    };

    return cmocka_run_group_tests_name("s3io/redirect", tests, place_setup, place_teardown);
}
