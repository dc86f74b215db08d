/*
 * s3io/job.h -- an object's parts, and the threads that move one after the other. For download.c
 * and upload.c.
 */
#ifndef S3IO_JOB_H
#define S3IO_JOB_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct s3_client;
struct s3_transfer;

struct s3_job {
    struct s3_client *client;
    const char *bucket, *key;
    int fd;
    uint64_t bytes, part_bytes;
    int part_count;
    int (*move)(struct s3_job *job, int index, void *scratch, struct err *err);
    size_t scratch_bytes; /* per thread */
    const struct s3_transfer *transfer;
    void *context; /* of whoever moves */

    volatile sig_atomic_t
        stop; /* set when a part has failed: what the others wait for is in vain */

    pthread_mutex_t mutex; /* guards what follows, and the calls of progress; the owner makes it */
    int next;              /* part that nobody has taken */
    uint64_t done;         /* bytes */
    bool failed;
    struct err err; /* the first failure */
};

/** Where a part begins, and its length. */
uint64_t s3_job_part(const struct s3_job *job, int index, uint64_t *bytes);

/** So many bytes more are done. */
void s3_job_add(struct s3_job *job, uint64_t bytes);

/** What the caller asked for, or the defaults. */
const struct s3_transfer *s3_job_transfer(const struct s3_transfer *transfer);

/** Cut into parts; their length grows where there would be too many. job->transfer is set. */
void s3_job_cut(struct s3_job *job, uint64_t bytes, uint64_t part_bytes_min);

/** Move all parts: this thread and others beside it. Those that cannot be started are not missed.
 * 0, or -1 with the first failure. */
int s3_job_run(struct s3_job *job, struct err *err);

#endif
