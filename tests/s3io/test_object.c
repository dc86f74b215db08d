/* tests/s3io/test_object.c -- what GET, HEAD and PUT of an object answer, and do not. */
#include "s3io/request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "faults.h"
#include "place.h"
#include "s3io/object.h"

#define OK "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 0\r\n\r\n"
#define HELLO                                                                                      \
    "HTTP/1.1 206 Partial Content\r\nETag: \"e\"\r\nContent-Range: bytes 0-4/10\r\n"               \
    "Content-Length: 5\r\n\r\nhello"
#define ERROR_DOCUMENT(code, more)                                                                 \
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>" code                               \
    "</Code><Message>why</Message>" more "<RequestId>7QX2</RequestId></Error>"
/* The length is not said: the end of the connection is the end of the document. */
#define FAULT(status, headers, code, more)                                                         \
    "HTTP/1.1 " status " x\r\n" headers "Connection: close\r\n\r\n" ERROR_DOCUMENT(code, more)

static struct faults *faults;
static struct s3_client *client;
static struct err err;

static void begin_with(const struct fault_step *steps, size_t count)
{
    struct s3_client_options options = {0};

    err = (struct err){0};
    faults = faults_start(steps, count);
    options.endpoint = faults_url(faults);
    assert_int_equal(s3_client_open(&client, &options, &err), 0);
    client->backoff_s = 0.001;
    client->stall_s = 0.4;
    client->config.attempts = 3;
}
#define BEGIN(steps) begin_with(steps, sizeof(steps) / sizeof *(steps))

static void end(void)
{
    s3_client_close(client);
    faults_stop(faults);
}

/* The five bytes of HELLO. */
static int read_hello(void)
{
    const struct s3_get get = {.bucket = "imgs", .key = "k", .bytes = 5};
    char out[6] = "";
    const int rc = s3_object_read(client, &get, out, NULL, &err);

    if (rc == S3_YES)
        assert_string_equal(out, "hello");
    return rc;
}

static int put_hello(bool if_none)
{
    const struct s3_put put = {
        .bucket = "imgs", .key = "k", .data = "hello", .bytes = 5, .if_none = if_none};

    return s3_object_put(client, &put, NULL, &err);
}

static void assert_says(const char *part)
{
    if (strstr(err.msg, part) == NULL)
        fail_msg("'%s' is not in: %s", part, err.msg);
    assert_null(strstr(err.msg, PLACE_SECRET));
}

static void assert_request_has(int index, const char *part)
{
    if (strcasestr(faults_request(faults, index), part) == NULL)
        fail_msg("'%s' is not in request %d: %s", part, index, faults_request(faults, index));
}

static void head_asks_by_get_why_it_failed(void **state)
{
    const struct fault_step steps[] = {
        {.text = "HTTP/1.1 404 x\r\nContent-Length: 99\r\n\r\n"},
        {.text = FAULT("404", "", "NoSuchKey", ""), .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 404 x\r\nContent-Length: 99\r\n\r\n"}, /* the bucket is known now */
        {.text = "HTTP/1.1 403 x\r\nContent-Length: 99\r\n\r\n"},
        {.text = FAULT("403", "", "AccessDenied", ""), .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 404 x\r\nContent-Length: 99\r\n\r\n"},
        {.text = FAULT("404", "", "NoSuchBucket", ""), .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 404 x\r\nContent-Length: 99\r\n\r\n"},
        {.text = HELLO}, /* written meanwhile: look again */
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 7\r\n"
                 "Last-Modified: Tue, 01 Jan 2030 00:00:10 GMT\r\n\r\n"},
    };
    struct s3_object object;

    (void)state;
    BEGIN(steps);
    assert_int_equal(s3_object_head(client, "imgs", "k", NULL, &err), S3_NO);
    assert_request_has(0, "HEAD /imgs/k ");
    assert_request_has(1, "GET /imgs/k ");
    assert_int_equal(s3_object_head(client, "imgs", "k", NULL, &err), S3_NO);
    assert_int_equal(faults_requests(faults), 3);
    assert_int_equal(s3_object_head(client, "imgs", "k", NULL, &err), -1);
    assert_says("s3:GetObject");
    assert_int_equal(s3_object_head(client, "other", "k", NULL, &err), -1);
    assert_says("no bucket 'other'");
    assert_int_equal(s3_object_head(client, "third", "k", &object, &err), S3_YES);
    assert_int_equal(object.bytes, 7);
    assert_true(object.modified_s == 1893456010);
    end();
}

static void head_takes_no_answer_without_a_length_for_an_empty_object(void **state)
{
    const struct fault_step steps[] = {{.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\n\r\n"}};

    (void)state;
    BEGIN(steps);
    assert_int_equal(s3_object_head(client, "imgs", "k", NULL, &err), -1);
    assert_says("how long");
    end();
}

#define LENGTH(bytes) "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: " bytes "\r\n\r\n"
#define RANGE(text)                                                                                \
    "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes 0-4/5\r\nContent-Length: "             \
    "5\r\n\r\n" text

static void put_knows_whether_a_condition_held_after_a_lost_answer(void **state)
{
    static const struct {
        const char *head, *get, *get_again;
        int rc;
    } cases[] = {
        {LENGTH("5"), RANGE("hello"), OK, S3_YES},
        {LENGTH("5"), RANGE("hellO"), RANGE("hello"), S3_YES}, /* changed on its way */
        {LENGTH("5"), RANGE("HELLO"), RANGE("HELLO"), S3_NO},
        {LENGTH("6"), OK, OK, S3_NO},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct fault_step steps[] = {
            {.text = NULL, .then = FAULT_CLOSE},
            {.text = FAULT("412", "", "PreconditionFailed", ""), .then = FAULT_CLOSE},
            {.text = cases[i].head},
            {.text = cases[i].get},
            {.text = cases[i].get_again},
        };

        BEGIN(steps);
        assert_int_equal(put_hello(true), cases[i].rc);
        assert_request_has(0, "\r\nif-none-match: *\r\n");
        end();
    }
}

static void put_says_at_once_that_a_condition_did_not_hold(void **state)
{
    static const char *const answers[] = {FAULT("412", "", "PreconditionFailed", ""),
                                          FAULT("409", "", "ConditionalRequestConflict", ""),
                                          FAULT("404", "", "NoSuchKey", "")};

    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        const struct fault_step steps[] = {{.text = answers[i], .then = FAULT_CLOSE}};

        BEGIN(steps);
        assert_int_equal(put_hello(true), S3_NO);
        assert_int_equal(faults_requests(faults), 1);
        assert_int_equal(put_hello(false), -1); /* it had no condition */
        assert_int_equal(err.code, ERR_INPUT);
        end();
    }
}

static void put_asks_for_encryption_where_it_is_configured(void **state)
{
    const struct fault_step steps[] = {{.text = OK}};

    (void)state;
    setenv("CONVOY_SSE_KMS_KEY_ID", "key-7", 1);
    BEGIN(steps);
    assert_int_equal(put_hello(false), S3_YES);
    assert_request_has(0, "\r\nx-amz-server-side-encryption: aws:kms\r\n");
    assert_request_has(0, "\r\nx-amz-server-side-encryption-aws-kms-key-id: key-7\r\n");
    assert_request_has(0, "\r\ncontent-type: application/octet-stream\r\n");
    assert_request_has(0, "\r\nx-amz-content-sha256: "
                          "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\r\n");
    end();
    unsetenv("CONVOY_SSE_KMS_KEY_ID");
}

#define EMPTY "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
#define WHOLE "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 5\r\n\r\n"

static void object_takes_a_success_without_anything_for_no_answer(void **state)
{
    const struct fault_step load[] = {{.text = EMPTY}, {.text = WHOLE "hello"}};
    const struct fault_step head[] = {{.text = EMPTY}, {.text = WHOLE}};
    const struct fault_step put[] = {{.text = EMPTY}, {.text = OK}};
    const struct fault_step range[] = {{.text = EMPTY}, {.text = OK}, {.text = HELLO}};
    struct s3_object object;
    struct buf out = {0};

    (void)state;
    BEGIN(load);
    assert_int_equal(s3_object_load(client, "imgs", "k", 20, &out, NULL, &err), S3_YES);
    assert_string_equal(buf_text(&out), "hello");
    end();
    BEGIN(head);
    assert_int_equal(s3_object_head(client, "imgs", "k", &object, &err), S3_YES);
    assert_int_equal(object.bytes, 5);
    end();
    BEGIN(put);
    assert_int_equal(put_hello(false), S3_YES);
    assert_int_equal(faults_requests(faults), 2);
    end();
    BEGIN(range);
    assert_int_equal(read_hello(), S3_YES);
    end();
    buf_release(&out);
}

/* The listing said that it has bytes: one answer without any is not believed. */
static void object_asks_twice_before_a_listed_object_is_empty(void **state)
{
    const struct fault_step steps[] = {{.text = OK}, {.text = WHOLE}, {.text = WHOLE "hello"}};
    const struct fault_step empty[] = {{.text = OK}, {.text = OK}};
    const struct s3_transfer transfer = {.threads = 1, .bytes_likely = 5};
    const int fd = memfd_create("object", MFD_CLOEXEC);

    (void)state;
    BEGIN(empty);
    assert_int_equal(s3_object_download(client, "imgs", "k", fd, &transfer, NULL, &err), S3_YES);
    assert_int_equal(lseek(fd, 0, SEEK_END), 0);
    end();
    BEGIN(steps);
    (void)s3_object_download(client, "imgs", "k", fd, &transfer, NULL, &err);
    assert_request_has(1, "HEAD /imgs/k ");
    assert_request_has(2, "\r\nrange: bytes=0-4\r\n");
    end();
    close(fd);
}

static void download_ends_at_once_when_a_part_has_failed(void **state)
{
    const struct fault_step steps[] = {
        {.text = LENGTH("10")},
        {.text = NULL, .then = FAULT_HOLD},
        {.text = FAULT("403", "", "AccessDenied", ""), .then = FAULT_CLOSE}};
    const struct s3_transfer transfer = {.threads = 2, .part_bytes = 5};
    const int fd = memfd_create("object", MFD_CLOEXEC);
    double begun;

    (void)state;
    BEGIN(steps);
    client->stall_s = 10;
    begun = clock_now_s();
    assert_int_equal(s3_object_download(client, "imgs", "k", fd, &transfer, NULL, &err), -1);
    assert_true(clock_now_s() - begun < 3);
    assert_int_equal(err.code, ERR_INPUT);
    assert_says("AccessDenied");
    end();
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(head_asks_by_get_why_it_failed),
        cmocka_unit_test(head_takes_no_answer_without_a_length_for_an_empty_object),
        cmocka_unit_test(put_knows_whether_a_condition_held_after_a_lost_answer),
        cmocka_unit_test(put_says_at_once_that_a_condition_did_not_hold),
        cmocka_unit_test(put_asks_for_encryption_where_it_is_configured),
        cmocka_unit_test(object_takes_a_success_without_anything_for_no_answer),
        cmocka_unit_test(object_asks_twice_before_a_listed_object_is_empty),
        cmocka_unit_test(download_ends_at_once_when_a_part_has_failed),
    };

    return cmocka_run_group_tests_name("s3io/object", tests, place_setup, place_teardown);
}
