/*
 * launcher/s3/parallel.h -- do something with each of many things, several at a time.
 */
#ifndef LAUNCH_S3_PARALLEL_H
#define LAUNCH_S3_PARALLEL_H

#include <signal.h>
#include <stddef.h>

struct err;

/** Does the thing of this index. Runs in several threads. 0, or -1 with err. */
typedef int launch_s3_parallel_work(void *context, size_t index, struct err *err);

struct launch_parallel {
    size_t count;
    int threads; /* at most so many things at a time; no more threads are started than things */
    launch_s3_parallel_work *work;
    void *context;
    /* Set when a thing fails, so that those under way end soon; when another sets it (a signal), no
     * more are begun. */
    volatile sig_atomic_t *cancel;
};

/** Begin the things in the order of their indices; a later one may so wait for an earlier one.
 * Returns when all are done: 0, or -1 with the first failure; ERR_STOPPED when cancel kept some
 * from being begun. */
int launch_s3_parallel_run(const struct launch_parallel *parallel, struct err *err);

#endif
