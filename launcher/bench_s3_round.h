/*
 * launcher/bench_s3_round.h -- what `convoy bench s3` reads, and one round of reading it all.
 */
#ifndef LAUNCH_BENCH_S3_ROUND_H
#define LAUNCH_BENCH_S3_ROUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct s3_client;
struct uri;

struct launch_bench_object {
    char *key, *etag;
    uint64_t bytes;
    bool seen;
    uint32_t crc32c; /* once seen */
};

/* A range of an object: one request. */
struct launch_bench_range {
    size_t object;
    uint64_t offset, bytes;
    uint32_t crc32c; /* of this round */
    double seconds;
};

struct launch_bench_set {
    struct s3_client *client;
    const char *bucket;
    struct launch_bench_object *objects;
    size_t object_count, object_capacity;
    struct launch_bench_range *ranges; /* in the order of objects and offsets */
    size_t range_count;
    uint64_t bytes, range_bytes; /* of all; of the largest range */
    bool into_memory;            /* else the bytes are only counted, and their CRC-32C */
};

/** List the objects whose keys begin with the URI's and cut them into ranges of at most
 * range_bytes. ERR_INPUT: there is none, or all are empty; ERR_USAGE: too many ranges. client and
 * uri outlive the set; release accepts all-zero. */
int launch_bench_set_list(struct launch_bench_set *set, struct s3_client *client,
                          const struct uri *uri, uint64_t range_bytes, struct err *err);
void launch_bench_set_release(struct launch_bench_set *set);

struct launch_bench_s3_round {
    double seconds, cpu_s; /* the clock's, this process's */
    double request_s, request_s_p95;
    unsigned long long requests, retries, hedged, bytes_in; /* as they came */
};

/** Read all ranges, so many at a time. ERR_INPUT where an object has other bytes than in an earlier
 * round. */
int launch_bench_s3_round_run(struct launch_bench_set *set, int in_flight,
                              struct launch_bench_s3_round *round, struct err *err);

#endif
