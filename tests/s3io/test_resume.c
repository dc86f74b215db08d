/* tests/s3io/test_resume.c -- multipart uploads that were cut off: gone on with, or aborted. */
#include "s3io/upload_record.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "bed.h"
#include "place.h"
#include "s3io/object.h"
#include "s3io/request.h"

#define MIB         ((size_t)1 << 20)
#define BYTES       (11 * MIB)                         /* of zeros: parts of 5, 5 and 1 MiB */
#define ZEROS_MD5   "5f363e0e58a95f06cbe9bbc662c5dfb6" /* of 5 MiB of them */
#define UPLOADS     ".local/state/convoy/uploads"
#define ERROR(code) "<Error><Code>" code "</Code><RequestId>7QX2</RequestId></Error>"
#define CREATED(id)                                                                                \
    {                                                                                              \
        .text = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<InitiateMultipartUploadResult>"      \
                "<UploadId>" id "</UploadId></InitiateMultipartUploadResult>",                     \
        .then = FAULT_CLOSE                                                                        \
    }
#define COMPLETED                                                                                  \
    {                                                                                              \
        .text = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<CompleteMultipartUploadResult>"      \
                "<ETag>c-3</ETag></CompleteMultipartUploadResult>",                                \
        .then = FAULT_CLOSE                                                                        \
    }
#define LISTED(parts)                                                                              \
    {                                                                                              \
        .text = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<ListPartsResult>" parts              \
                "<IsTruncated>false</IsTruncated></ListPartsResult>",                              \
        .then = FAULT_CLOSE                                                                        \
    }
#define LISTED_MORE(parts, marker)                                                                 \
    {                                                                                              \
        .text = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<ListPartsResult>" parts              \
                "<IsTruncated>true</IsTruncated><NextPartNumberMarker>" marker                     \
                "</NextPartNumberMarker></ListPartsResult>",                                       \
        .then = FAULT_CLOSE                                                                        \
    }
#define PART_LISTED(number, etag, bytes)                                                           \
    "<Part><PartNumber>" number "</PartNumber><ETag>&quot;" etag "&quot;</ETag><Size>" bytes       \
    "</Size></Part>"
#define PART(etag)                                                                                 \
    {                                                                                              \
        .text = "HTTP/1.1 200 OK\r\nETag: \"" etag "\"\r\nContent-Length: 0\r\n\r\n"               \
    }
#define ILL                                                                                        \
    {                                                                                              \
        .text = "HTTP/1.1 503 x\r\nConnection: close\r\n\r\n" ERROR("SlowDown"),                   \
        .then = FAULT_CLOSE                                                                        \
    }
#define NO_CONTENT                                                                                 \
    {                                                                                              \
        .text = "HTTP/1.1 204 No Content\r\n\r\n"                                                  \
    }
#define CUT_OFF CREATED("u1"), PART(ZEROS_MD5), ILL, ILL

#define FORBIDDEN                                                                                  \
    {                                                                                              \
        .text = "HTTP/1.1 403 x\r\nConnection: close\r\n\r\n" ERROR("AccessDenied"),               \
        .then = FAULT_CLOSE                                                                        \
    }
#define ANEW CREATED("u2"), PART("p1"), PART("p2"), PART("p3"), COMPLETED

static void client_begin(void)
{
    const struct s3_client_options options = {.endpoint = faults_url(bed_faults),
                                              .cancel = &bed_cancel};

    bed_cancel = 0;
    bed_err = (struct err){0};
    assert_int_equal(s3_client_open(&bed_client, &options, &bed_err), 0);
    bed_client->backoff_s = 0.001;
    bed_client->stall_s = 30;
    bed_client->config.attempts = 2;
}

static void client_again(void)
{
    s3_client_close(bed_client);
    client_begin();
}

static const char *file_make(void)
{
    const char *const path = place_path("file");
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0 && ftruncate(fd, (off_t)BYTES) == 0);
    close(fd);
    return path;
}

static void begin_resume(const struct fault_step *steps, size_t count)
{
    bed_faults = faults_start(steps, count);
    client_begin();
    file_make();
}
#define BEGIN_RESUME(steps) begin_resume(steps, sizeof(steps) / sizeof *(steps))

/* How many there are; they stay, or go. */
static int records_look(bool remove)
{
    DIR *dir = opendir(place_path(UPLOADS));
    int count = 0;

    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        count++;
        if (remove)
            assert_int_equal(unlinkat(dirfd(dir), entry->d_name, 0), 0);
    }
    if (dir != NULL)
        closedir(dir);
    return count;
}

static int records(void)
{
    return records_look(false);
}

static void end_resume(int requests)
{
    assert_int_equal(records(), 0);
    bed_end_after(requests);
}

static const char *content_type;

static int upload(void)
{
    const char *const path = place_path("file");
    const struct s3_put put = {
        .bucket = "imgs", .key = "a key/k", .bytes = BYTES, .content_type = content_type};
    const struct s3_transfer transfer = {.threads = 1, .part_bytes = 5 * MIB, .source = path};
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const int rc = s3_object_upload(bed_client, &put, fd, &transfer, NULL, &bed_err);

    close(fd);
    return rc;
}

static void resume_sends_only_the_parts_that_lack(void **state)
{
    const struct fault_step steps[] = {CUT_OFF, LISTED(PART_LISTED("1", ZEROS_MD5, "5242880")),
                                       PART("p2"), PART("p3"), COMPLETED};

    (void)state;
    BEGIN_RESUME(steps);
    assert_int_equal(upload(), -1);
    assert_int_equal(bed_err.code, ERR_NET);
    assert_non_null(strstr(bed_err.msg, "goes on with it"));
    assert_int_equal(records(), 1);
    client_again();
    assert_int_equal(upload(), S3_YES);
    assert_request_has(4, "GET /imgs/a%20key/k?part-number-marker=0&uploadId=u1 ");
    assert_request_has(5, "PUT /imgs/a%20key/k?partNumber=2&uploadId=u1 ");
    assert_request_has(6, "partNumber=3&");
    assert_request_has(7, "<PartNumber>1</PartNumber><ETag>&#34;" ZEROS_MD5 "&#34;</ETag>");
    end_resume(8);
}

static void resume_sends_again_what_differs(void **state)
{
    const struct fault_step steps[] = {CUT_OFF,
                                       LISTED(PART_LISTED("1", "0123", "5242880")
                                                  PART_LISTED("2", ZEROS_MD5, "5242879")
                                                      PART_LISTED("9", ZEROS_MD5, "5242880")),
                                       PART("p1"),
                                       PART("p2"),
                                       PART("p3"),
                                       COMPLETED};

    (void)state;
    BEGIN_RESUME(steps);
    assert_int_equal(upload(), -1);
    client_again();
    assert_int_equal(upload(), S3_YES);
    assert_request_has(5, "partNumber=1&");
    assert_request_has(6, "partNumber=2&");
    end_resume(9);
}

static void resume_keeps_what_may_be_complete(void **state)
{
    const struct fault_step steps[] = {
        CREATED("u1"),
        PART("p1"),
        PART("p2"),
        PART("p3"),
        {.text = NULL, .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 404 x\r\nConnection: close\r\n\r\n" ERROR("NoSuchUpload"),
         .then = FAULT_CLOSE},
        ILL, /* who asks whether it is there */
        ILL};

    (void)state;
    BEGIN_RESUME(steps);
    assert_int_equal(upload(), -1);
    assert_int_equal(bed_err.code, ERR_NET);
    assert_says("is not known");
    assert_int_equal(records_look(true), 1);
    end_resume(8);
}

static void resume_begins_anew_when_the_upload_is_gone(void **state)
{
    const struct fault_step steps[] = {
        CUT_OFF,
        {.text = "HTTP/1.1 404 x\r\nConnection: close\r\n\r\n" ERROR("NoSuchUpload"),
         .then = FAULT_CLOSE},
        CREATED("u2"),
        PART("p1"),
        PART("p2"),
        PART("p3"),
        COMPLETED};

    (void)state;
    BEGIN_RESUME(steps);
    assert_int_equal(upload(), -1);
    assert_int_equal(upload(), S3_YES); /* in the same process, too */
    assert_request_has(6, "uploadId=u2 ");
    end_resume(10);
}

static void assert_is_kept(enum err_code code)
{
    assert_int_equal(upload(), -1);
    assert_int_equal(bed_err.code, code);
    assert_int_equal(records(), 1);
}

static void resume_keeps_its_parts_when_the_network_fails_again(void **state)
{
    const struct fault_step steps[] = {
        CUT_OFF,    ILL,        ILL,      LISTED(PART_LISTED("1", ZEROS_MD5, "5242880")),
        PART("p2"), PART("p3"), COMPLETED};

    (void)state;
    BEGIN_RESUME(steps);
    assert_is_kept(ERR_NET);
    client_again();
    assert_is_kept(ERR_NET); /* the list of parts is not to be had */
    assert_non_null(strstr(bed_err.msg, "goes on with it"));
    client_again();
    assert_int_equal(upload(), S3_YES);
    assert_request_has(6, "GET /imgs/a%20key/k?part-number-marker=0&uploadId=u1 ");
    assert_request_has(7, "partNumber=2&uploadId=u1 ");
    end_resume(10);
}

static void cancel_now(struct faults *server, struct buf *out)
{
    (void)server, (void)out;
    bed_cancel = 1;
}

static void resume_keeps_its_parts_when_it_is_cancelled(void **state)
{
    const struct fault_step steps[] = {CUT_OFF,
                                       {.make = cancel_now, .then = FAULT_HOLD},
                                       LISTED(PART_LISTED("1", ZEROS_MD5, "5242880")),
                                       PART("p2"),
                                       PART("p3"),
                                       COMPLETED};

    (void)state;
    BEGIN_RESUME(steps);
    assert_is_kept(ERR_NET);
    client_again();
    assert_is_kept(ERR_STOPPED);
    assert_int_equal(faults_requests(bed_faults), 5); /* nothing was aborted */
    client_again();
    assert_int_equal(upload(), S3_YES);
    end_resume(9);
}

static void resume_begins_anew_when_it_may_not_list(void **state)
{
    const struct fault_step steps[] = {CUT_OFF, FORBIDDEN, NO_CONTENT, ANEW};

    (void)state;
    BEGIN_RESUME(steps);
    assert_is_kept(ERR_NET);
    client_again();
    assert_int_equal(upload(), S3_YES);
    assert_request_has(5, "DELETE /imgs/a%20key/k?uploadId=u1 ");
    assert_request_has(6, "?uploads=");
    end_resume(11);
}

static void resume_remembers_what_it_may_not_abort(void **state)
{
    const struct fault_step steps[] = {CUT_OFF, FORBIDDEN, FORBIDDEN, ANEW};

    (void)state;
    BEGIN_RESUME(steps);
    assert_is_kept(ERR_NET);
    client_again();
    assert_int_equal(upload(), S3_YES);
    assert_int_equal(records_look(true), 1); /* of u1, whose parts cost money */
    end_resume(11);
}

/* Both are said when an upload is created, and stay as they are. */
static void resume_begins_anew_for_another_encryption_or_content_type(void **state)
{
    static const char *const has[] = {
        "\r\nx-amz-server-side-encryption: AES256\r\n",
        "\r\nx-amz-server-side-encryption-aws-kms-key-id: key-7\r\n",
        "\r\ncontent-type: image/png\r\n",
    };
    const struct fault_step steps[] = {CUT_OFF, NO_CONTENT, ANEW};

    (void)state;
    for (size_t i = 0; i < sizeof has / sizeof *has; i++) {
        BEGIN_RESUME(steps);
        if (i == 1) /* another key */
            setenv("CONVOY_SSE_KMS_KEY_ID", "key-1", 1);
        client_again();
        assert_is_kept(ERR_NET);
        unsetenv("CONVOY_SSE_KMS_KEY_ID");
        if (i == 0)
            setenv("CONVOY_SSE", "AES256", 1);
        if (i == 1)
            setenv("CONVOY_SSE_KMS_KEY_ID", "key-7", 1);
        client_again();
        unsetenv("CONVOY_SSE");
        unsetenv("CONVOY_SSE_KMS_KEY_ID");
        content_type = i == 2 ? "image/png" : NULL;
        assert_int_equal(upload(), S3_YES);
        content_type = NULL;
        assert_request_has(4, "DELETE /imgs/a%20key/k?uploadId=u1 ");
        assert_request_has(5, "?uploads=");
        assert_request_has(5, has[i]);
        end_resume(10);
    }
}

static void resume_goes_on_with_the_same_encryption(void **state)
{
    const struct fault_step steps[] = {CUT_OFF, LISTED(PART_LISTED("1", ZEROS_MD5, "5242880")),
                                       PART("p2"), PART("p3"), COMPLETED};

    (void)state;
    setenv("CONVOY_SSE_KMS_KEY_ID", "arn:aws:kms:eu-west-1:111122223333:key/7", 1);
    BEGIN_RESUME(steps);
    assert_is_kept(ERR_NET);
    client_again();
    unsetenv("CONVOY_SSE_KMS_KEY_ID");
    assert_int_equal(upload(), S3_YES);
    end_resume(8);
}

static void resume_reads_a_list_of_several_pages(void **state)
{
    const struct fault_step steps[] = {
        CUT_OFF, LISTED_MORE(PART_LISTED("1", ZEROS_MD5, "5242880"), "1"),
        LISTED(PART_LISTED("2", ZEROS_MD5, "5242880")), PART("p3"), COMPLETED};

    (void)state;
    BEGIN_RESUME(steps);
    assert_is_kept(ERR_NET);
    client_again();
    assert_int_equal(upload(), S3_YES);
    assert_request_has(5, "?part-number-marker=1&uploadId=u1 ");
    assert_request_has(6, "partNumber=3&");
    end_resume(8);
}

static void resume_begins_anew_when_the_list_goes_around_in_circles(void **state)
{
    static const char *const markers[] = {"", "0", "1", "x"}; /* after a page up to part 1 */

    (void)state;
    for (size_t i = 0; i < sizeof markers / sizeof *markers; i++) {
        char page[512];
        const struct fault_step steps[] = {CUT_OFF,
                                           LISTED_MORE(PART_LISTED("1", ZEROS_MD5, "5242880"), "1"),
                                           {.text = page, .then = FAULT_CLOSE},
                                           NO_CONTENT,
                                           ANEW};

        snprintf(page, sizeof page,
                 "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<ListPartsResult><IsTruncated>true"
                 "</IsTruncated>%s%s%s</ListPartsResult>",
                 i > 0 ? "<NextPartNumberMarker>" : "", markers[i],
                 i > 0 ? "</NextPartNumberMarker>" : "");
        BEGIN_RESUME(steps);
        assert_is_kept(ERR_NET);
        client_again();
        assert_int_equal(upload(), S3_YES);
        assert_request_has(6, "DELETE /imgs/a%20key/k?uploadId=u1 ");
        end_resume(12);
    }
}

static void resume_never_takes_parts_of_a_file_that_has_changed(void **state)
{
    const struct fault_step steps[] = {CUT_OFF,    NO_CONTENT, CREATED("u2"), PART("p1"),
                                       PART("p2"), PART("p3"), COMPLETED};
    const struct timespec times[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};

    (void)state;
    BEGIN_RESUME(steps);
    assert_int_equal(upload(), -1);
    assert_int_equal(utimensat(AT_FDCWD, place_path("file"), times, 0), 0);
    client_again();
    assert_int_equal(upload(), S3_YES);
    assert_request_has(4, "DELETE /imgs/a%20key/k?uploadId=u1 ");
    assert_request_has(5, "?uploads=");
    end_resume(10);
}

/* Upload in a process that is killed when its request number `requests` is held. */
static void upload_and_be_killed(int requests, const char *source)
{
    const pid_t child = fork();
    const double until = clock_now_s() + 20;

    if (child == 0) {
        const struct s3_put put = {.bucket = "imgs", .key = "a key/k", .bytes = BYTES};
        const struct s3_transfer transfer = {.threads = 1, .part_bytes = 5 * MIB, .source = source};
        const int fd = source != NULL ? open(source, O_RDONLY) : memfd_create("m", 0);

        if (source == NULL && ftruncate(fd, (off_t)BYTES) < 0)
            _exit(1);
        client_begin();
        s3_object_upload(bed_client, &put, fd, &transfer, NULL, &bed_err);
        _exit(0);
    }
    while (faults_requests(bed_faults) < requests && clock_now_s() < until)
        clock_sleep_s(0.01);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_int_equal(faults_requests(bed_faults), requests);
}

static void resume_goes_on_after_a_kill(void **state)
{
    const struct fault_step steps[] = {CREATED("u1"),
                                       PART(ZEROS_MD5),
                                       {.text = NULL, .then = FAULT_HOLD},
                                       LISTED(PART_LISTED("1", ZEROS_MD5, "5242880")),
                                       PART("p2"),
                                       PART("p3"),
                                       COMPLETED};

    (void)state;
    BEGIN_RESUME(steps);
    upload_and_be_killed(3, place_path("file"));
    assert_int_equal(upload(), S3_YES);
    assert_request_has(3, "GET /imgs/a%20key/k?part-number-marker=0&uploadId=u1 ");
    end_resume(7);
}

static void resume_aborts_at_the_next_start_what_nobody_can_go_on_with(void **state)
{
    const struct fault_step steps[] = {
        CREATED("u1"), PART(ZEROS_MD5), {.text = NULL, .then = FAULT_HOLD},
        NO_CONTENT,    CREATED("u2"),   PART("p1"),
        PART("p2"),    PART("p3"),      COMPLETED};

    (void)state;
    BEGIN_RESUME(steps);
    upload_and_be_killed(3, NULL);
    assert_int_equal(records(), 1);
    assert_int_equal(upload(), S3_YES);
    assert_request_has(3, "DELETE /imgs/a%20key/k?uploadId=u1 ");
    end_resume(9);
}

/* A record as another process or host would have it. */
static void record_write(const char *name, const char *host)
{
    char text[512];

    snprintf(text, sizeof text,
             "convoy-upload-1 %s\nboot 0-0\nendpoint %s\nbucket imgs\nkey k\nupload other\n"
             "part_bytes 5\n",
             host, faults_url(bed_faults));
    place_write(name, text);
}

static void resume_leaves_uploads_of_others_alone(void **state)
{
    const struct fault_step steps[] = {CREATED("u2"), PART("p1"), PART("p2"), PART("p3"),
                                       COMPLETED};
    struct s3_upload_record living;
    const int fd = open("/dev/null", O_RDONLY);
    char host[256] = "";

    (void)state;
    BEGIN_RESUME(steps);
    gethostname(host, sizeof host - 1);
    record_write(UPLOADS "/0123", "another-host");
    record_write(UPLOADS "/4567", host); /* before the last start, or not this machine's */
    place_write(UPLOADS "/damaged", "convoy-upload-1");
    s3_upload_record_init(&living, faults_url(bed_faults), "imgs", "k", NULL, fd); /* not ended */
    living.upload_id = strdup("u9");
    living.part_bytes = 5;
    living.kind = strdup("");
    s3_upload_record_keep(&living);
    assert_int_equal(upload(), S3_YES);
    assert_request_has(0, "?uploads=");
    assert_int_equal(records(), 4);
    s3_upload_record_drop(&living);
    unlink(place_path(UPLOADS "/0123"));
    unlink(place_path(UPLOADS "/4567"));
    unlink(place_path(UPLOADS "/damaged"));
    close(fd);
    end_resume(5);
}

static void touch(const char *name, int days)
{
    const struct timespec then = {.tv_sec = (time_t)clock_wall_s() - days * 86400};

    assert_int_equal(utimensat(AT_FDCWD, place_path(name), (struct timespec[]){then, then}, 0), 0);
}

/* One of this host, so many days old, that any start may abort. */
static void record_of(const char *name, int days)
{
    char host[256] = "";

    gethostname(host, sizeof host - 1);
    record_write(name, host);
    touch(name, days);
}

static int put_small(void)
{
    const struct s3_put put = {.bucket = "imgs", .key = "k", .data = "hello", .bytes = 5};

    return s3_object_put(bed_client, &put, NULL, &bed_err);
}

/* What it names may be something else. */
static void resume_does_nothing_by_a_record_that_is_damaged(void **state)
{
    static const char *const lines[] = {"key k%4", "key k%zz", "key k%00", "bytes 5x", "device -1"};
    const struct fault_step steps[] = {PART("e")};

    (void)state;
    BEGIN_RESUME(steps);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char name[64];
        FILE *file;

        snprintf(name, sizeof name, UPLOADS "/012%zu", i);
        record_of(name, 2);
        file = fopen(place_path(name), "a");
        assert_non_null(file);
        fprintf(file, "%s\n", lines[i]);
        fclose(file);
        touch(name, 2);
    }
    assert_int_equal(put_small(), S3_YES);
    assert_request_has(0, "PUT /imgs/k ");
    assert_int_equal(records_look(true), (int)(sizeof lines / sizeof *lines));
    end_resume(1);
}

static void resume_aborts_at_the_first_write_of_any_kind(void **state)
{
    const struct fault_step steps[] = {NO_CONTENT, PART("e"), PART("e")};

    (void)state;
    BEGIN_RESUME(steps);
    record_of(UPLOADS "/0123", 2);
    assert_int_equal(put_small(), S3_YES);
    assert_request_has(0, "DELETE /imgs/k?uploadId=other ");
    assert_request_has(1, "PUT /imgs/k ");
    record_of(UPLOADS "/4567", 2);
    assert_int_equal(put_small(), S3_YES); /* and at no second one */
    assert_int_equal(records_look(true), 1);
    end_resume(3);
}

static void resume_forgets_uploads_of_a_bucket_that_is_gone(void **state)
{
    const struct fault_step steps[] = {
        {.text = "HTTP/1.1 404 x\r\nConnection: close\r\n\r\n" ERROR("NoSuchBucket"),
         .then = FAULT_CLOSE},
        PART("e")};

    (void)state;
    BEGIN_RESUME(steps);
    record_of(UPLOADS "/0123", 2);
    assert_int_equal(put_small(), S3_YES);
    end_resume(2);
}

static void resume_gives_up_aborting_after_some_weeks(void **state)
{
    const struct fault_step steps[] = {FORBIDDEN, PART("e"), FORBIDDEN, PART("e")};

    (void)state;
    BEGIN_RESUME(steps);
    record_of(UPLOADS "/0123", 27);
    assert_int_equal(put_small(), S3_YES);
    assert_int_equal(records_look(true), 1);
    client_again();
    record_of(UPLOADS "/0123", 29);
    assert_int_equal(put_small(), S3_YES);
    end_resume(4);
}

static void resume_stops_aborting_when_it_is_cancelled(void **state)
{
    const struct fault_step steps[] = {{.make = cancel_now, .then = FAULT_HOLD}};

    (void)state;
    BEGIN_RESUME(steps);
    record_of(UPLOADS "/0123", 29);
    record_of(UPLOADS "/4567", 29);
    assert_int_equal(put_small(), -1);
    assert_int_equal(bed_err.code, ERR_STOPPED);
    assert_int_equal(records_look(true), 2);
    end_resume(1);
}

static void resume_does_not_wait_for_a_server_that_is_ill(void **state)
{
    const struct fault_step steps[] = {ILL, PART("e")};

    (void)state;
    BEGIN_RESUME(steps);
    record_of(UPLOADS "/0123", 2);
    record_of(UPLOADS "/4567", 2);
    assert_int_equal(put_small(), S3_YES);
    assert_int_equal(records_look(true), 2);
    end_resume(2);
}

static void resume_is_not_missed_where_nothing_can_be_written(void **state)
{
    const struct fault_step steps[] = {CREATED("u1"), PART("p1"), ILL, ILL, NO_CONTENT};

    (void)state;
    BEGIN_RESUME(steps);
    setenv("XDG_STATE_HOME", "/proc/nowhere", 1);
    assert_int_equal(upload(), -1);
    unsetenv("XDG_STATE_HOME");
    assert_request_has(4, "DELETE ");
    end_resume(5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resume_sends_only_the_parts_that_lack),
        cmocka_unit_test(resume_sends_again_what_differs),
        cmocka_unit_test(resume_keeps_what_may_be_complete),
        cmocka_unit_test(resume_begins_anew_when_the_upload_is_gone),
        cmocka_unit_test(resume_keeps_its_parts_when_the_network_fails_again),
        cmocka_unit_test(resume_keeps_its_parts_when_it_is_cancelled),
        cmocka_unit_test(resume_begins_anew_when_it_may_not_list),
        cmocka_unit_test(resume_remembers_what_it_may_not_abort),
        cmocka_unit_test(resume_begins_anew_for_another_encryption_or_content_type),
        cmocka_unit_test(resume_goes_on_with_the_same_encryption),
        cmocka_unit_test(resume_reads_a_list_of_several_pages),
        cmocka_unit_test(resume_begins_anew_when_the_list_goes_around_in_circles),
        cmocka_unit_test(resume_never_takes_parts_of_a_file_that_has_changed),
        cmocka_unit_test(resume_goes_on_after_a_kill),
        cmocka_unit_test(resume_aborts_at_the_next_start_what_nobody_can_go_on_with),
        cmocka_unit_test(resume_leaves_uploads_of_others_alone),
        cmocka_unit_test(resume_does_nothing_by_a_record_that_is_damaged),
        cmocka_unit_test(resume_aborts_at_the_first_write_of_any_kind),
        cmocka_unit_test(resume_forgets_uploads_of_a_bucket_that_is_gone),
        cmocka_unit_test(resume_gives_up_aborting_after_some_weeks),
        cmocka_unit_test(resume_stops_aborting_when_it_is_cancelled),
        cmocka_unit_test(resume_does_not_wait_for_a_server_that_is_ill),
        cmocka_unit_test(resume_is_not_missed_where_nothing_can_be_written),
    };

    return cmocka_run_group_tests_name("s3io/resume", tests, place_setup, place_teardown);
}
