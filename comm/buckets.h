/*
 * comm/buckets.h -- the runs in which a vector travels.
 *
 * A vector's prefix, which may be empty, has buckets of its own: what is in it is never rounded
 * (comm/wire.h). The last buckets are smaller: from the end they double until they have the length
 * of all others. A vector's end is the first layers', final when backward is over, and the next
 * forward waits for it at once.
 *
 * Pure arithmetic; no MPI.
 */
#ifndef COMM_BUCKETS_H
#define COMM_BUCKETS_H

#include <stdbool.h>
#include <stddef.h>

/* A run of a vector's floats. */
struct comm_run {
    size_t begin, count;
};

struct comm_buckets {
    size_t floats; /* of the vector */
    size_t prefix; /* its first ones */
    size_t most;   /* floats of a bucket, at least 1 */
    size_t last;   /* of the last one, at most `most`, which is what 0 stands for */
};

/** How many there are. */
int comm_buckets_count(const struct comm_buckets *buckets);
/** The floats of bucket `number`. */
struct comm_run comm_buckets_run(const struct comm_buckets *buckets, int number);
/** The bucket that float `index` is in. */
int comm_buckets_at(const struct comm_buckets *buckets, size_t index);
/** Whether a bucket is of the prefix. */
bool comm_buckets_is_prefix(const struct comm_buckets *buckets, int number);
/** Floats of the largest bucket. */
size_t comm_buckets_largest(const struct comm_buckets *buckets);

#endif
