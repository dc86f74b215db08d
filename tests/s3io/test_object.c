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
#include "bed.h"
#include "place.h"

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
    assert_int_equal(s3_object_head(bed_client, "imgs", "k", NULL, &bed_err), S3_NO);
    assert_request_has(0, "HEAD /imgs/k ");
    assert_request_has(1, "GET /imgs/k ");
    assert_int_equal(s3_object_head(bed_client, "imgs", "k", NULL, &bed_err), S3_NO);
    assert_int_equal(faults_requests(bed_faults), 3);
    assert_int_equal(s3_object_head(bed_client, "imgs", "k", NULL, &bed_err), -1);
    assert_says("s3:GetObject");
    assert_int_equal(s3_object_head(bed_client, "other", "k", NULL, &bed_err), -1);
    assert_says("no bucket 'other'");
    assert_int_equal(s3_object_head(bed_client, "third", "k", &object, &bed_err), S3_YES);
    assert_int_equal(object.bytes, 7);
    assert_true(object.modified_s == 1893456010);
    bed_end();
}

static void head_takes_no_answer_without_a_length_for_an_empty_object(void **state)
{
    const struct fault_step steps[] = {{.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\n\r\n"}};

    (void)state;
    BEGIN(steps);
    assert_int_equal(s3_object_head(bed_client, "imgs", "k", NULL, &bed_err), -1);
    assert_says("how long");
    bed_end();
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
        bed_end();
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
        assert_int_equal(faults_requests(bed_faults), 1);
        assert_int_equal(put_hello(false), -1); /* it had no condition */
        assert_int_equal(bed_err.code, ERR_INPUT);
        bed_end();
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
    bed_end();
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
    assert_int_equal(s3_object_load(bed_client, "imgs", "k", 20, &out, NULL, &bed_err), S3_YES);
    assert_string_equal(buf_text(&out), "hello");
    bed_end();
    BEGIN(head);
    assert_int_equal(s3_object_head(bed_client, "imgs", "k", &object, &bed_err), S3_YES);
    assert_int_equal(object.bytes, 5);
    bed_end();
    BEGIN(put);
    assert_int_equal(put_hello(false), S3_YES);
    assert_int_equal(faults_requests(bed_faults), 2);
    bed_end();
    BEGIN(range);
    assert_int_equal(read_hello(), S3_YES);
    bed_end();
    buf_release(&out);
}

/* The listing said that it has bytes: one answer without any is not believed. */
static void object_asks_twice_before_a_listed_object_is_empty(void **state)
{
    const struct fault_step steps[] = {{.text = OK}, {.text = WHOLE}, {.text = RANGE("hello")}};
    const struct fault_step empty[] = {{.text = OK}, {.text = OK}};
    const struct s3_transfer transfer = {.threads = 1, .bytes_likely = 5};
    const int fd = memfd_create("object", MFD_CLOEXEC);
    char out[8] = "";

    (void)state;
    BEGIN(empty);
    assert_int_equal(s3_object_download(bed_client, "imgs", "k", fd, &transfer, NULL, &bed_err),
                     S3_YES);
    assert_int_equal(lseek(fd, 0, SEEK_END), 0);
    bed_end();
    BEGIN(steps);
    assert_int_equal(s3_object_download(bed_client, "imgs", "k", fd, &transfer, NULL, &bed_err),
                     S3_YES);
    assert_int_equal(pread(fd, out, sizeof out, 0), 5);
    assert_string_equal(out, "hello");
    assert_request_has(1, "HEAD /imgs/k ");
    assert_request_has(2, "\r\nrange: bytes=0-4\r\n");
    bed_end();
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
    bed_client->stall_s = 10;
    begun = clock_now_s();
    assert_int_equal(s3_object_download(bed_client, "imgs", "k", fd, &transfer, NULL, &bed_err),
                     -1);
    assert_true(clock_now_s() - begun < 3);
    assert_int_equal(bed_err.code, ERR_INPUT);
    assert_says("AccessDenied");
    bed_end();
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
