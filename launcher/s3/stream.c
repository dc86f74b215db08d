#include "launcher/s3/stream.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/err.h"
#include "launcher/s3/parallel.h"
#include "s3io/client.h"
#include "s3io/object.h"

struct stream {
    const struct launch_s3 *s3;
    const char *bucket, *key, *what;
    int fd;
    struct s3_object object;
    uint32_t *crc32cs;     /* of each part, in order; each is one thread's */
    pthread_mutex_t mutex; /* guards the next three */
    size_t written;        /* parts */
    bool failed;
    struct err
        err; /* of the part that failed first; those that waited for it have no more to say */
    pthread_cond_t changed;
};

static int read_part(struct stream *stream, size_t part, void *out, size_t bytes, struct err *err)
{
    const struct s3_get get = {.bucket = stream->bucket,
                               .key = stream->key,
                               .offset = part * S3_TRANSFER_PART_BYTES,
                               .bytes = bytes,
                               .object_bytes = stream->object.bytes,
                               .crc32c = &stream->crc32cs[part],
                               .if_match = stream->object.etag};
    const int rc = s3_object_read(stream->s3->client, &get, out, NULL, err);

    return rc == S3_NO ? s3_object_missing(stream->bucket, stream->key, err) : rc;
}

/* Parts are begun in their order and each thread holds one, so the one whose turn it is never
 * waits. */
static bool wait_for_turn(struct stream *stream, size_t part)
{
    bool turn;

    pthread_mutex_lock(&stream->mutex);
    while (stream->written < part && !stream->failed)
        pthread_cond_wait(&stream->changed, &stream->mutex);
    turn = !stream->failed;
    pthread_mutex_unlock(&stream->mutex);
    return turn;
}

static void end_turn(struct stream *stream, int rc, const struct err *err)
{
    pthread_mutex_lock(&stream->mutex);
    if (rc < 0 && !stream->failed)
        stream->err = *err;
    stream->failed = stream->failed || rc < 0;
    stream->written += rc == 0;
    pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->mutex);
}

static size_t part_bytes(const struct stream *stream, size_t part)
{
    const uint64_t rest = stream->object.bytes - part * S3_TRANSFER_PART_BYTES;

    return rest < S3_TRANSFER_PART_BYTES ? rest : S3_TRANSFER_PART_BYTES;
}

static int copy_part(void *context, size_t part, struct err *err)
{
    struct stream *const stream = context;
    const size_t bytes = part_bytes(stream, part);
    void *const data = malloc(bytes);
    int rc = -1;

    if (data == NULL)
        err_set(err, ERR_MEMORY, "no memory for %zu bytes of the object", bytes);
    else if (read_part(stream, part, data, bytes, err) > 0)
        rc = 0;
    if (rc == 0 && !wait_for_turn(stream, part))
        rc = err_set(err, ERR_STOPPED, "stopped");
    else if (rc == 0)
        rc = launch_s3_write(stream->fd, data, bytes, stream->what, err);
    end_turn(stream, rc, err);
    if (rc == 0)
        launch_s3_meter_move(stream->s3->meter, (int64_t)bytes);
    free(data);
    return rc;
}

/* All of them are written: what was changed on its way is known too late, but not kept quiet. */
static int compare(const struct stream *stream, size_t count, struct err *err)
{
    uint32_t crc32c = 0;

    for (size_t part = 0; part < count; part++)
        crc32c = digest_crc32c_join(crc32c, stream->crc32cs[part], part_bytes(stream, part));
    if (s3_object_compare(&stream->object, crc32c, err) == 0)
        return 0;
    return err_wrap(err, "what was written to %s is not 's3://%s/%s'", stream->what, stream->bucket,
                    stream->key);
}

int launch_s3_stream(const struct launch_s3 *s3, const char *bucket, const char *key, int fd,
                     const char *what, struct err *err)
{
    struct stream stream = {.s3 = s3, .bucket = bucket, .key = key, .what = what, .fd = fd};
    struct launch_parallel parallel = {.threads = S3_TRANSFER_THREADS,
                                       .work = copy_part,
                                       .context = &stream,
                                       .cancel = s3->cancel};
    int rc = s3_object_head_crc32c(s3->client, bucket, key, &stream.object, err);

    if (rc == S3_NO)
        return s3_object_missing(bucket, key, err);
    if (rc < 0)
        return -1;
    launch_s3_meter_expect(s3->meter, 1, stream.object.bytes);
    pthread_mutex_init(&stream.mutex, NULL);
    pthread_cond_init(&stream.changed, NULL);
    parallel.count =
        (size_t)((stream.object.bytes + S3_TRANSFER_PART_BYTES - 1) / S3_TRANSFER_PART_BYTES);
    stream.crc32cs = calloc(parallel.count + 1, sizeof *stream.crc32cs);
    if (stream.crc32cs == NULL)
        abort();
    rc = launch_s3_parallel_run(&parallel, err);
    if (stream.failed)
        *err = stream.err;
    if (rc == 0)
        rc = compare(&stream, parallel.count, err);
    free(stream.crc32cs);
    if (rc == 0)
        launch_s3_meter_object(s3->meter);
    pthread_cond_destroy(&stream.changed);
    pthread_mutex_destroy(&stream.mutex);
    return rc;
}

static int cat_one(const struct launch_s3 *s3, const char *text, struct err *err)
{
    struct uri uri = {0};
    int rc = launch_s3_uri_parse(&uri, text, err);

    if (rc == 0 && uri.path[0] == '\0')
        rc = err_set(err, ERR_USAGE, "'%s' has no key; write s3://BUCKET/KEY", text);
    if (rc == 0)
        rc = launch_s3_stream(s3, uri.bucket, uri.path, STDOUT_FILENO, "stdout", err);
    uri_release(&uri);
    return rc;
}

int launch_s3_cat(const struct launch_s3 *s3, struct err *err)
{
    if (s3->words->count == 0)
        return err_set(err, ERR_USAGE, "cat needs s3://BUCKET/KEY");
    for (size_t i = 0; i < s3->words->count; i++)
        if (cat_one(s3, s3->words->at[i], err) < 0)
            return -1;
    return 0;
}
