#include "s3io/object.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "s3io/address.h"
#include "s3io/head.h"
#include "s3io/put.h"
#include "s3io/request.h"
#include "s3io/stream.h"
#include "s3io/upload_resume.h"

#define READS_MAX 3

static int into_memory(void *context, uint64_t offset, const void *data, size_t bytes,
                       const struct s3_object *object, struct err *err)
{
    (void)object, (void)err;
    if (context != NULL)
        memcpy((unsigned char *)context + offset, data, bytes);
    return 0;
}

/* No range of bytes can say "none of them". */
static int read_nothing(struct s3_client *client, const struct s3_get *get,
                        struct s3_object *object, struct err *err)
{
    const struct s3_head head = {.bucket = get->bucket, .key = get->key};
    const int rc = s3_head(client, &head, object, err);

    if (rc == S3_YES && get->if_match != NULL && strcmp(get->if_match, object->etag) != 0)
        return err_set(err, ERR_INPUT, "'%s' was replaced while it was read",
                       s3_address_name(get->bucket, get->key).text);
    if (rc == S3_YES && get->offset > object->bytes)
        return err_set(err, ERR_INPUT, "'%s' has no byte %" PRIu64,
                       s3_address_name(get->bucket, get->key).text, get->offset);
    return rc;
}

int s3_object_compare(const struct s3_object *object, uint32_t crc32c, struct err *err)
{
    if (!object->has_crc32c || object->crc32c == crc32c)
        return 0;
    return err_set(err, ERR_NET,
                   "the %" PRIu64 " bytes that came have CRC-32C %08x, the object %08x",
                   object->bytes, crc32c, object->crc32c);
}

/* *damaged: it came whole, but not as the server says it is. */
static int stream_once(struct s3_client *client, const struct s3_get *get, s3_stream_sink *sink,
                       void *context, struct s3_object *object, bool *damaged, struct err *err)
{
    const int rc = s3_stream_read(client, get, sink, context, object, err);

    *damaged =
        rc == S3_YES && get->crc32c != NULL && s3_object_compare(object, *get->crc32c, err) < 0;
    return *damaged ? -1 : rc;
}

int s3_object_read(struct s3_client *client, const struct s3_get *get, void *out,
                   struct s3_object *object, struct err *err)
{
    const bool all = get->offset == 0 && get->bytes == get->object_bytes;
    struct s3_get counted = *get;
    struct s3_object unseen;
    uint32_t crc32c;
    bool damaged = true;
    int rc = -1;

    assert(!get->whole);
    object = object == NULL ? &unseen : object;
    if (get->bytes == 0)
        return read_nothing(client, get, object, err);
    if (all && counted.crc32c == NULL)
        counted.crc32c = &crc32c;
    for (int reads = 0; damaged && reads < READS_MAX; reads++)
        rc = stream_once(client, &counted, into_memory, out, object, &damaged, err);
    if (rc < 0)
        err_wrap(err, "cannot get '%s'", s3_address_name(get->bucket, get->key).text);
    return rc;
}

struct load {
    struct buf *out;
    size_t begin, bytes_max;
};

static int into_buf(void *context, uint64_t offset, const void *data, size_t bytes,
                    const struct s3_object *object, struct err *err)
{
    struct load *load = context;

    if (object->bytes > load->bytes_max)
        return err_set(err, ERR_INPUT, "it has %" PRIu64 " bytes, at most %zu are read",
                       object->bytes, load->bytes_max);
    if (offset == 0 && buf_reserve(load->out, (size_t)object->bytes, err) < 0)
        return -1;
    assert(load->out->bytes == load->begin + offset);
    buf_append(load->out, data, bytes);
    return 0;
}

int s3_object_load(struct s3_client *client, const char *bucket, const char *key, size_t bytes_max,
                   struct buf *out, struct s3_object *object, struct err *err)
{
    return s3_object_load_until(client, &(struct s3_get){.bucket = bucket, .key = key}, bytes_max,
                                out, object, err);
}

int s3_object_load_until(struct s3_client *client, const struct s3_get *get, size_t bytes_max,
                         struct buf *out, struct s3_object *object, struct err *err)
{
    struct load load = {.out = out, .begin = out->bytes, .bytes_max = bytes_max};
    uint32_t crc32c;
    const struct s3_get whole = {.bucket = get->bucket,
                                 .key = get->key,
                                 .whole = true,
                                 .cancel = get->cancel,
                                 .crc32c = &crc32c};
    struct s3_object unseen;
    bool damaged = true;
    int rc = -1;

    object = object == NULL ? &unseen : object;
    for (int reads = 0; damaged && reads < READS_MAX; reads++) {
        rc = stream_once(client, &whole, into_buf, &load, object, &damaged, err);
        if (rc != S3_YES)
            out->bytes = load.begin;
    }
    if (rc < 0)
        err_wrap(err, "cannot get '%s'", s3_address_name(get->bucket, get->key).text);
    return rc;
}

static int look(struct s3_client *client, const char *bucket, const char *key, bool checksum,
                struct s3_object *object, struct err *err)
{
    const struct s3_head head = {.bucket = bucket, .key = key, .checksum = checksum};
    struct s3_object unseen;

    return s3_head(client, &head, object == NULL ? &unseen : object, err);
}

int s3_object_head(struct s3_client *client, const char *bucket, const char *key,
                   struct s3_object *object, struct err *err)
{
    return look(client, bucket, key, false, object, err);
}

int s3_object_head_crc32c(struct s3_client *client, const char *bucket, const char *key,
                          struct s3_object *object, struct err *err)
{
    return look(client, bucket, key, client->config.asks_checksums, object, err);
}

size_t s3_put_conditions(const struct s3_put *put, struct s3_pair *headers)
{
    size_t count = 0;

    if (put->if_none)
        headers[count++] = (struct s3_pair){"if-none-match", "*"};
    if (put->if_match != NULL)
        headers[count++] = (struct s3_pair){"if-match", put->if_match};
    return count;
}

size_t s3_put_kind(const struct s3_put *put, const struct s3_config *config,
                   struct s3_pair *headers)
{
    size_t count = 0;

    headers[count++] = (struct s3_pair){
        "content-type", put->content_type != NULL ? put->content_type : "application/octet-stream"};
    if (config->sse != NULL)
        headers[count++] = (struct s3_pair){"x-amz-server-side-encryption", config->sse};
    if (config->sse_key_id != NULL)
        headers[count++] =
            (struct s3_pair){"x-amz-server-side-encryption-aws-kms-key-id", config->sse_key_id};
    return count;
}

bool s3_put_is_unsigned(const struct s3_config *config, bool checksum)
{
    return checksum && (config->endpoint == NULL || strncmp(config->endpoint, "https:", 6) == 0);
}

/* The condition did not hold, but the answer to an earlier try was lost: what is there now may be
 * ours. */
static int was_ours(struct s3_client *client, const struct s3_put *put, struct s3_object *object,
                    struct err *err)
{
    struct s3_get get = {.bucket = put->bucket, .key = put->key, .bytes = put->bytes};
    bool ours = false;
    void *data;
    int rc;

    rc = s3_object_head(client, put->bucket, put->key, object, err);
    if (rc != S3_YES || object->bytes != put->bytes)
        return rc == S3_YES ? S3_NO : rc;
    if (put->bytes == 0)
        return S3_YES;
    data = malloc(put->bytes);
    if (data == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for the %zu bytes of '%s'", put->bytes,
                       s3_address_name(put->bucket, put->key).text);
    get.if_match = object->etag;
    /* No checksum tells whether bytes that differ became so on their way. */
    for (int reads = 0; reads < READS_MAX && rc == S3_YES && !ours; reads++) {
        rc = s3_object_read(client, &get, data, NULL, err);
        ours = rc == S3_YES && memcmp(data, put->data, put->bytes) == 0;
    }
    if (rc == S3_YES && !ours)
        rc = S3_NO;
    free(data);
    return rc;
}

int s3_object_put(struct s3_client *client, const struct s3_put *put, struct s3_object *object,
                  struct err *err)
{
    const bool conditional = put->if_none || put->if_match != NULL;
    struct s3_pair headers[S3_REQUEST_HEADERS_MAX];
    struct s3_request request = {.method = "PUT",
                                 .bucket = put->bucket,
                                 .key = put->key,
                                 .headers = headers,
                                 .body = put->data,
                                 .body_bytes = put->bytes,
                                 .permission = "s3:PutObject",
                                 .etag = true};
    struct s3_tries tries = {0};
    struct s3_object unseen;
    int status, rc = -1;

    object = object == NULL ? &unseen : object;
    if (put->bytes > S3_PUT_BYTES_MAX)
        return err_set(err, ERR_INPUT, "'%s': one request takes at most 5 GiB",
                       s3_address_name(put->bucket, put->key).text);
    s3_upload_sweep(client);
    request.header_count = s3_put_kind(put, &client->config, headers);
    request.header_count += s3_put_conditions(put, headers + request.header_count);
    status = s3_request_send(client, &request, &tries, err);
    if (status / 100 == 2) {
        s3_stream_object(object, &tries.answer);
        object->bytes = put->bytes;
        rc = S3_YES;
    } else if (conditional && (status == 412 || status == 409 || status == 404)) {
        rc = tries.lost ? was_ours(client, put, object, err) : S3_NO;
    } else if (status > 0) {
        s3_request_fail(client, &request, &tries, err);
    }
    if (rc < 0)
        err_wrap(err, "cannot put '%s'", s3_address_name(put->bucket, put->key).text);
    s3_tries_release(&tries);
    return rc;
}

int s3_object_delete(struct s3_client *client, const char *bucket, const char *key, struct err *err)
{
    const struct s3_request request = {
        .method = "DELETE", .bucket = bucket, .key = key, .permission = "s3:DeleteObject"};
    struct s3_tries tries = {0};
    const int status = s3_request_send(client, &request, &tries, err);
    int rc = -1;

    if (status / 100 == 2 || status == 404)
        rc = S3_YES;
    else if (status > 0)
        s3_request_fail(client, &request, &tries, err);
    if (rc < 0)
        err_wrap(err, "cannot delete '%s'", s3_address_name(bucket, key).text);
    s3_tries_release(&tries);
    return rc;
}

int s3_object_missing(const char *bucket, const char *key, struct err *err)
{
    return err_set(err, ERR_INPUT, "'%s': no such key", s3_address_name(bucket, key).text);
}
