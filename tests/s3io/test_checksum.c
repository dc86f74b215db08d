/* tests/s3io/test_checksum.c -- CRC-32C that the server says or checks, and those it must not be
 * compared with. */
#include "s3io/checksum.h"

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
#include "bed.h"
#include "place.h"
#include "s3io/object.h"
#include "s3io/request.h"

#define MIB       ((size_t)1 << 20)
#define HELLO_CRC "mnG7TA==" /* the CRC-32C of "hello" */
#define GET(headers, body)                                                                         \
    {                                                                                              \
        .text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\n" headers "Content-Length: 5\r\n\r\n" body      \
    }
#define CRC(value) "x-amz-checksum-crc32c: " value "\r\n"

static void begin_patiently(const struct fault_step *steps, size_t count)
{
    bed_begin(steps, count);
    bed_client->stall_s = 5;
    bed_client->config.attempts = 2;
}
#define BEGIN_PATIENTLY(steps) begin_patiently(steps, sizeof(steps) / sizeof *(steps))

static int load(struct buf *out)
{
    out->bytes = 0;
    return s3_object_load(bed_client, "imgs", "k", 100, out, NULL, &bed_err);
}

static void checksum_is_read_and_printed_as_s3_writes_it(void **state)
{
    static const char *const bad[] = {"", "mnG7TA=", "mnG7TA==-2", "mnG7TAAA", "mnG7T!=="};
    char text[S3_CHECKSUM_CHARS];
    uint32_t crc32c = 0;

    (void)state;
    s3_checksum_print(0x9a71bb4c, text);
    assert_string_equal(text, HELLO_CRC);
    assert_true(s3_checksum_parse(HELLO_CRC, &crc32c));
    assert_int_equal(crc32c, 0x9a71bb4c);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(s3_checksum_parse(bad[i], &crc32c));
}

static void checksum_that_differs_is_read_again_and_then_an_error(void **state)
{
    const struct fault_step mended[] = {GET(CRC(HELLO_CRC), "jello"), GET(CRC(HELLO_CRC), "hello")};
    const struct fault_step never[] = {GET(CRC(HELLO_CRC), "jello")};
    struct buf out = {0};

    (void)state;
    BEGIN_PATIENTLY(mended);
    assert_int_equal(load(&out), S3_YES);
    assert_string_equal(buf_text(&out), "hello");
    assert_request_has(0, "\r\nx-amz-checksum-mode: ENABLED\r\n");
    bed_end_after(2);
    BEGIN_PATIENTLY(never);
    assert_int_equal(load(&out), -1);
    assert_int_equal(bed_err.code, ERR_NET);
    assert_non_null(strstr(bed_err.msg, "the object 9a71bb4c"));
    assert_int_equal(out.bytes, 0);
    bed_end_after(3);
    buf_release(&out);
}

static void checksum_of_all_of_an_object_is_compared_by_read(void **state)
{
    const struct fault_step steps[] = {
        GET(CRC(HELLO_CRC), "jello"),
        GET(CRC(HELLO_CRC), "hello"),
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\n" CRC(HELLO_CRC) "Content-Length: 5\r\n\r\nje",
         .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes 2-4/5\r\n"
                 "Content-Length: 3\r\n\r\nllo"},
        GET(CRC(HELLO_CRC), "hello"),
        GET(CRC(HELLO_CRC), "jello")};
    const struct s3_get get = {.bucket = "imgs", .key = "k", .bytes = 5, .object_bytes = 5};
    char out[6] = "";

    (void)state;
    BEGIN_PATIENTLY(steps);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(s3_object_read(bed_client, &get, out, NULL, &bed_err), S3_YES);
        assert_string_equal(out, "hello");
    }
    assert_int_equal(s3_object_read(bed_client, &get, out, NULL, &bed_err), -1);
    assert_int_equal(bed_err.code, ERR_NET);
    assert_non_null(strstr(bed_err.msg, "'s3://imgs/k'"));
    assert_non_null(strstr(bed_err.msg, "the object 9a71bb4c"));
    bed_end_after(8);
}

static void checksum_of_parts_is_never_compared_with_the_whole(void **state)
{
    const struct fault_step steps[] = {
        GET(CRC("AAAAAA==-2"), "hello"),
        GET(CRC("AAAAAA==") "x-amz-checksum-type: COMPOSITE\r\n", "hello"),
        GET("ETag: \"0123-2\"\r\n", "hello")};
    struct buf out = {0};

    (void)state;
    BEGIN_PATIENTLY(steps);
    for (int i = 0; i < 3; i++)
        assert_int_equal(load(&out), S3_YES);
    bed_end_after(3);
    buf_release(&out);
}

static void checksum_of_a_body_in_two_pieces_is_the_wholes(void **state)
{
    const struct fault_step steps[] = {
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\n" CRC(HELLO_CRC) "Content-Length: 5\r\n\r\nhe",
         .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 206 OK\r\nETag: \"e\"\r\n" CRC("AAAAAA==") /* of the range, maybe */
         "Content-Range: bytes 2-4/5\r\nContent-Length: 3\r\n\r\nllo"}};
    struct buf out = {0};

    (void)state;
    BEGIN_PATIENTLY(steps);
    assert_int_equal(load(&out), S3_YES);
    assert_string_equal(buf_text(&out), "hello");
    bed_end_after(2);
    buf_release(&out);
}

#define RANGE(first, last, body)                                                                   \
    {                                                                                              \
        .text = "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes " first "-" last           \
                "/5\r\nContent-Length: " body                                                      \
    }
#define HEAD                                                                                       \
    {                                                                                              \
        .text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\n" CRC(HELLO_CRC) "Content-Length: 5\r\n\r\n"    \
    }

static void checksum_of_a_download_in_parts_is_compared(void **state)
{
    const struct fault_step steps[] = {
        HEAD, RANGE("0", "2", "3\r\n\r\njel"), RANGE("3", "4", "2\r\n\r\nlo"),
        RANGE("0", "2", "3\r\n\r\nhel"), RANGE("3", "4", "2\r\n\r\nlo")};
    const struct s3_transfer transfer = {.threads = 1, .part_bytes = 3};
    const int fd = memfd_create("object", MFD_CLOEXEC);
    char out[6] = "";

    (void)state;
    BEGIN_PATIENTLY(steps);
    assert_int_equal(s3_object_download(bed_client, "imgs", "k", fd, &transfer, NULL, &bed_err),
                     S3_YES);
    assert_int_equal(pread(fd, out, 5, 0), 5);
    assert_string_equal(out, "hello");
    assert_request_has(0, "\r\nx-amz-checksum-mode: ENABLED\r\n");
    close(fd);
    bed_end_after(5);
}

#define CREATED(headers)                                                                           \
    {                                                                                              \
        .text = "HTTP/1.1 200 OK\r\n" headers                                                      \
                "Connection: close\r\n\r\n<InitiateMultipartUploadResult><UploadId>u"              \
                "</UploadId></InitiateMultipartUploadResult>",                                     \
        .then = FAULT_CLOSE                                                                        \
    }
#define PART                                                                                       \
    {                                                                                              \
        .text = "HTTP/1.1 200 OK\r\nETag: \"p\"\r\nContent-Length: 0\r\n\r\n"                      \
    }
#define COMPLETED                                                                                  \
    {                                                                                              \
        .text = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<CompleteMultipartUploadResult>"      \
                "<ETag>c</ETag></CompleteMultipartUploadResult>",                                  \
        .then = FAULT_CLOSE                                                                        \
    }

/* 10 MiB of zeros in two parts. */
static int upload(void)
{
    const struct s3_put put = {.bucket = "imgs", .key = "k", .bytes = 10 * MIB};
    const struct s3_transfer transfer = {.threads = 1, .part_bytes = 5 * MIB};
    const int fd = memfd_create("object", MFD_CLOEXEC);
    int rc;

    assert_int_equal(ftruncate(fd, 10 * MIB), 0);
    rc = s3_object_upload(bed_client, &put, fd, &transfer, NULL, &bed_err);
    close(fd);
    return rc;
}

#define PART_CRC  "zqsFQg=="
#define WHOLE_CRC "CPJwmw=="

static void checksum_goes_with_each_part_where_the_server_understands_it(void **state)
{
    const struct fault_step steps[] = {
        CREATED("x-amz-checksum-algorithm: CRC32C\r\nx-amz-checksum-type: FULL_OBJECT\r\n"), PART,
        PART, COMPLETED};

    (void)state;
    BEGIN_PATIENTLY(steps);
    assert_int_equal(upload(), S3_YES);
    assert_request_has(0, "\r\nx-amz-checksum-algorithm: CRC32C\r\n");
    for (int i = 1; i <= 2; i++) {
        assert_request_has(i, "\r\nx-amz-checksum-crc32c: " PART_CRC "\r\n");
        /* in clear text anybody on the way could change both */
        assert_null(strcasestr(faults_request(bed_faults, i), "UNSIGNED-PAYLOAD"));
    }
    assert_request_has(3, "<ChecksumCRC32C>" PART_CRC "</ChecksumCRC32C></Part>");
    assert_request_has(3, "\r\nx-amz-checksum-crc32c: " WHOLE_CRC "\r\n");
    bed_end_after(4);
}

/* As all did before AWS had it of whole objects. */
static void checksum_of_the_whole_is_left_out_where_the_server_knows_those_of_parts(void **state)
{
    const struct fault_step silent[] = {CREATED("x-amz-checksum-algorithm: CRC32C\r\n"), PART, PART,
                                        COMPLETED};
    const struct fault_step composite[] = {
        CREATED("x-amz-checksum-algorithm: CRC32C\r\nx-amz-checksum-type: COMPOSITE\r\n"), PART,
        PART, COMPLETED};

    (void)state;
    for (int i = 0; i < 2; i++) {
        if (i == 0)
            BEGIN_PATIENTLY(silent);
        else
            BEGIN_PATIENTLY(composite);
        assert_int_equal(upload(), S3_YES);
        assert_request_has(1, "\r\nx-amz-checksum-crc32c: " PART_CRC "\r\n");
        assert_request_has(3, "<ChecksumCRC32C>" PART_CRC "</ChecksumCRC32C></Part>");
        assert_null(strcasestr(faults_request(bed_faults, 3), "x-amz-checksum-"));
        bed_end_after(4);
    }
}

static void checksum_is_left_out_where_the_server_does_not_know_it(void **state)
{
    const struct fault_step silent[] = {CREATED(""), PART, PART, COMPLETED};
    const struct fault_step refusing[] = {
        {.text = "HTTP/1.1 400 x\r\nConnection: close\r\n\r\n<Error><Code>InvalidArgument</Code>"
                 "</Error>",
         .then = FAULT_CLOSE},
        CREATED(""),
        PART,
        PART,
        COMPLETED};

    (void)state;
    BEGIN_PATIENTLY(silent);
    assert_int_equal(upload(), S3_YES);
    assert_null(strcasestr(faults_request(bed_faults, 1), "x-amz-checksum"));
    assert_null(strcasestr(faults_request(bed_faults, 1), "UNSIGNED-PAYLOAD"));
    assert_null(strcasestr(faults_request(bed_faults, 3), "ChecksumCRC32C"));
    bed_end_after(4);
    BEGIN_PATIENTLY(refusing);
    assert_int_equal(upload(), S3_YES);
    assert_null(strcasestr(faults_request(bed_faults, 1), "x-amz-checksum"));
    bed_end_after(5);
}

static void checksum_is_neither_sent_nor_asked_for_where_it_is_not_required(void **state)
{
    const struct fault_step up[] = {CREATED(""), PART, PART, COMPLETED};
    const struct fault_step down[] = {GET("", "hello"), HEAD};
    struct buf out = {0};

    (void)state;
    setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required", 1);
    setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required", 1);
    setenv("AWS_SDK_UA_APP_ID", "nightly", 1);
    BEGIN_PATIENTLY(up);
    assert_int_equal(upload(), S3_YES);
    for (int i = 0; i < 4; i++) {
        assert_null(strcasestr(faults_request(bed_faults, i), "checksum"));
        assert_request_has(i, "\r\nuser-agent: convoy/");
        assert_request_has(i, " app/nightly\r\n");
    }
    bed_end_after(4);
    BEGIN_PATIENTLY(down);
    assert_int_equal(load(&out), S3_YES);
    assert_int_equal(
        s3_object_head_crc32c(bed_client, "imgs", "k", &(struct s3_object){0}, &bed_err), S3_YES);
    for (int i = 0; i < 2; i++)
        assert_null(strcasestr(faults_request(bed_faults, i), "checksum"));
    bed_end_after(2);
    unsetenv("AWS_REQUEST_CHECKSUM_CALCULATION");
    unsetenv("AWS_RESPONSE_CHECKSUM_VALIDATION");
    unsetenv("AWS_SDK_UA_APP_ID");
    buf_release(&out);
}

static void checksum_takes_the_place_of_the_payloads_hash_where_that_is_asked_for(void **state)
{
    const struct fault_step steps[] = {PART};
    const struct s3_request request = {.method = "PUT",
                                       .bucket = "imgs",
                                       .key = "k",
                                       .body = "hello",
                                       .body_bytes = 5,
                                       .unsigned_body = true};
    struct s3_tries tries = {0};

    (void)state;
    BEGIN_PATIENTLY(steps);
    assert_int_equal(s3_request_send(bed_client, &request, &tries, &bed_err), 200);
    assert_request_has(0, "\r\nx-amz-content-sha256: UNSIGNED-PAYLOAD\r\n");
    s3_tries_release(&tries);
    bed_end_after(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checksum_is_read_and_printed_as_s3_writes_it),
        cmocka_unit_test(checksum_that_differs_is_read_again_and_then_an_error),
        cmocka_unit_test(checksum_of_all_of_an_object_is_compared_by_read),
        cmocka_unit_test(checksum_of_parts_is_never_compared_with_the_whole),
        cmocka_unit_test(checksum_of_a_body_in_two_pieces_is_the_wholes),
        cmocka_unit_test(checksum_of_a_download_in_parts_is_compared),
        cmocka_unit_test(checksum_goes_with_each_part_where_the_server_understands_it),
        cmocka_unit_test(checksum_of_the_whole_is_left_out_where_the_server_knows_those_of_parts),
        cmocka_unit_test(checksum_is_left_out_where_the_server_does_not_know_it),
        cmocka_unit_test(checksum_is_neither_sent_nor_asked_for_where_it_is_not_required),
        cmocka_unit_test(checksum_takes_the_place_of_the_payloads_hash_where_that_is_asked_for),
    };

    return cmocka_run_group_tests_name("s3io/checksum", tests, place_setup, place_teardown);
}
