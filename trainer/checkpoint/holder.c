/* trainer/checkpoint/holder.c -- see holder.h. */
#include "trainer/checkpoint/holder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/place.h"

#define FORMAT    "convoy-lease-1"
#define BYTES_MAX 65536
#define READS_MAX 5

static char *key_in(const struct place *place)
{
    char *key;

    if (asprintf(&key, "%s" LEASE_NAME, place->prefix) < 0)
        abort();
    return key;
}

static int parse(const struct buf *text, const char *what, struct holder *holder, struct err *err)
{
    const char *format = NULL, *job = NULL, *host = NULL;
    json_t *const object = json_read_text((const char *)text->data, text->bytes, what, err);
    int rc = -1;

    if (object != NULL && json_read_string(object, "format", &format, what, err) == 0 &&
        json_read_string(object, "job", &job, what, err) == 0 &&
        json_read_string(object, "host", &host, what, err) == 0 &&
        json_read_integer(object, "generation", 0, CHECKPOINT_GENERATION_MAX, &holder->generation,
                          what, err) == 0 &&
        json_read_integer(object, "pid", 0, INT64_MAX, &holder->pid, what, err) == 0 &&
        json_read_integer(object, "start", 0, INT64_MAX, &holder->start, what, err) == 0 &&
        json_read_integer(object, "sequence", 0, INT64_MAX, &holder->sequence, what, err) == 0) {
        snprintf(holder->job, sizeof holder->job, "%s", job);
        snprintf(holder->host, sizeof holder->host, "%s", host);
        holder->released = json_is_true(json_object_get(object, "released"));
        rc = strcmp(format, FORMAT) == 0
                 ? 0
                 : err_set(err, ERR_INPUT, "'%s' has the format '%s', not " FORMAT, what, format);
    }
    json_decref(object);
    if (rc < 0)
        err_wrap(err, "this is no lease of ours: remove it, or give another prefix");
    return rc;
}

/* The object has no checksum, and each byte of it counts: whose it is, and since when. Two readings
 * in a row have to be equal. */
static int load(struct s3_client *client, const char *bucket, const char *key, struct buf *text,
                struct s3_object *object, struct err *err)
{
    struct buf before = {0};
    int rc = S3_NO;

    for (int reads = 0; reads < READS_MAX; reads++) {
        text->bytes = 0;
        rc = s3_object_load(client, bucket, key, BYTES_MAX, text, object, err);
        if (rc != S3_YES || (before.bytes == text->bytes && reads > 0 &&
                             memcmp(before.data, text->data, text->bytes) == 0))
            break;
        if (reads == READS_MAX - 1)
            rc = err_set(err, ERR_NET,
                         "%d readings of 's3://%s/%s' differ, each from the one before: something "
                         "on the way changes its bytes; use an endpoint with https, and look at "
                         "the network",
                         READS_MAX, bucket, key);
        before.bytes = 0;
        buf_append(&before, text->data, text->bytes);
    }
    buf_release(&before);
    return rc;
}

int holder_read(struct s3_client *client, const struct place *place, struct holder_seen *seen,
                struct err *err)
{
    char *const key = key_in(place), *const path = place_path(place, LEASE_NAME);
    struct buf text = {0};
    int rc;

    *seen = (struct holder_seen){0};
    rc = load(client, place->bucket, key, &text, &seen->object, err);
    seen->there = rc == S3_YES;
    if (rc == S3_YES)
        rc = parse(&text, path, &seen->holder, err);
    buf_release(&text);
    free(path);
    free(key);
    return rc < 0 ? -1 : 0;
}

/* An ETag without its quotes: AWS takes both for a conditional PUT, Ceph compares only this. */
static void bare_etag(const char *etag, char out[S3_ETAG_CHARS])
{
    const size_t chars = strlen(etag);
    const bool quoted = chars >= 2 && etag[0] == '"' && etag[chars - 1] == '"';

    snprintf(out, S3_ETAG_CHARS, "%.*s", (int)(quoted ? chars - 2 : chars), etag + quoted);
}

int holder_write(struct s3_client *client, const struct place *place, const struct holder *holder,
                 const char *over, struct s3_object *object, struct err *err)
{
    json_t *const value =
        json_pack("{s:s, s:s, s:I, s:s, s:I, s:I, s:I, s:b}", "format", FORMAT, "job", holder->job,
                  "generation", (json_int_t)holder->generation, "host", holder->host, "pid",
                  (json_int_t)holder->pid, "start", (json_int_t)holder->start, "sequence",
                  (json_int_t)holder->sequence, "released", (int)holder->released);
    char *const text = value == NULL ? NULL : json_dumps(value, JSON_COMPACT), *key;
    char etag[S3_ETAG_CHARS];
    int rc;

    json_decref(value);
    if (text == NULL)
        return err_set(err, ERR_USAGE, "the job's id or the host's name is not UTF-8");
    key = key_in(place);
    bare_etag(over, etag);
    rc = s3_object_put(client,
                       &(struct s3_put){.bucket = place->bucket,
                                        .key = key,
                                        .data = text,
                                        .bytes = strlen(text),
                                        .content_type = "application/json",
                                        .if_none = over[0] == '\0',
                                        .if_match = over[0] == '\0' ? NULL : etag},
                       object, err);
    free(key);
    free(text);
    return rc;
}

void holder_remove(struct s3_client *client, const struct place *place)
{
    char *const key = key_in(place);

    (void)s3_object_delete(client, place->bucket, key, NULL);
    free(key);
}
