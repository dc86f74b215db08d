#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/log.h"
#include "s3io/address.h"
#include "s3io/job.h"
#include "s3io/object.h"
#include "s3io/stream.h"

struct landing {
    struct s3_job *job;
    uint64_t begin;
};

static int into_file(void *context, uint64_t offset, const void *data, size_t bytes,
                     const struct s3_object *object, struct err *err)
{
    struct landing *const landing = context;
    const char *from = data;
    uint64_t at = landing->begin + offset;
    size_t left = bytes;

    if (offset == 0 && landing->job->part_count == 1)
        landing->job->bytes = object->bytes; /* by now it may be another one than was listed */
    while (left > 0) {
        const ssize_t n = pwrite(landing->job->fd, from, left, (off_t)at);

        if (n < 0 && errno != EINTR)
            return err_set_errno(err, ERR_IO, errno, "cannot write the file it goes to");
        if (n > 0) {
            from += n;
            at += (uint64_t)n;
            left -= (size_t)n;
        }
    }
    s3_job_add(landing->job, bytes);
    return 0;
}

/* What the parts share. */
struct download {
    const char *etag;  /* of the object that all parts must be of */
    uint32_t *crc32cs; /* of each part, in order; each is one thread's */
};

static int download_part(struct s3_job *job, int index, void *scratch, struct err *err)
{
    const struct download *const download = job->context;
    struct landing landing = {.job = job};
    struct s3_get get = {.bucket = job->bucket,
                         .key = job->key,
                         .if_match = download->etag,
                         .stop = &job->stop,
                         .crc32c = &download->crc32cs[index]};
    struct s3_object object;
    int rc;

    (void)scratch;
    get.offset = landing.begin = s3_job_part(job, index, &get.bytes);
    rc = s3_stream_read(job->client, &get, into_file, &landing, &object, err);
    if (rc == S3_NO)
        return err_set(err, ERR_INPUT, "it was deleted while it was read");
    return rc < 0 ? -1 : 0;
}

/* Whether the parts together have the CRC-32C that the server says the object has. */
static int compare(const struct s3_job *job, const struct s3_object *object, struct err *err)
{
    const struct download *const download = job->context;
    uint32_t crc32c = 0;

    for (int i = 0; i < job->part_count; i++) {
        uint64_t bytes;

        s3_job_part(job, i, &bytes);
        crc32c = digest_crc32c_join(crc32c, download->crc32cs[i], bytes);
    }
    return s3_object_compare(object, crc32c, err);
}

/* All parts; once more where what came is not what the server has. */
static int move(struct s3_job *job, const struct s3_object *object, struct err *err)
{
    if (s3_job_run(job, err) < 0)
        return -1;
    if (compare(job, object, err) == 0)
        return 0;
    log_warn("'%s': %s; it is read once more", s3_address_name(job->bucket, job->key).text,
             err->msg);
    job->next = 0;
    job->done = 0;
    return s3_job_run(job, err) < 0 ? -1 : compare(job, object, err);
}

/* A small object, by one request. *doubtful: it is not as the server says it is, or empty where the
 * listing had bytes; the parts find out once more. */
static int download_whole(struct s3_job *job, struct s3_object *object, bool *doubtful,
                          struct err *err)
{
    struct landing landing = {.job = job};
    uint32_t crc32c = 0;
    const struct s3_get get = {
        .bucket = job->bucket, .key = job->key, .whole = true, .crc32c = &crc32c};
    int rc = s3_stream_read(job->client, &get, into_file, &landing, object, err);

    *doubtful = rc == S3_YES && (s3_object_compare(object, crc32c, NULL) < 0 ||
                                 (object->bytes == 0 && job->transfer->bytes_likely > 0));
    if (rc == S3_YES && ftruncate(job->fd, (off_t)object->bytes) < 0)
        rc = err_set_errno(err, ERR_IO, errno, "cannot give the file %" PRIu64 " bytes",
                           object->bytes);
    if (rc < 0)
        err_wrap(err, "cannot get '%s'", s3_address_name(job->bucket, job->key).text);
    return rc;
}

/* Its length first, then its parts. */
static int download_parts(struct s3_job *job, struct s3_object *object, struct err *err)
{
    struct download download = {0};
    int rc = s3_object_head_crc32c(job->client, job->bucket, job->key, object, err);

    if (rc != S3_YES)
        return rc;
    /* What a longer file held before must not stand behind the object's bytes. */
    if (ftruncate(job->fd, (off_t)object->bytes) < 0)
        return err_set_errno(err, ERR_IO, errno, "cannot give the file for '%s' %" PRIu64 " bytes",
                             s3_address_name(job->bucket, job->key).text, object->bytes);
    download.etag = object->etag;
    job->move = download_part;
    job->context = &download;
    s3_job_cut(job, object->bytes, 1);
    download.crc32cs = calloc((size_t)job->part_count + 1, sizeof *download.crc32cs);
    if (download.crc32cs == NULL)
        abort();
    if (job->part_count > 0 && move(job, object, err) < 0)
        rc = err_wrap(err, "cannot get '%s'", s3_address_name(job->bucket, job->key).text);
    free(download.crc32cs);
    return rc;
}

int s3_object_download(struct s3_client *client, const char *bucket, const char *key, int fd,
                       const struct s3_transfer *transfer, struct s3_object *object,
                       struct err *err)
{
    struct s3_job job = {.client = client, .bucket = bucket, .key = key, .fd = fd};
    struct s3_object unseen;
    bool doubtful = true;
    int rc = -1;

    object = object == NULL ? &unseen : object;
    job.transfer = s3_job_transfer(transfer);
    s3_job_cut(&job, job.transfer->bytes_likely, 1);
    pthread_mutex_init(&job.mutex, NULL);
    if (job.part_count == 1)
        rc = download_whole(&job, object, &doubtful, err);
    if (job.part_count != 1 || (rc == S3_YES && doubtful)) {
        job.done = 0;
        rc = download_parts(&job, object, err);
    }
    pthread_mutex_destroy(&job.mutex);
    return rc;
}
