#include "s3io/job.h"

#include <stdlib.h>

#include "s3io/object.h"

#define PARTS_MAX      10000
#define PART_BYTES_MAX ((uint64_t)5 << 30)
#define THREADS_MAX    256

uint64_t s3_job_part(const struct s3_job *job, int index, uint64_t *bytes)
{
    const uint64_t begin = (uint64_t)index * job->part_bytes;

    *bytes = job->bytes - begin < job->part_bytes ? job->bytes - begin : job->part_bytes;
    return begin;
}

void s3_job_add(struct s3_job *job, uint64_t bytes)
{
    pthread_mutex_lock(&job->mutex);
    job->done += bytes;
    if (job->transfer->progress != NULL)
        job->transfer->progress(job->transfer->context, job->done, job->bytes);
    pthread_mutex_unlock(&job->mutex);
}

/* The next part; -1: none is left, or one has failed. */
static int job_take(struct s3_job *job)
{
    int index;

    pthread_mutex_lock(&job->mutex);
    index = job->failed || job->next == job->part_count ? -1 : job->next++;
    pthread_mutex_unlock(&job->mutex);
    return index;
}

static void job_fail(struct s3_job *job, const struct err *err)
{
    pthread_mutex_lock(&job->mutex);
    if (!job->failed)
        job->err = *err;
    job->failed = true;
    __atomic_store_n(&job->stop, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&job->mutex);
}

static void *work(void *context)
{
    struct s3_job *job = context;
    void *scratch = malloc(job->scratch_bytes > 0 ? job->scratch_bytes : 1);
    struct err err = {0};
    int index;

    if (scratch == NULL) {
        err_set(&err, ERR_MEMORY, "out of memory for a part of %zu bytes", job->scratch_bytes);
        job_fail(job, &err);
    }
    while (scratch != NULL && (index = job_take(job)) >= 0)
        if (job->move(job, index, scratch, &err) < 0)
            job_fail(job, &err);
    free(scratch);
    return NULL;
}

int s3_job_run(struct s3_job *job, struct err *err)
{
    pthread_t threads[THREADS_MAX];
    int wanted = job->transfer->threads > 0 ? job->transfer->threads : S3_TRANSFER_THREADS;
    int started = 0;

    wanted = wanted > THREADS_MAX ? THREADS_MAX : wanted;
    wanted = wanted > job->part_count ? job->part_count : wanted;
    while (started < wanted - 1 && pthread_create(&threads[started], NULL, work, job) == 0)
        started++;
    work(job);
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    if (!job->failed)
        return 0;
    if (err != NULL)
        *err = job->err;
    return -1;
}

const struct s3_transfer *s3_job_transfer(const struct s3_transfer *transfer)
{
    static const struct s3_transfer fallback;

    return transfer != NULL ? transfer : &fallback;
}

void s3_job_cut(struct s3_job *job, uint64_t bytes, uint64_t part_bytes_min)
{
    uint64_t part =
        job->transfer->part_bytes > 0 ? job->transfer->part_bytes : S3_TRANSFER_PART_BYTES;

    part = part < part_bytes_min ? part_bytes_min : part;
    part = part > PART_BYTES_MAX ? PART_BYTES_MAX : part;
    while ((bytes + part - 1) / part > PARTS_MAX)
        part *= 2;
    job->bytes = bytes;
    job->part_bytes = part;
    job->part_count = (int)((bytes + part - 1) / part);
}
