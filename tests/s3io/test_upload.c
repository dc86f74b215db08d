/* tests/s3io/test_upload.c -- multipart uploads and downloads in parts when things go wrong. */
#include "s3io/object.h"

#include <setjmp.h>
#include <signal.h>
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
#include "s3io/put.h"
#include "s3io/request.h"

#define MIB         ((size_t)1 << 20)
#define BYTES       (11 * MIB) /* parts of 5, 5 and 1 MiB */
#define ERROR(code) "<Error><Code>" code "</Code><RequestId>7QX2</RequestId></Error>"
#define CREATED                                                                                    \
    "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<InitiateMultipartUploadResult><UploadId>u/1"     \
    "</UploadId></InitiateMultipartUploadResult>"
#define COMPLETED                                                                                  \
    "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n   "                                              \
    "<CompleteMultipartUploadResult><ETag>&quot;c-3"                                               \
    "&quot;</ETag></CompleteMultipartUploadResult>"
#define PART(n)                                                                                    \
    {                                                                                              \
        .text = "HTTP/1.1 200 OK\r\nETag: \"" n "\"\r\nContent-Length: 0\r\n\r\n"                  \
    }
#define NO_CONTENT                                                                                 \
    {                                                                                              \
        .text = "HTTP/1.1 204 No Content\r\n\r\n"                                                  \
    }
/* What comes before the request to complete. */
#define PARTS_SENT {.text = CREATED, .then = FAULT_CLOSE}, PART("p1"), PART("p2"), PART("p3")

static int fd;

static void begin_upload(const struct fault_step *steps, size_t count)
{
    bed_begin(steps, count);
    bed_client->stall_s = 5;
    bed_client->config.attempts = 2;
    fd = memfd_create("object", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, BYTES), 0);
}
#define BEGIN_UPLOAD(steps) begin_upload(steps, sizeof(steps) / sizeof *(steps))

static void end_upload(void)
{
    close(fd);
    bed_end();
}

static int upload(bool if_none, struct s3_object *object)
{
    const struct s3_put put = {.bucket = "imgs", .key = "k", .bytes = BYTES, .if_none = if_none};
    const struct s3_transfer transfer = {.threads = 1, .part_bytes = 5 * MIB};

    return s3_object_upload(bed_client, &put, fd, &transfer, object, &bed_err);
}

/* The answer to HEAD of an object that this upload made: it has the name that request 0 gave it. */
static void head_of_ours(struct faults *server, struct buf *out)
{
    const char *name = strcasestr(faults_request(server, 0), "x-amz-meta-convoy-upload: ");

    assert_non_null(name);
    buf_printf(out, "HTTP/1.1 200 OK\r\nETag: \"c-3\"\r\nContent-Length: %zu\r\n%.*s\r\n\r\n",
               BYTES, (int)strcspn(name, "\r"), name);
}

static void upload_sends_parts_in_order_and_completes(void **state)
{
    const struct fault_step steps[] = {PARTS_SENT, {.text = COMPLETED, .then = FAULT_CLOSE}};
    struct s3_object object;

    (void)state;
    setenv("CONVOY_SSE_KMS_KEY_ID", "key-7", 1);
    BEGIN_UPLOAD(steps);
    unsetenv("CONVOY_SSE_KMS_KEY_ID");
    assert_int_equal(upload(false, &object), S3_YES);
    assert_string_equal(object.etag, "\"c-3\"");
    assert_int_equal(object.bytes, BYTES);
    assert_request_has(0, "\r\nx-amz-server-side-encryption-aws-kms-key-id: key-7\r\n");
    assert_request_has(0, "POST /imgs/k?uploads= ");
    assert_request_has(1, "PUT /imgs/k?partNumber=1&uploadId=u%2F1 ");
    assert_request_has(1, "\r\nContent-Length: 5242880\r\n");
    assert_request_has(3, "\r\nContent-Length: 1048576\r\n");
    assert_request_has(4, "POST /imgs/k?uploadId=u%2F1 ");
    assert_request_has(4, "<Part><PartNumber>3</PartNumber><ETag>&#34;p3&#34;</ETag></Part>"
                          "</CompleteMultipartUpload>");
    assert_int_equal(faults_requests(bed_faults), 5);
    end_upload();
}

/* A part's SHA-256 is the dearest thing in an upload, and its checksum is enough in a tunnel. */
static void upload_signs_no_body_that_has_a_checksum_and_goes_by_https(void **state)
{
    static const struct {
        const char *endpoint;
        bool checksum, is_unsigned;
    } cases[] = {{NULL, true, true},
                 {NULL, false, false},
                 {"https://s3.lab", true, true},
                 {"https://s3.lab", false, false},
                 {"http://s3.lab", true, false},
                 {"http://s3.lab", false, false}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct s3_config config = {.endpoint = (char *)cases[i].endpoint};

        assert_int_equal(s3_put_is_unsigned(&config, cases[i].checksum), cases[i].is_unsigned);
    }
}

static void upload_tries_a_part_again(void **state)
{
    const struct fault_step steps[] = {{.text = CREATED, .then = FAULT_CLOSE},
                                       {.text = "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n",
                                        .then = FAULT_CLOSE,
                                        .at_headers = true}, /* before the body is there */
                                       PART("p1"),
                                       {.text = NULL, .then = FAULT_RESET},
                                       PART("p2"),
                                       PART("p3"),
                                       {.text = COMPLETED, .then = FAULT_CLOSE}};

    (void)state;
    BEGIN_UPLOAD(steps);
    assert_int_equal(upload(false, NULL), S3_YES);
    assert_request_has(2, "partNumber=1&");
    assert_request_has(4, "partNumber=2&");
    end_upload();
}

static void upload_takes_no_success_with_an_error_inside(void **state)
{
    const struct fault_step mended[] = {
        PARTS_SENT,
        {.text = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n " ERROR("InternalError"),
         .then = FAULT_CLOSE},
        {.text = COMPLETED, .then = FAULT_CLOSE}};
    const struct fault_step fatal[] = {
        PARTS_SENT,
        {.text = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n " ERROR("InvalidPart"),
         .then = FAULT_CLOSE},
        NO_CONTENT};

    (void)state;
    BEGIN_UPLOAD(mended);
    assert_int_equal(upload(false, NULL), S3_YES);
    assert_int_equal(faults_requests(bed_faults), 6);
    end_upload();
    BEGIN_UPLOAD(fatal);
    assert_int_equal(upload(false, NULL), -1);
    assert_says("InvalidPart (request 7QX2)");
    assert_says("s3://imgs/k");
    assert_int_equal(faults_requests(bed_faults), 6);
    assert_request_has(5, "DELETE /imgs/k?uploadId=u%2F1 ");
    end_upload();
}

/* Codes that callers have a use for, elsewhere. */
static void upload_takes_no_success_with_no_such_upload_inside(void **state)
{
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" ERROR("NoSuchUpload"),
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" ERROR("NoSuchKey")};

    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        const struct fault_step steps[] = {
            PARTS_SENT,
            {.text = answers[i], .then = FAULT_CLOSE},
            /* an older object at the key, were anybody to ask for it */
            {.text = "HTTP/1.1 200 OK\r\nETag: \"old\"\r\nContent-Length: 0\r\n\r\n"}};

        BEGIN_UPLOAD(steps);
        assert_int_equal(upload(false, NULL), -1);
        assert_says("NoSuch");
        assert_says("(request 7QX2)");
        assert_int_equal(faults_requests(bed_faults), 6);
        assert_request_has(5, "DELETE /imgs/k?uploadId=u%2F1 ");
        end_upload();
    }
}

#define COMPLETED_BARE                                                                             \
    {                                                                                              \
        .text = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<CompleteMultipartUploadResult>"      \
                "<ETag></ETag></CompleteMultipartUploadResult>",                                   \
        .then = FAULT_CLOSE                                                                        \
    }

static void upload_asks_for_an_etag_that_is_left_out(void **state)
{
    const struct fault_step there[] = {PARTS_SENT, COMPLETED_BARE, {.make = head_of_ours}};
    const struct fault_step nowhere[] = {
        PARTS_SENT, COMPLETED_BARE, {.text = "HTTP/1.1 404 x\r\n\r\n"}, NO_CONTENT};
    const struct fault_step secret[] = {
        PARTS_SENT,
        COMPLETED_BARE,
        {.text = "HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n"},
        {.text = "HTTP/1.1 403 x\r\nConnection: close\r\n\r\n" ERROR("AccessDenied"),
         .then = FAULT_CLOSE}};
    struct s3_object object;

    (void)state;
    BEGIN_UPLOAD(there);
    assert_int_equal(upload(false, &object), S3_YES);
    assert_string_equal(object.etag, "\"c-3\"");
    assert_request_has(5, "HEAD /imgs/k ");
    end_upload();
    BEGIN_UPLOAD(secret);
    assert_int_equal(upload(false, &object), S3_YES);
    assert_string_equal(object.etag, "");
    assert_int_equal(object.bytes, BYTES);
    assert_int_equal(faults_requests(bed_faults), 7); /* HEAD, and the GET that asks why */
    end_upload();
    BEGIN_UPLOAD(nowhere);
    assert_int_equal(upload(false, NULL), -1);
    assert_says("there is no such object");
    assert_request_has(6, "DELETE /imgs/k?uploadId=u%2F1 ");
    end_upload();
}

static void upload_looks_what_is_there_when_the_last_answer_was_lost(void **state)
{
    const struct fault_step ours[] = {
        PARTS_SENT,
        {.text = NULL, .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 404 x\r\nConnection: close\r\n\r\n" ERROR("NoSuchUpload"),
         .then = FAULT_CLOSE},
        {.make = head_of_ours}};
    const struct fault_step never[] = {
        PARTS_SENT,
        {.text = "HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n", .then = FAULT_CLOSE},
        {.text = NULL, .then = FAULT_CLOSE}, /* and no attempt is left */
        {.make = head_of_ours}};
    const struct fault_step others[] = {
        PARTS_SENT,
        {.text = NULL, .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 404 x\r\nConnection: close\r\n\r\n" ERROR("NoSuchUpload"),
         .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 200 OK\r\nETag: \"c-3\"\r\nContent-Length: 11534336\r\n"
                 "x-amz-meta-convoy-upload: another\r\n\r\n"},
        NO_CONTENT};
    const struct fault_step made_up[] = {
        PARTS_SENT,
        {.text = NULL, .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 404 x\r\nConnection: close\r\n\r\n" ERROR("NoSuchUpload"),
         .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}, /* by no S3: it has no ETag */
        {.make = head_of_ours}};
    struct s3_object object;

    (void)state;
    BEGIN_UPLOAD(ours);
    assert_int_equal(upload(false, &object), S3_YES);
    assert_string_equal(object.etag, "\"c-3\"");
    assert_int_equal(faults_requests(bed_faults), 7);
    end_upload();
    BEGIN_UPLOAD(made_up);
    assert_int_equal(upload(false, &object), S3_YES);
    assert_int_equal(faults_requests(bed_faults), 8);
    end_upload();
    BEGIN_UPLOAD(never);
    assert_int_equal(upload(false, &object), S3_YES);
    assert_request_has(6, "HEAD /imgs/k ");
    end_upload();
    BEGIN_UPLOAD(others);
    assert_int_equal(upload(false, &object), -1);
    assert_says("NoSuchUpload");
    end_upload();
}

#define BUSY                                                                                       \
    {                                                                                              \
        .text = "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n"                                      \
    }

/* And nobody can look: neither is it there, nor is it not. */
static void upload_does_not_know_whether_it_is_complete_where_nobody_can_look(void **state)
{
    static const struct {
        const char *again; /* the answer to the second request to complete */
        bool if_none;
    } cases[] = {{"HTTP/1.1 404 x\r\nConnection: close\r\n\r\n" ERROR("NoSuchUpload"), false},
                 {"HTTP/1.1 412 x\r\nConnection: close\r\n\r\n" ERROR("PreconditionFailed"), true},
                 {"HTTP/1.1 503 x\r\nConnection: close\r\n\r\n" ERROR("SlowDown"), false}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct fault_step steps[] = {PARTS_SENT,
                                           {.text = NULL, .then = FAULT_CLOSE},
                                           {.text = cases[i].again, .then = FAULT_CLOSE},
                                           BUSY,
                                           BUSY,
                                           NO_CONTENT};
        const struct fault_step conditional[] = {PARTS_SENT,
                                                 {.text = "HTTP/1.1 404 x\r\n\r\n"},
                                                 {.text = NULL, .then = FAULT_CLOSE},
                                                 {.text = cases[i].again, .then = FAULT_CLOSE},
                                                 BUSY,
                                                 BUSY,
                                                 NO_CONTENT};

        if (cases[i].if_none)
            BEGIN_UPLOAD(conditional);
        else
            BEGIN_UPLOAD(steps);
        assert_int_equal(upload(cases[i].if_none, NULL), -1);
        assert_int_equal(bed_err.code, ERR_NET);
        assert_says("whether it is complete is not known");
        assert_says("503");
        end_upload();
    }
}

static void upload_ends_with_its_condition(void **state)
{
    const struct fault_step held[] = {PARTS_SENT,
                                      {.text = "HTTP/1.1 404 x\r\n\r\n"},
                                      {.text = "HTTP/1.1 412 x\r\nContent-Length: 0\r\n\r\n"},
                                      NO_CONTENT};
    const struct fault_step seen[] = {
        PARTS_SENT,
        {.text = "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 3\r\n\r\n"},
        NO_CONTENT};

    (void)state;
    BEGIN_UPLOAD(held); /* the server sees somebody else's object */
    assert_int_equal(upload(true, NULL), S3_NO);
    assert_request_has(5, "\r\nif-none-match: *\r\n");
    assert_request_has(6, "DELETE /imgs/k?uploadId=");
    end_upload();
    BEGIN_UPLOAD(seen); /* we do, where the server does not look */
    assert_int_equal(upload(true, NULL), S3_NO);
    assert_request_has(5, "DELETE /imgs/k?uploadId=");
    end_upload();
}

static void upload_is_aborted_when_a_part_fails(void **state)
{
    const struct fault_step steps[] = {
        {.text = CREATED, .then = FAULT_CLOSE},
        PART("p1"),
        {.text = "HTTP/1.1 403 x\r\nConnection: close\r\n\r\n" ERROR("AccessDenied"),
         .then = FAULT_CLOSE},
        NO_CONTENT};

    (void)state;
    BEGIN_UPLOAD(steps);
    assert_int_equal(upload(false, NULL), -1);
    assert_int_equal(bed_err.code, ERR_INPUT);
    assert_says("s3:PutObject on bucket 'imgs'");
    assert_int_equal(faults_requests(bed_faults), 4); /* the third part was not begun */
    assert_request_has(3, "DELETE /imgs/k?uploadId=u%2F1 ");
    end_upload();
}

static void cancel_now(void *context, uint64_t done, uint64_t total)
{
    (void)context, (void)done, (void)total;
    bed_cancel = 1;
}

static void upload_is_aborted_when_cancelled(void **state)
{
    const struct fault_step steps[] = {
        {.text = CREATED, .then = FAULT_CLOSE}, PART("p1"), NO_CONTENT};
    const struct s3_put put = {.bucket = "imgs", .key = "k", .bytes = BYTES};
    const struct s3_transfer transfer = {
        .threads = 1, .part_bytes = 5 * MIB, .progress = cancel_now};

    (void)state;
    BEGIN_UPLOAD(steps);
    assert_int_equal(s3_object_upload(bed_client, &put, fd, &transfer, NULL, &bed_err), -1);
    assert_int_equal(bed_err.code, ERR_STOPPED);
    assert_int_equal(faults_requests(bed_faults), 3);
    assert_request_has(2, "DELETE /imgs/k?uploadId=u%2F1 ");
    end_upload();
}

static void cancel_in_mid_answer(struct faults *server, struct buf *out)
{
    (void)server, (void)out;
    bed_cancel = 1;
}

/* It may have been too late. */
static void upload_looks_what_is_there_when_cancelled_while_it_completes(void **state)
{
    const struct fault_step there[] = {
        PARTS_SENT, {.make = cancel_in_mid_answer, .then = FAULT_HOLD}, {.make = head_of_ours}};
    const struct fault_step not_there[] = {PARTS_SENT,
                                           {.make = cancel_in_mid_answer, .then = FAULT_HOLD},
                                           {.text = "HTTP/1.1 404 x\r\n\r\n"},
                                           NO_CONTENT};

    (void)state;
    BEGIN_UPLOAD(there);
    assert_int_equal(upload(false, NULL), S3_YES);
    assert_request_has(5, "HEAD /imgs/k ");
    assert_int_equal(faults_requests(bed_faults), 6);
    end_upload();
    BEGIN_UPLOAD(not_there);
    assert_int_equal(upload(false, NULL), -1);
    assert_int_equal(bed_err.code, ERR_STOPPED);
    assert_request_has(6, "DELETE /imgs/k?uploadId=u%2F1 ");
    end_upload();
}

static void upload_above_what_one_request_takes_has_parts_whatever_their_length(void **state)
{
    const struct fault_step steps[] = {
        {.text = "HTTP/1.1 403 x\r\nConnection: close\r\n\r\n" ERROR("AccessDenied"),
         .then = FAULT_CLOSE}};
    const struct s3_put put = {.bucket = "imgs", .key = "k", .bytes = 5500 * MIB};
    const struct s3_transfer transfer = {.threads = 1, .part_bytes = 3000 * MIB};

    (void)state;
    BEGIN_UPLOAD(steps);
    assert_int_equal(s3_object_upload(bed_client, &put, fd, &transfer, NULL, &bed_err), -1);
    assert_request_has(0, "POST /imgs/k?uploads= ");
    end_upload();
}

/* An upload without parts costs nothing, and nobody can tell whose it is: it is left alone. */
static void upload_is_created_again_when_the_answer_was_lost(void **state)
{
    const struct fault_step steps[] = {
        {.text = NULL, .then = FAULT_CLOSE}, PARTS_SENT, {.text = COMPLETED, .then = FAULT_CLOSE}};

    (void)state;
    BEGIN_UPLOAD(steps);
    assert_int_equal(upload(false, NULL), S3_YES);
    assert_request_has(1, "POST /imgs/k?uploads= ");
    assert_request_has(2, "uploadId=u%2F1 ");
    assert_int_equal(faults_requests(bed_faults), 6);
    end_upload();
}

static void upload_says_that_the_file_is_too_short(void **state)
{
    const struct fault_step steps[] = {
        {.text = CREATED, .then = FAULT_CLOSE}, PART("p1"), NO_CONTENT};

    (void)state;
    BEGIN_UPLOAD(steps);
    assert_int_equal(ftruncate(fd, 6 * MIB), 0);
    assert_int_equal(upload(false, NULL), -1);
    assert_int_equal(bed_err.code, ERR_IO);
    assert_says("ends at byte 6291456");
    assert_request_has(2, "DELETE ");
    end_upload();
}

static void download_ends_when_the_object_is_replaced_or_deleted(void **state)
{
    static const char *const answers[] = {
        "HTTP/1.1 412 x\r\nConnection: close\r\n\r\n" ERROR("PreconditionFailed"),
        "HTTP/1.1 404 x\r\nConnection: close\r\n\r\n" ERROR("NoSuchKey")};
    static const char *const says[] = {"replaced while", "deleted while"};
    const struct s3_transfer transfer = {.threads = 1, .part_bytes = 3};

    (void)state;
    for (int i = 0; i < 2; i++) {
        const struct fault_step steps[] = {
            {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 5\r\n\r\n"},
            {.text = "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes 0-2/5\r\n"
                     "Content-Length: 3\r\n\r\nhel"},
            {.text = answers[i], .then = FAULT_CLOSE}};

        BEGIN_UPLOAD(steps);
        assert_int_equal(s3_object_download(bed_client, "imgs", "k", fd, &transfer, NULL, &bed_err),
                         -1);
        assert_says(says[i]);
        assert_request_has(1, "\r\nif-match: \"e\"\r\n");
        assert_request_has(2, "\r\nrange: bytes=3-4\r\n");
        end_upload();
    }
}

struct progress {
    uint64_t done, total;
    int calls;
};

static void count_progress(void *context, uint64_t done, uint64_t total)
{
    struct progress *progress = context;

    assert_true(done > progress->done);
    *progress = (struct progress){done, total, progress->calls + 1};
}

static void download_makes_the_file_the_object(void **state)
{
    const struct fault_step steps[] = {
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 5\r\n\r\n"},
        {.text = "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes 0-4/5\r\n"
                 "Content-Length: 5\r\n\r\nhe",
         .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes 2-4/5\r\n"
                 "Content-Length: 3\r\n\r\nllo"}};
    struct progress progress = {0};
    const struct s3_transfer transfer = {.progress = count_progress, .context = &progress};
    char out[8] = "";

    (void)state;
    BEGIN_UPLOAD(steps);
    assert_int_equal(s3_object_download(bed_client, "imgs", "k", fd, &transfer, NULL, &bed_err),
                     S3_YES);
    assert_int_equal(pread(fd, out, sizeof out, 0), 5); /* it had been longer */
    assert_string_equal(out, "hello");
    assert_int_equal(progress.done, 5);
    assert_int_equal(progress.total, 5);
    end_upload();
}

static void download_reads_a_small_object_by_one_request(void **state)
{
    const struct fault_step steps[] = {
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 5\r\n\r\nhe",
         .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes 2-4/5\r\n"
                 "Content-Length: 3\r\n\r\nllo"},
        /* one whose checksum is not that of what came, which the parts then find to be right */
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nx-amz-checksum-crc32c: mnG7TA==\r\n"
                 "Content-Length: 5\r\n\r\njello"},
        {.text = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 5\r\n\r\n"},
        {.text = "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes 0-4/5\r\n"
                 "Content-Length: 5\r\n\r\nhello"},
        {.text = "HTTP/1.1 404 x\r\nConnection: close\r\n\r\n" ERROR("NoSuchKey"),
         .then = FAULT_CLOSE}};
    struct progress progress = {0};
    struct s3_transfer transfer = {
        .progress = count_progress, .context = &progress, .bytes_likely = 7};
    char out[8] = "";

    (void)state;
    BEGIN_UPLOAD(steps);
    assert_int_equal(s3_object_download(bed_client, "imgs", "k", fd, &transfer, NULL, &bed_err),
                     S3_YES);
    assert_int_equal(pread(fd, out, sizeof out, 0), 5); /* it had been longer */
    assert_string_equal(out, "hello");
    assert_int_equal(progress.done, 5);
    assert_int_equal(progress.total, 5);
    assert_int_equal(faults_requests(bed_faults), 2);
    transfer.progress = NULL;
    assert_int_equal(s3_object_download(bed_client, "imgs", "k", fd, &transfer, NULL, &bed_err),
                     S3_YES);
    assert_int_equal(pread(fd, out, sizeof out, 0), 5);
    assert_string_equal(out, "hello");
    assert_int_equal(faults_requests(bed_faults), 5);
    assert_int_equal(s3_object_download(bed_client, "imgs", "k", fd, &transfer, NULL, &bed_err),
                     S3_NO);
    end_upload();
}

/* A server that has the object "0123..." of PARALLEL_PARTS parts and takes uploads, whatever the
 * order of the requests. */
#define PARALLEL_PARTS 40
#define PARALLEL_BYTES 100 /* of each */

static void answer_any(struct faults *server, struct buf *out)
{
    const char *request = faults_request(server, faults_requests(server) - 1);
    const char *range = strcasestr(request, "\r\nrange: bytes="), *number;

    if (faults_requests(server) == 2) /* of the first part: a second one is to come beside it */
        faults_await_second(server);
    if (strncmp(request, "HEAD ", 5) == 0) {
        buf_printf(out, "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: %d\r\n\r\n",
                   PARALLEL_PARTS * PARALLEL_BYTES);
    } else if (range != NULL) {
        const int first = atoi(range + strlen("\r\nrange: bytes="));

        buf_printf(out,
                   "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes %d-%d/%d\r\n"
                   "Content-Length: %d\r\n\r\n%0*d",
                   first, first + PARALLEL_BYTES - 1, PARALLEL_PARTS * PARALLEL_BYTES,
                   PARALLEL_BYTES, PARALLEL_BYTES, first);
    } else if ((number = strstr(request, "?partNumber=")) != NULL) {
        buf_printf(out, "HTTP/1.1 200 OK\r\nETag: \"p%d\"\r\nContent-Length: 0\r\n\r\n",
                   atoi(number + strlen("?partNumber=")));
    } else {
        const char *body = strstr(request, "?uploads=") != NULL
                               ? "<InitiateMultipartUploadResult><UploadId>u</UploadId>"
                                 "</InitiateMultipartUploadResult>"
                               : "<CompleteMultipartUploadResult><ETag>c</ETag>"
                                 "</CompleteMultipartUploadResult>";

        buf_printf(out, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
    }
}

static void download_has_many_requests_in_flight_on_few_connections(void **state)
{
    const struct fault_step steps[] = {{.make = answer_any}};
    const struct s3_transfer transfer = {.threads = 8, .part_bytes = PARALLEL_BYTES};
    char want[PARALLEL_BYTES + 1], got[PARALLEL_BYTES + 1] = "";

    (void)state;
    BEGIN_UPLOAD(steps);
    assert_int_equal(s3_object_download(bed_client, "imgs", "k", fd, &transfer, NULL, &bed_err),
                     S3_YES);
    for (int i = 0; i < PARALLEL_PARTS; i++) {
        snprintf(want, sizeof want, "%0*d", PARALLEL_BYTES, i * PARALLEL_BYTES);
        assert_int_equal(pread(fd, got, PARALLEL_BYTES, i * PARALLEL_BYTES), PARALLEL_BYTES);
        assert_string_equal(got, want);
    }
    assert_int_equal(faults_requests(bed_faults), 1 + PARALLEL_PARTS);
    assert_in_range(faults_connections(bed_faults), 2, 8);
    end_upload();
}

static void upload_has_many_parts_in_flight_and_lists_them_in_order(void **state)
{
    enum { PARTS = 5 };
    const struct fault_step steps[] = {{.make = answer_any}};
    const struct s3_put put = {.bucket = "imgs", .key = "k", .bytes = PARTS * 5 * MIB};
    const struct s3_transfer transfer = {.threads = 3, .part_bytes = 5 * MIB};
    const char *last;

    (void)state;
    BEGIN_UPLOAD(steps);
    assert_int_equal(ftruncate(fd, PARTS * 5 * MIB), 0);
    assert_int_equal(s3_object_upload(bed_client, &put, fd, &transfer, NULL, &bed_err), S3_YES);
    assert_int_equal(faults_requests(bed_faults), 1 + PARTS + 1);
    assert_in_range(faults_connections(bed_faults), 2, 4);
    last = faults_request(bed_faults, PARTS + 1);
    for (int i = 1; i <= PARTS; i++) {
        char part[80];

        snprintf(part, sizeof part, "<PartNumber>%d</PartNumber><ETag>&#34;p%d&#34;</ETag>", i, i);
        last = strstr(last, part);
        assert_non_null(last);
    }
    end_upload();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(upload_sends_parts_in_order_and_completes),
        cmocka_unit_test(upload_signs_no_body_that_has_a_checksum_and_goes_by_https),
        cmocka_unit_test(upload_tries_a_part_again),
        cmocka_unit_test(upload_takes_no_success_with_an_error_inside),
        cmocka_unit_test(upload_takes_no_success_with_no_such_upload_inside),
        cmocka_unit_test(upload_asks_for_an_etag_that_is_left_out),
        cmocka_unit_test(upload_looks_what_is_there_when_the_last_answer_was_lost),
        cmocka_unit_test(upload_does_not_know_whether_it_is_complete_where_nobody_can_look),
        cmocka_unit_test(upload_ends_with_its_condition),
        cmocka_unit_test(upload_is_aborted_when_a_part_fails),
        cmocka_unit_test(upload_is_aborted_when_cancelled),
        cmocka_unit_test(upload_looks_what_is_there_when_cancelled_while_it_completes),
        cmocka_unit_test(upload_above_what_one_request_takes_has_parts_whatever_their_length),
        cmocka_unit_test(upload_is_created_again_when_the_answer_was_lost),
        cmocka_unit_test(upload_says_that_the_file_is_too_short),
        cmocka_unit_test(download_ends_when_the_object_is_replaced_or_deleted),
        cmocka_unit_test(download_makes_the_file_the_object),
        cmocka_unit_test(download_reads_a_small_object_by_one_request),
        cmocka_unit_test(download_has_many_requests_in_flight_on_few_connections),
        cmocka_unit_test(upload_has_many_parts_in_flight_and_lists_them_in_order),
    };

    return cmocka_run_group_tests_name("s3io/upload", tests, place_setup, place_teardown);
}
