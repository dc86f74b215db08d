/* tests/s3io/test_request.c -- what goes wrong between a client and S3, and what ours does. */
#include "s3io/request.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/text.h"
#include "bed.h"
#include "place.h"

static void request_tries_again_what_time_may_mend(void **state)
{
    static const struct fault_step bad[] = {
        {.text = FAULT("503", "", "SlowDown", ""), .then = FAULT_CLOSE},
        {.text = FAULT("500", "", "InternalError", ""), .then = FAULT_CLOSE},
        {.text = FAULT("400", "", "RequestTimeout", ""), .then = FAULT_CLOSE},
        {.text = FAULT("403", "", "RequestThrottled", ""), .then = FAULT_CLOSE},
        {.text = FAULT("400", "", "XAmzContentSHA256Mismatch", ""), .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 502 x\r\nContent-Length: 4\r\n\r\noops"},
        {.text = "HTTP/1.1 504 x\r\nContent-Length: 0\r\n\r\n"},
        {.text = "HTTP/1.1 429 x\r\nContent-Length: 0\r\n\r\n"},
        {.text = NULL, .then = FAULT_CLOSE},
        {.text = NULL, .then = FAULT_RESET},
        {.text = "HTTP/1.1 200 OK\r\nContent-Le", .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 206 OK\r\nContent-Length: 5\r\n\r\n", .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 206 OK\r\n", .then = FAULT_HOLD},
        {.text = "gibberish", .then = FAULT_CLOSE},
    };
    struct s3_client_stats stats;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const struct fault_step steps[] = {bad[i], bad[i], {.text = HELLO}};

        BEGIN(steps);
        if (read_hello() != S3_YES || faults_requests(bed_faults) != 3)
            fail_msg("case %zu: %d requests: %s", i, faults_requests(bed_faults), bed_err.msg);
        s3_client_stats(bed_client, &stats);
        assert_int_equal(stats.requests, 3);
        assert_int_equal(stats.retries, 2);
        bed_end();
    }
}

static void request_gives_up_after_its_attempts(void **state)
{
    const struct fault_step steps[] = {
        {.text = FAULT("503", "", "SlowDown", ""), .then = FAULT_CLOSE}};

    (void)state;
    BEGIN(steps);
    assert_int_equal(read_hello(), -1); /* and not S3_NO */
    assert_int_equal(faults_requests(bed_faults), 3);
    assert_int_equal(bed_err.code, ERR_NET);
    assert_says("s3://imgs/k");
    assert_says("3 tries");
    assert_says("503 SlowDown (request 7QX2)");
    bed_end();
}

#define SLOW_DOWN                                                                                  \
    {                                                                                              \
        .text = FAULT("503", "", "SlowDown", ""), .then = FAULT_CLOSE                              \
    }
#define FOUR(step) step, step, step, step

static void request_outlives_an_outage_of_who_has_answered(void **state)
{
    const struct fault_step steps[] = {{.text = HELLO}, FOUR(SLOW_DOWN), FOUR(SLOW_DOWN),
                                       FOUR(SLOW_DOWN), {.text = HELLO}, SLOW_DOWN};
    double begun;

    (void)state;
    BEGIN(steps);
    bed_client->config.attempts = 0; /* nobody set a number */
    bed_client->backoff_max_s = 0.01;
    assert_int_equal(read_hello(), S3_YES);
    assert_int_equal(read_hello(), S3_YES);
    assert_int_equal(faults_requests(bed_faults), 14);
    bed_client->patience_s = 0.3;
    begun = clock_now_s();
    assert_int_equal(read_hello(), -1);
    assert_int_equal(bed_err.code, ERR_NET);
    assert_true(clock_now_s() - begun >= 0.3);
    assert_true(faults_requests(bed_faults) > 14 + S3_ATTEMPTS);
    bed_end();
}

static void request_gives_up_soon_where_nobody_ever_answered(void **state)
{
    const struct fault_step steps[] = {{.text = NULL, .then = FAULT_CLOSE}};

    (void)state;
    BEGIN(steps);
    bed_client->config.attempts = 0;
    assert_int_equal(read_hello(), -1);
    assert_int_equal(faults_requests(bed_faults), S3_ATTEMPTS);
    assert_says("8 tries");
    bed_end();
}

/* What is logged by a read that fails. */
static const char *log_of_read(void)
{
    static char text[4096];
    const int fd = memfd_create("log", MFD_CLOEXEC), kept = dup(STDERR_FILENO);
    ssize_t bytes;

    dup2(fd, STDERR_FILENO);
    assert_int_equal(read_hello(), -1);
    dup2(kept, STDERR_FILENO);
    close(kept);
    bytes = pread(fd, text, sizeof text - 1, 0);
    close(fd);
    assert_true(bytes >= 0);
    text[bytes] = '\0';
    return text;
}

static void request_says_how_long_it_asks_again(void **state)
{
    const struct fault_step steps[] = {{.text = HELLO}, SLOW_DOWN};

    (void)state;
    BEGIN(steps);
    bed_client->backoff_max_s = 0.1;
    bed_client->config.attempts = 0;
    bed_client->patience_s = 1.5;
    assert_int_equal(read_hello(), S3_YES);
    assert_non_null(strstr(log_of_read(), "'s3://imgs/k' is asked for again and again, for up to "
                                          "1.5 s: HTTP 503 SlowDown"));
    bed_client->config.attempts = 10;
    bed_client->patience_said_s = 0; /* one line for all that wait at the same time */
    assert_non_null(strstr(log_of_read(), "is asked for again and again, 10 times in all: HTTP"));
    bed_end();
}

/* What counts is the time without a byte, not that without a success. */
static void request_is_not_given_up_while_it_gets_on(void **state)
{
    const struct fault_step steps[] = {
        {.text = HELLO},
        FOUR(SLOW_DOWN),
        FOUR(SLOW_DOWN),
        {.text = "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes 0-4/10\r\n"
                 "Content-Length: 5\r\n\r\nhel",
         .drip_s = 0.7,
         .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes 3-4/10\r\n"
                 "Content-Length: 2\r\n\r\nlo"}};

    (void)state;
    BEGIN(steps);
    bed_client->config.attempts = 0;
    bed_client->backoff_max_s = 0.01;
    bed_client->patience_s = 1.7;
    bed_client->stall_s = 10;
    assert_int_equal(read_hello(), S3_YES);
    if (read_hello() != S3_YES)
        fail_msg("%s", bed_err.msg);
    bed_end_after(11);
}

/* All bytes came, and the end of the last chunk did not. */
static void request_has_what_came_whole_however_the_answer_ends(void **state)
{
    const struct fault_step steps[] = {
        {.text = "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes 0-4/10\r\n"
                 "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
         .then = FAULT_CLOSE}};

    (void)state;
    BEGIN(steps);
    bed_client->config.attempts = 1;
    assert_int_equal(read_hello(), S3_YES);
    bed_end_after(1);
}

static void request_names_an_endpoint_that_is_down(void **state)
{
    const struct fault_step steps[] = {{.text = OK}};
    char place[64];

    (void)state;
    BEGIN(steps);
    snprintf(place, sizeof place, "127.0.0.1:%d", faults_port(bed_faults));
    faults_stop(bed_faults);
    assert_int_equal(read_hello(), -1);
    assert_int_equal(bed_err.code, ERR_NET);
    assert_says(place);
    assert_says("3 tries");
    s3_client_close(bed_client);
}

static void request_does_not_repeat_what_a_person_has_to_mend(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {FAULT("403", "", "AccessDenied", ""), "s3:GetObject on bucket 'imgs'"},
        {FAULT("403", "", "AccessDenied",
               "<Message>User: arn:aws:iam::1:user/x is not authorized to perform: kms:Decrypt on "
               "resource: arn:aws:kms:eu-west-1:1:key/2</Message>"),
         "need kms:Decrypt on the KMS key of bucket 'imgs'"},
        {FAULT("403", "", "SignatureDoesNotMatch", ""), "secret access key from the environment"},
        {FAULT("404", "", "NoSuchBucket", ""), "no bucket 'imgs'"},
        {FAULT("400", "", "InvalidBucketName", ""), "InvalidBucketName"},
        {FAULT("501", "", "NotImplemented", ""), "NotImplemented"},
        {FAULT("403", "", "InvalidObjectState", ""), "InvalidObjectState"},
        {"HTTP/1.1 404 x\r\nContent-Length: 15\r\n\r\n<html>no</html>", "is it an S3 endpoint"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "does not say which"},
        {"HTTP/1.1 200 OK\r\nContent-Range: bytes 0-4/10\r\nContent-Length: 5\r\n\r\nhello",
         "does not say which"},
        {"HTTP/1.1 206 OK\r\nContent-Range: bytes 1-5/10\r\nContent-Length: 5\r\n\r\nhello",
         "1 to 5 came"},
        {"HTTP/1.1 206 OK\r\nContent-Range: bytes 0-3/4\r\nContent-Length: 4\r\n\r\nhell",
         "it has 4 bytes"},
        {FAULT("416", "", "InvalidRange", ""), "ends before"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct fault_step steps[] = {{.text = cases[i].text, .then = FAULT_CLOSE}};

        BEGIN(steps);
        if (read_hello() != -1 || bed_err.code != ERR_INPUT)
            fail_msg("case %zu: code %d: %s", i, bed_err.code, bed_err.msg);
        assert_says(cases[i].says);
        assert_says("s3://imgs/k");
        assert_int_equal(faults_requests(bed_faults), 1);
        bed_end();
    }
}

static void request_says_that_a_key_is_missing_without_an_error(void **state)
{
    const struct fault_step steps[] = {
        {.text = FAULT("404", "", "NoSuchKey", ""), .then = FAULT_CLOSE}};

    (void)state;
    BEGIN(steps);
    assert_int_equal(read_hello(), S3_NO);
    assert_int_equal(s3_object_delete(bed_client, "imgs", "k", &bed_err), S3_YES);
    bed_end();
}

static void request_takes_an_error_in_a_success_for_none(void **state)
{
    static const struct {
        const char *code;
        int status;
    } cases[] = {{FAULT("200", "", "NoSuchUpload", ""), 404},
                 {FAULT("200", "", "NoSuchKey", ""), 404},
                 {FAULT("200", "", "AccessDenied", ""), -1},
                 {FAULT("200", "", "PreconditionFailed", ""), -1},
                 {FAULT("200", "", "InternalError", ""), -1}};
    const struct s3_request request = {.method = "POST", .bucket = "imgs", .root = "Result"};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct fault_step steps[] = {{.text = cases[i].code, .then = FAULT_CLOSE}};
        struct s3_tries tries = {0};

        BEGIN(steps);
        assert_int_equal(s3_request_send(bed_client, &request, &tries, &bed_err), cases[i].status);
        s3_tries_release(&tries);
        bed_end();
    }
}

static void request_goes_on_from_the_byte_reached(void **state)
{
    const struct fault_step steps[] = {
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 10\r\n\r\nhel",
         .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes 3-9/10\r\n"
                 "Content-Length: 7\r\n\r\nlo",
         .then = FAULT_HOLD}, /* a stall */
        {.text = FAULT("503", "", "SlowDown", ""), .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes 5-9/10\r\n"
                 "Content-Length: 5\r\n\r\nworld"},
    };
    struct s3_object object;
    struct buf out = {0};

    (void)state;
    BEGIN(steps);
    bed_client->config.attempts = 4;
    buf_append(&out, ">", 1);
    assert_int_equal(s3_object_load(bed_client, "imgs", "k", 100, &out, &object, &bed_err), S3_YES);
    assert_string_equal(buf_text(&out), ">helloworld");
    assert_int_equal(object.bytes, 10);
    assert_string_equal(object.etag, "\"e\"");
    assert_null(strcasestr(faults_request(bed_faults, 0), "\r\nrange:"));
    assert_request_has(1, "\r\nrange: bytes=3-9\r\n");
    assert_request_has(1, "\r\nif-match: \"e\"\r\n");
    assert_request_has(3, "\r\nrange: bytes=5-9\r\n");
    buf_release(&out);
    bed_end();
}

static void request_asks_for_all_of_an_object_without_a_range(void **state)
{
    const struct fault_step steps[] = {
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 5\r\n\r\nhe",
         .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes 2-4/5\r\n"
                 "Content-Length: 3\r\n\r\nllo"},
        /* one that has grown since it was listed, and one that is shorter */
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 10\r\n\r\nhelloworld"},
        {.text = HELLO},
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 4\r\n\r\nhell"}};
    const struct s3_get get = {.bucket = "imgs", .key = "k", .bytes = 5, .object_bytes = 5};

    (void)state;
    BEGIN(steps);
    for (int i = 0; i < 2; i++) {
        char out[6] = "";

        assert_int_equal(s3_object_read(bed_client, &get, out, NULL, &bed_err), S3_YES);
        assert_string_equal(out, "hello");
        assert_null(strcasestr(faults_request(bed_faults, 2 * i), "\r\nrange:"));
    }
    assert_request_has(1, "\r\nrange: bytes=2-4\r\n");
    assert_request_has(3, "\r\nrange: bytes=0-4\r\n");
    assert_int_equal(s3_object_read(bed_client, &get, (char[5]){0}, NULL, &bed_err), -1);
    assert_says("it has 4 bytes");
    bed_end();
}

static void request_never_mixes_two_versions_of_an_object(void **state)
{
    const struct fault_step steps[] = {
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 10\r\n\r\nhel",
         .then = FAULT_CLOSE},
        {.text = FAULT("412", "", "PreconditionFailed", ""), .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 10\r\n\r\nhel",
         .then = FAULT_CLOSE},
        /* this one does not look at If-Match */
        {.text = "HTTP/1.1 206 OK\r\nETag: \"f\"\r\nContent-Range: bytes 3-9/10\r\n"
                 "Content-Length: 7\r\n\r\nabcdefg"},
        /* nor says its ETag: here the length tells (found by tests/fuzz/http.c) */
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 10\r\n\r\nhel",
         .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 206 OK\r\nContent-Range: bytes 3-9/12\r\n"
                 "Content-Length: 7\r\n\r\nabcdefg"},
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 10\r\n\r\nhel",
         .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 206 OK\r\nContent-Range: bytes 3-7/8\r\n"
                 "Content-Length: 5\r\n\r\nabcde"},
    };
    struct buf out = {0};

    (void)state;
    BEGIN(steps);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(s3_object_load(bed_client, "imgs", "k", 100, &out, NULL, &bed_err), -1);
        assert_int_equal(bed_err.code, ERR_INPUT);
        assert_says("replaced while it was read");
        assert_int_equal(out.bytes, 0);
    }
    buf_release(&out);
    bed_end();
}

/* Of the same length as the first one's, for all that anybody knows. */
static void request_takes_no_range_that_does_not_say_of_which_version_it_is(void **state)
{
    const struct fault_step steps[] = {
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 5\r\n\r\nhel",
         .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 206 OK\r\nContent-Range: bytes 3-4/5\r\n"
                 "Content-Length: 2\r\n\r\nxx"},
        {.text = "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes 3-4/5\r\n"
                 "Content-Length: 2\r\n\r\nlo"},
        {.text = "HTTP/1.1 206 OK\r\nContent-Range: bytes 0-4/10\r\n"
                 "Content-Length: 5\r\n\r\nworld"},
        {.text = HELLO}};
    struct buf out = {0};

    (void)state;
    BEGIN(steps);
    assert_int_equal(s3_object_load(bed_client, "imgs", "k", 100, &out, NULL, &bed_err), S3_YES);
    assert_string_equal(buf_text(&out), "hello");
    assert_int_equal(read_hello(), S3_YES);
    buf_release(&out);
    bed_end_after(5);
}

static void request_never_takes_a_body_without_a_length_for_whole(void **state)
{
    const struct fault_step steps[] = {
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\n\r\n", .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\n\r\nhello", .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 5\r\n\r\nhello"},
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 0\r\n\r\n"},
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 50\r\n\r\nhello"},
    };
    struct buf out = {0};

    (void)state;
    BEGIN(steps);
    assert_int_equal(s3_object_load(bed_client, "imgs", "k", 20, &out, NULL, &bed_err), S3_YES);
    assert_string_equal(buf_text(&out), "hello");
    assert_int_equal(faults_requests(bed_faults), 3);
    out.bytes = 0;
    assert_int_equal(s3_object_load(bed_client, "imgs", "k", 20, &out, NULL, &bed_err), S3_YES);
    assert_int_equal(out.bytes, 0); /* an empty object is an object */
    assert_int_equal(s3_object_load(bed_client, "imgs", "k", 20, &out, NULL, &bed_err), -1);
    assert_says("50 bytes, at most 20");
    buf_release(&out);
    bed_end();
}

static void request_does_not_count_a_kept_connection_that_was_closed(void **state)
{
    const struct fault_step steps[] = {
        {.text = HELLO}, {.text = NULL, .then = FAULT_CLOSE}, {.text = HELLO}};

    (void)state;
    BEGIN(steps);
    bed_client->config.attempts = 1;
    assert_int_equal(read_hello(), S3_YES);
    assert_int_equal(read_hello(), S3_YES);
    assert_int_equal(faults_requests(bed_faults), 3);
    bed_end();
}

static void request_takes_over_the_servers_clock_once(void **state)
{
    static const char skewed[] =
        FAULT("403", "Date: Fri, 01 Jan 2100 00:00:10 GMT\r\n", "RequestTimeTooSkewed", "");
    const struct fault_step steps[] = {{.text = skewed, .then = FAULT_CLOSE},
                                       {.text = HELLO},
                                       {.text = HELLO},
                                       {.text = skewed, .then = FAULT_CLOSE}};

    (void)state;
    BEGIN(steps);
    assert_int_equal(read_hello(), S3_YES);
    assert_request_has(1, "\r\nx-amz-date: 21000101T0000");
    assert_int_equal(read_hello(), S3_YES);
    assert_request_has(2, "\r\nx-amz-date: 21000101T0000");
    assert_int_equal(read_hello(), -1);
    assert_int_equal(faults_requests(bed_faults), 5);
    assert_int_equal(bed_err.code, ERR_INPUT);
    assert_says("that of 127.0.0.1:");
    assert_says(" says 2100-01-01 00:00:10 UTC: set this host's clock");
    assert_says("this host's clock says 20"); /* as it is, without the correction */
    bed_end();
}

static void request_fetches_refused_credentials_again_once(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {FAULT("400", "", "ExpiredToken", ""), "have expired"},
        {FAULT("403", "", "InvalidAccessKeyId", ""), "does not know the access key id from"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct fault_step once[] = {{.text = cases[i].text, .then = FAULT_CLOSE},
                                          {.text = HELLO}};
        const struct fault_step always[] = {{.text = cases[i].text, .then = FAULT_CLOSE}};

        BEGIN(once);
        assert_int_equal(read_hello(), S3_YES);
        bed_end();
        BEGIN(always);
        assert_int_equal(read_hello(), -1);
        assert_int_equal(faults_requests(bed_faults), 2);
        assert_int_equal(bed_err.code, ERR_INPUT);
        assert_says(cases[i].says);
        assert_says("the environment");
        bed_end();
    }
}

static void request_sends_the_session_token_signed(void **state)
{
    const struct fault_step steps[] = {{.text = HELLO}};

    (void)state;
    setenv("AWS_SESSION_TOKEN", "the-token", 1);
    BEGIN(steps);
    assert_int_equal(read_hello(), S3_YES);
    assert_request_has(0, "\r\nx-amz-security-token: the-token\r\n");
    assert_request_has(0, ";x-amz-security-token,");
    bed_end();
    unsetenv("AWS_SESSION_TOKEN");
}

static void request_waits_as_long_as_it_is_asked_to(void **state)
{
    const struct fault_step steps[] = {
        {.text = FAULT("503", "Retry-After: 0.3\r\n", "SlowDown", ""), .then = FAULT_CLOSE},
        {.text = HELLO}};
    const double start = clock_now_s();

    (void)state;
    BEGIN(steps);
    assert_int_equal(read_hello(), S3_YES);
    assert_true(clock_now_s() - start >= 0.3);
    bed_end();
}

static void on_alarm(int number)
{
    (void)number;
    bed_cancel = 1;
}

static void request_ends_when_cancelled_while_it_waits(void **state)
{
    const struct fault_step steps[] = {
        {.text = FAULT("503", "Retry-After: 60\r\n", "SlowDown", ""), .then = FAULT_CLOSE}};
    const struct itimerval soon = {.it_value = {.tv_usec = 200000}};

    (void)state;
    signal(SIGALRM, on_alarm);
    BEGIN(steps);
    setitimer(ITIMER_REAL, &soon, NULL);
    assert_int_equal(read_hello(), -1);
    assert_int_equal(bed_err.code, ERR_STOPPED);
    assert_int_equal(faults_requests(bed_faults), 1);
    bed_end();
}

/* As an upload that is aborted after a Ctrl-C: where keys take a minute, it is not. */
static void request_that_ignores_a_cancel_does_not_wait_for_keys(void **state)
{
    const struct fault_step steps[] = {{.text = OK}};
    const struct fault_step silent[] = {{.text = NULL, .then = FAULT_HOLD}};
    const struct s3_request request = {
        .method = "DELETE", .bucket = "imgs", .key = "k", .ignore_cancel = true, .attempts = 3};
    char *const key = text_copy(getenv("AWS_ACCESS_KEY_ID"));
    struct faults *endpoint = FAULTS(silent);
    struct s3_tries tries = {0};
    const double begun = clock_now_s();

    (void)state;
    unsetenv("AWS_ACCESS_KEY_ID");
    setenv("AWS_PROFILE", "p", 1);
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", faults_url(endpoint), 1);
    place_write(".aws/config", "[profile p]\nrole_arn = r\ncredential_source = EcsContainer\n");
    unsetenv("AWS_SECRET_ACCESS_KEY");
    BEGIN(steps);
    bed_client->last_keys_s = 0.2;
    bed_cancel = 1;
    assert_int_equal(s3_request_send(bed_client, &request, &tries, &bed_err), -1);
    assert_int_equal(bed_err.code, ERR_STOPPED);
    assert_says("credentials");
    assert_int_equal(faults_requests(bed_faults), 0);
    bed_end();
    assert_true(clock_now_s() - begun < 4);
    s3_tries_release(&tries);
    faults_stop(endpoint);
    unlink(place_path(".aws/config"));
    unsetenv("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    unsetenv("AWS_PROFILE");
    setenv("AWS_ACCESS_KEY_ID", key, 1);
    setenv("AWS_SECRET_ACCESS_KEY", PLACE_SECRET, 1);
    free(key);
}

static void request_refuses_names_that_cannot_be(void **state)
{
    const struct fault_step steps[] = {{.text = OK}};
    static char long_key[1026];

    (void)state;
    memset(long_key, 'k', sizeof long_key - 1);
    BEGIN(steps);
    assert_int_equal(s3_object_delete(bed_client, "imgs", long_key, &bed_err), -1);
    assert_int_equal(bed_err.code, ERR_INPUT);
    assert_says("1025");
    assert_int_equal(s3_object_delete(bed_client, "imgs", "", &bed_err), -1);
    assert_int_equal(s3_object_delete(bed_client, "", "k", &bed_err), -1);
    assert_int_equal(s3_object_delete(bed_client, "a/b", "k", &bed_err), -1);
    assert_int_equal(faults_requests(bed_faults), 0);
    bed_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_tries_again_what_time_may_mend),
        cmocka_unit_test(request_gives_up_after_its_attempts),
        cmocka_unit_test(request_outlives_an_outage_of_who_has_answered),
        cmocka_unit_test(request_gives_up_soon_where_nobody_ever_answered),
        cmocka_unit_test(request_says_how_long_it_asks_again),
        cmocka_unit_test(request_is_not_given_up_while_it_gets_on),
        cmocka_unit_test(request_has_what_came_whole_however_the_answer_ends),
        cmocka_unit_test(request_names_an_endpoint_that_is_down),
        cmocka_unit_test(request_does_not_repeat_what_a_person_has_to_mend),
        cmocka_unit_test(request_says_that_a_key_is_missing_without_an_error),
        cmocka_unit_test(request_takes_an_error_in_a_success_for_none),
        cmocka_unit_test(request_goes_on_from_the_byte_reached),
        cmocka_unit_test(request_asks_for_all_of_an_object_without_a_range),
        cmocka_unit_test(request_never_mixes_two_versions_of_an_object),
        cmocka_unit_test(request_takes_no_range_that_does_not_say_of_which_version_it_is),
        cmocka_unit_test(request_never_takes_a_body_without_a_length_for_whole),
        cmocka_unit_test(request_does_not_count_a_kept_connection_that_was_closed),
        cmocka_unit_test(request_takes_over_the_servers_clock_once),
        cmocka_unit_test(request_fetches_refused_credentials_again_once),
        cmocka_unit_test(request_sends_the_session_token_signed),
        cmocka_unit_test(request_waits_as_long_as_it_is_asked_to),
        cmocka_unit_test(request_ends_when_cancelled_while_it_waits),
        cmocka_unit_test(request_that_ignores_a_cancel_does_not_wait_for_keys),
        cmocka_unit_test(request_refuses_names_that_cannot_be),
    };

    return cmocka_run_group_tests_name("s3io/request", tests, place_setup, place_teardown);
}
