#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "s3io/address.h"
#include "s3io/checksum.h"
#include "s3io/head.h"
#include "s3io/job.h"
#include "s3io/object.h"
#include "s3io/put.h"
#include "s3io/request.h"
#include "s3io/stream.h"
#include "s3io/upload_resume.h"
#include "s3io/xml.h"

#define PART_BYTES_MIN   ((uint64_t)5 << 20) /* S3's own limit, but for the last part */
#define OBJECT_BYTES_MAX ((uint64_t)5 << 40)
#define COMPLETE_STALLS  6 /* S3 may put parts together for minutes, with a blank now and then */
#define UPLOAD_NAME      "x-amz-meta-convoy-upload"

static int file_part(const struct s3_job *job, uint64_t begin, void *out, uint64_t bytes,
                     struct err *err)
{
    uint64_t got = 0;

    while (got < bytes) {
        const ssize_t n = pread(job->fd, (char *)out + got, bytes - got, (off_t)(begin + got));

        if (n < 0 && errno != EINTR)
            return err_set_errno(err, ERR_IO, errno, "cannot read the file to be uploaded");
        if (n == 0)
            return err_set(err, ERR_IO,
                           "the file to be uploaded ends at byte %" PRIu64 " of %" PRIu64,
                           begin + got, job->bytes);
        got += n > 0 ? (uint64_t)n : 0;
    }
    return 0;
}

/* Below two parts' length, if it may be: one request. */
static int upload_whole(struct s3_job *job, const struct s3_put *put, struct s3_object *object,
                        struct err *err)
{
    struct s3_put whole = *put;
    void *data = malloc(job->bytes > 0 ? job->bytes : 1);
    int rc = -1;

    if (data == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for the %" PRIu64 " bytes of '%s'",
                       job->bytes, s3_address_name(put->bucket, put->key).text);
    whole.data = data;
    if (file_part(job, 0, data, job->bytes, err) < 0)
        err_wrap(err, "cannot put '%s'", s3_address_name(put->bucket, put->key).text);
    else
        rc = s3_object_put(job->client, &whole, object, err);
    if (rc == S3_YES)
        s3_job_add(job, job->bytes);
    free(data);
    return rc;
}

static int take_upload_id(void *context, const char *path, const char *text, struct err *err)
{
    struct s3_upload *const upload = context;

    (void)err;
    if (strcmp(path, "InitiateMultipartUploadResult/UploadId") != 0 || text[0] == '\0')
        return 0;
    free(upload->record.upload_id);
    upload->record.upload_id = text_copy(text);
    return 0;
}

/* A server that understands checksums says so. Those of parts alone are all that S3 had before
 * 2025, and a Complete with one of the whole would be refused there. */
static void take_checksums(struct s3_upload_record *record, const struct s3_http_answer *answer)
{
    char algorithm[16] = "", type[16] = "";

    s3_http_header(answer, "x-amz-checksum-algorithm", algorithm, sizeof algorithm);
    s3_http_header(answer, "x-amz-checksum-type", type, sizeof type);
    record->crc32c = strcasecmp(algorithm, "CRC32C") == 0;
    record->crc32c_whole = record->crc32c && strcasecmp(type, "FULL_OBJECT") == 0;
}

/* The name is metadata of the object to be: it tells ours from another's when an answer is lost.
 * *refused: a server that understands no checksums may not like the question. */
static int create_once(struct s3_upload *upload, bool crc32c, bool *refused, struct err *err)
{
    static const struct s3_pair query = {"uploads", ""};
    struct s3_pair headers[S3_REQUEST_HEADERS_MAX];
    struct s3_request request = {.method = "POST",
                                 .bucket = upload->put->bucket,
                                 .key = upload->put->key,
                                 .query = &query,
                                 .query_count = 1,
                                 .headers = headers,
                                 .permission = "s3:PutObject",
                                 .root = "InitiateMultipartUploadResult"};
    struct s3_client *const client = upload->job->client;
    struct s3_tries tries = {0};
    int status, rc = -1;

    request.header_count = s3_put_kind(upload->put, &client->config, headers);
    headers[request.header_count++] = (struct s3_pair){UPLOAD_NAME, upload->record.name};
    if (crc32c) {
        headers[request.header_count++] = (struct s3_pair){"x-amz-checksum-algorithm", "CRC32C"};
        headers[request.header_count++] = (struct s3_pair){"x-amz-checksum-type", "FULL_OBJECT"};
    }
    status = s3_request_send(client, &request, &tries, err);
    /* Without parts it costs nothing, and S3 does not say whose it is. */
    if (tries.lost && status / 100 == 2)
        log_debug("s3: an upload to '%s' was created again: another one may be left without parts",
                  s3_address_name(request.bucket, request.key).text);
    *refused = status < 0 && crc32c && (tries.fault.status == 400 || tries.fault.status == 501);
    if (status / 100 == 2)
        rc = s3_xml_read(tries.answer.body.data, tries.answer.body.bytes, take_upload_id, upload,
                         err);
    else if (status > 0)
        s3_request_fail(client, &request, &tries, err);
    if (rc == 0 && upload->record.upload_id == NULL)
        rc = err_set(err, ERR_NET, "the multipart upload got no id");
    if (rc == 0 && crc32c)
        take_checksums(&upload->record, &tries.answer);
    s3_tries_release(&tries);
    return rc;
}

static int upload_create(struct s3_upload *upload, struct err *err)
{
    bool refused = false;
    int rc = create_once(upload, upload->job->client->config.sends_checksums, &refused, err);

    if (rc < 0 && refused)
        rc = create_once(upload, false, &refused, err);
    if (rc < 0)
        return -1;
    upload->record.part_bytes = upload->job->part_bytes;
    upload->record.kind = text_copy(buf_text(&upload->kind));
    s3_upload_record_keep(&upload->record);
    return 0;
}

/* The MD5 of a part's bytes, as an ETag. Where OpenSSL has none (FIPS) no part is taken over. */
static void md5_etag(const void *data, size_t bytes, char out[S3_ETAG_CHARS])
{
    unsigned char md5[EVP_MAX_MD_SIZE];
    unsigned int count = 0;
    size_t at = 1;

    if (EVP_Digest(data, bytes, md5, &count, EVP_md5(), NULL) != 1)
        count = 0;
    out[0] = '"';
    for (unsigned int i = 0; i < count; i++)
        at += (size_t)snprintf(out + at, 3, "%02x", md5[i]);
    snprintf(out + at, 2, "\"");
}

/* Whether what an earlier try sent is the same. */
static bool part_is_there(const struct s3_upload_part *part, uint32_t crc32c, const void *data,
                          uint64_t bytes)
{
    char etag[S3_ETAG_CHARS];

    if (!part->listed || part->listed_bytes != bytes)
        return false;
    if (part->listed_crc32c)
        return part->crc32c == crc32c;
    md5_etag(data, bytes, etag);
    return strcmp(part->etag, etag) == 0;
}

static int part_send(struct s3_upload *upload, int index, const void *data, uint64_t bytes,
                     struct err *err)
{
    struct s3_job *const job = upload->job;
    struct s3_upload_part *const part = &upload->parts[index];
    char number[16], crc32c[S3_CHECKSUM_CHARS];
    const struct s3_pair query[] = {{"partNumber", number}, {"uploadId", upload->record.upload_id}};
    const struct s3_pair header = {"x-amz-checksum-crc32c", crc32c};
    struct s3_request request = {
        .method = "PUT",
        .bucket = job->bucket,
        .key = job->key,
        .query = query,
        .query_count = 2,
        .headers = &header,
        .header_count = upload->record.crc32c ? 1 : 0,
        .body = data,
        .body_bytes = bytes,
        .unsigned_body = s3_put_is_unsigned(&job->client->config, upload->record.crc32c),
        .permission = "s3:PutObject",
        .stop = &job->stop};
    struct s3_tries tries = {0};
    int status, rc = -1;

    snprintf(number, sizeof number, "%d", index + 1);
    s3_checksum_print(part->crc32c, crc32c);
    status = s3_request_send(job->client, &request, &tries, err);
    if (status / 100 == 2 && s3_http_header(&tries.answer, "etag", part->etag, sizeof part->etag))
        rc = 0;
    else if (status / 100 == 2)
        err_set(err, ERR_NET, "part %d got no ETag", index + 1);
    else if (status > 0)
        s3_request_fail(job->client, &request, &tries, err);
    s3_tries_release(&tries);
    return rc;
}

static int upload_part(struct s3_job *job, int index, void *scratch, struct err *err)
{
    struct s3_upload *const upload = job->context;
    struct s3_upload_part *const part = &upload->parts[index];
    uint64_t bytes;
    const uint64_t begin = s3_job_part(job, index, &bytes);
    uint32_t crc32c;
    bool there;

    if (file_part(job, begin, scratch, bytes, err) < 0)
        return -1;
    crc32c = digest_crc32c(0, scratch, bytes);
    there = part_is_there(part, crc32c, scratch, bytes);
    part->crc32c = crc32c;
    if (!there && part_send(upload, index, scratch, bytes, err) < 0)
        return -1;
    s3_job_add(job, bytes);
    return 0;
}

/* Whether the object that is there now is the one of this upload. S3_YES, S3_NO or -1. When all is
 * to stop it is asked once nevertheless. */
static int upload_is_there(struct s3_upload *upload, bool stopping, struct s3_object *object,
                           struct err *err)
{
    const struct s3_job *const job = upload->job;
    char name[64];
    const struct s3_head head = {.bucket = job->bucket,
                                 .key = job->key,
                                 .once = stopping,
                                 .header = UPLOAD_NAME,
                                 .value = name,
                                 .value_bytes = sizeof name};
    const int rc = s3_head(job->client, &head, object, err);

    if (rc != S3_YES)
        return rc;
    return object->bytes == job->bytes && strcmp(name, upload->record.name) == 0 ? S3_YES : S3_NO;
}

static int take_etag(void *context, const char *path, const char *text, struct err *err)
{
    struct s3_object *object = context;

    (void)err;
    if (strcmp(path, "CompleteMultipartUploadResult/ETag") == 0)
        snprintf(object->etag, sizeof object->etag, "%s", text);
    return 0;
}

/* Also the CRC-32C of the whole. */
static uint32_t complete_document(struct buf *out, const struct s3_upload *upload)
{
    uint32_t whole = 0;

    buf_printf(out, "<CompleteMultipartUpload "
                    "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (int i = 0; i < upload->job->part_count; i++) {
        const struct s3_upload_part *const part = &upload->parts[i];
        char crc32c[S3_CHECKSUM_CHARS];
        uint64_t bytes;

        buf_printf(out, "<Part><PartNumber>%d</PartNumber><ETag>", i + 1);
        s3_xml_escape(out, part->etag);
        buf_printf(out, "</ETag>");
        if (upload->record.crc32c) {
            s3_checksum_print(part->crc32c, crc32c);
            buf_printf(out, "<ChecksumCRC32C>%s</ChecksumCRC32C>", crc32c);
        }
        buf_printf(out, "</Part>");
        s3_job_part(upload->job, i, &bytes);
        whole = digest_crc32c_join(whole, part->crc32c, bytes);
    }
    buf_printf(out, "</CompleteMultipartUpload>");
    return whole;
}

/* What an answer that is no success means, when an earlier one may have been lost, or nobody waited
 * for it: the object that is there decides. Where nobody can see it, nothing is decided. */
static int complete_judge(struct s3_upload *upload, const struct s3_request *request,
                          const struct s3_tries *tries, int status, struct s3_object *object,
                          struct err *err)
{
    const bool refused =
        status == 412 || status == 409 || strcmp(tries->fault.code, "NoSuchKey") == 0;
    bool stopping = status < 0 && err->code == ERR_STOPPED;
    struct err later = {0}, last = {0};
    int there = S3_NO;

    if (tries->lost && !stopping) {
        there = upload_is_there(upload, false, object, &later);
        stopping = there < 0 && later.code == ERR_STOPPED;
    }
    if (stopping)
        there = upload_is_there(upload, true, object, &last);
    if (there == S3_YES)
        return S3_YES;
    if (tries->lost && there < 0) {
        if (status > 0) /* else err says already why there is no answer */
            *err = later;
        return err_wrap(err, "whether it is complete is not known");
    }
    if (refused && (upload->put->if_none || upload->put->if_match != NULL))
        return S3_NO;
    if (status > 0)
        s3_request_fail(upload->job->client, request, tries, err);
    return -1;
}

/* The document says that the object is there. Some servers (Ceph 16) leave its ETag empty; who may
 * write but not read does without. */
static int complete_read(struct s3_job *job, const struct s3_tries *tries, struct s3_object *object,
                         struct err *err)
{
    const struct buf *body = &tries->answer.body;
    struct s3_object now = {0};
    struct err why = {0};
    int rc;

    s3_stream_object(object, &tries->answer);
    object->bytes = job->bytes;
    object->etag[0] = '\0';
    if (s3_xml_read(body->data, body->bytes, take_etag, object, err) < 0)
        return -1;
    if (object->etag[0] != '\0')
        return S3_YES;
    rc = s3_object_head(job->client, job->bucket, job->key, &now, &why);
    if (rc == S3_NO)
        return err_set(err, ERR_NET, "it is said to be complete, and there is no such object");
    if (rc < 0)
        log_debug("s3: an object was written, and its ETag is not known: %s", why.msg);
    else if (now.bytes == job->bytes)
        *object = now;
    return S3_YES;
}

/* Not all servers look at the conditions of CompleteMultipartUpload (AWS does since 2024, Ceph 16
 * does not). Looking just before it leaves a gap there, but no wide one. */
static int condition_holds(struct s3_job *job, const struct s3_put *put, struct err *err)
{
    struct s3_object now;
    int rc;

    if (!put->if_none && put->if_match == NULL)
        return S3_YES;
    rc = s3_object_head(job->client, put->bucket, put->key, &now, err);
    if (rc < 0)
        return -1;
    if (put->if_none)
        return rc == S3_NO ? S3_YES : S3_NO;
    return rc == S3_YES && strcmp(now.etag, put->if_match) == 0 ? S3_YES : S3_NO;
}

static int upload_complete(struct s3_upload *upload, struct s3_object *object, struct err *err)
{
    struct s3_job *const job = upload->job;
    const struct s3_pair query = {"uploadId", upload->record.upload_id};
    struct s3_pair headers[S3_REQUEST_HEADERS_MAX] = {{"content-type", "application/xml"}};
    struct s3_request request = {.method = "POST",
                                 .bucket = job->bucket,
                                 .key = job->key,
                                 .query = &query,
                                 .query_count = 1,
                                 .headers = headers,
                                 .header_count = 1,
                                 .permission = "s3:PutObject",
                                 .root = "CompleteMultipartUploadResult",
                                 .stall_s = COMPLETE_STALLS * job->client->stall_s};
    struct s3_tries tries = {0};
    char crc32c[S3_CHECKSUM_CHARS];
    struct buf body = {0};
    int status, rc;

    s3_checksum_print(complete_document(&body, upload), crc32c);
    request.body = body.data;
    request.body_bytes = body.bytes;
    request.header_count += s3_put_conditions(upload->put, headers + 1);
    if (upload->record.crc32c_whole) {
        headers[request.header_count++] = (struct s3_pair){"x-amz-checksum-crc32c", crc32c};
        headers[request.header_count++] = (struct s3_pair){"x-amz-checksum-type", "FULL_OBJECT"};
    }
    status = s3_request_send(job->client, &request, &tries, err);
    if (status / 100 == 2 && !tries.fault.document)
        rc = complete_read(job, &tries, object, err);
    else
        rc = complete_judge(upload, &request, &tries, status, object, err);
    buf_release(&body);
    s3_tries_release(&tries);
    return rc;
}

/* What failed for the network stays where a next try may go on with it. */
static void say_that_it_is_kept(struct err *err)
{
    struct err why = *err;

    err_set(err, ERR_NET, "%s; what is there is kept for a day, and the same again goes on with it",
            why.msg);
}

/* What CreateMultipartUpload fixes, for a record. */
static void put_kind(struct buf *out, const struct s3_put *put, const struct s3_config *config)
{
    struct s3_pair headers[S3_REQUEST_HEADERS_MAX];
    const size_t count = s3_put_kind(put, config, headers);

    for (size_t i = 0; i < count; i++)
        buf_printf(out, "%s: %s\n", headers[i].name, headers[i].value);
}

static int upload_begin(struct s3_upload *upload, struct err *err)
{
    struct s3_job *const job = upload->job;
    const char *const endpoint = job->client->config.endpoint, *source = job->transfer->source;
    int rc;

    s3_upload_record_init(&upload->record, endpoint, job->bucket, job->key, source, job->fd);
    put_kind(&upload->kind, upload->put, &job->client->config);
    rc = s3_upload_resume(upload, err);
    if (rc < 0 && err->code == ERR_NET)
        say_that_it_is_kept(err);
    if (rc != S3_NO)
        return rc == S3_YES ? 0 : -1;
    if (upload->record.bucket == NULL) /* the one that was found is dropped */
        s3_upload_record_init(&upload->record, endpoint, job->bucket, job->key, source, job->fd);
    return upload_create(upload, err);
}

static void upload_end(struct s3_upload *upload, struct err *err)
{
    if (err->code == ERR_NET && upload->record.source != NULL && upload->record.path != NULL)
        say_that_it_is_kept(err);
    else
        s3_upload_abort(upload);
}

static int upload_parts(struct s3_job *job, const struct s3_put *put, struct s3_object *object,
                        struct err *err)
{
    struct s3_upload upload = {.job = job, .put = put};
    int rc = -1;

    s3_upload_sweep(job->client);
    upload.parts = calloc((size_t)job->part_count, sizeof *upload.parts);
    if (upload.parts == NULL)
        abort();
    job->scratch_bytes = job->part_bytes;
    job->move = upload_part;
    job->context = &upload;
    if (upload_begin(&upload, err) == 0) {
        if (s3_job_run(job, err) == 0)
            rc = condition_holds(job, put, err);
        if (rc == S3_YES)
            rc = upload_complete(&upload, object, err);
        if (rc == S3_YES)
            s3_upload_record_drop(&upload.record);
        else if (rc == S3_NO)
            s3_upload_abort(&upload);
        else
            upload_end(&upload, err);
    }
    if (rc < 0)
        err_wrap(err, "cannot put '%s'", s3_address_name(put->bucket, put->key).text);
    s3_upload_record_release(&upload.record);
    buf_release(&upload.kind);
    free(upload.parts);
    return rc;
}

int s3_object_upload(struct s3_client *client, const struct s3_put *put, int fd,
                     const struct s3_transfer *transfer, struct s3_object *object, struct err *err)
{
    struct s3_job job = {.client = client, .bucket = put->bucket, .key = put->key, .fd = fd};
    struct s3_object unseen;
    int rc;

    object = object == NULL ? &unseen : object;
    if (put->bytes > OBJECT_BYTES_MAX)
        return err_set(err, ERR_INPUT, "'%s': an object has at most 5 TiB",
                       s3_address_name(put->bucket, put->key).text);
    job.transfer = s3_job_transfer(transfer);
    s3_job_cut(&job, put->bytes, PART_BYTES_MIN);
    pthread_mutex_init(&job.mutex, NULL);
    if (put->bytes < 2 * job.part_bytes && put->bytes <= S3_PUT_BYTES_MAX)
        rc = upload_whole(&job, put, object, err);
    else
        rc = upload_parts(&job, put, object, err);
    pthread_mutex_destroy(&job.mutex);
    return rc;
}
