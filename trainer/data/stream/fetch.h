/*
 * trainer/data/stream/fetch.h -- pictures of a bucket, read ahead by threads into bounded memory,
 * each once.
 *
 * A lane's samples (order.h) are read in groups of consecutive places: a shuffle window, or as much
 * of one as the lane's share of the memory holds. A group is planned (plan.h) as ranges, and these
 * are read in the order in which their first sample is wanted, over all lanes. Each picture is kept
 * by itself and is given up when it is taken, which makes room for the next group's ranges: in the
 * steady state the share holds the rest of one window and the beginning of the next. Nothing ahead
 * of the next group is read, and nothing before the place where the reading begins. An evaluation's
 * range of samples in index order is one lane.
 */
#ifndef DATA_STREAM_FETCH_H
#define DATA_STREAM_FETCH_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct data_cache;
struct data_fetch;
struct data_index;
struct data_order;
struct err;

#define DATA_FETCH_BYTES   ((uint64_t)512 << 20)
/* A small request waits some 20 to 50 ms for its first byte at AWS: 16 at once are 300 to 800
 * pictures a second where each has an object of its own. */
#define DATA_FETCH_THREADS 16

struct data_fetch_options {
    const struct data_index *index; /* of an s3:// root; the caller's, outlives the fetch */
    /* As data_stream_options: training, or (order NULL) evaluation. */
    const struct data_order *order;
    uint32_t lane_begin, lane_end;
    uint32_t epoch, epoch_end;
    uint64_t step;
    uint64_t sample_begin, sample_end;
    /* The most memory that pictures which nobody took yet take up, with those under way; 0:
     * DATA_FETCH_BYTES. A picture that is larger than its lane's share (the most part of this,
     * divided by the lanes) is read nevertheless, alone. */
    uint64_t bytes;
    int threads;              /* requests at a time; 0: DATA_FETCH_THREADS */
    struct data_cache *cache; /* the caller's, outlives the fetch; NULL: none */
    /* Ends a wait in data_fetch_take when it becomes non-zero; may be NULL. */
    const volatile sig_atomic_t *cancel;
};

/** Start the threads and begin to read. NULL: ERR_INPUT, ERR_USAGE (settings of S3), ERR_MEMORY. */
struct data_fetch *data_fetch_new(const struct data_fetch_options *options, struct err *err);
/** Let everybody who waits in data_fetch_take, now or later, return ERR_STOPPED, and end what is
 * under way. Any thread. Accepts NULL. */
void data_fetch_stop(struct data_fetch *fetch);
/** Stop, and free. Takes a fraction of a second, whatever the network does. Nobody may be in
 * data_fetch_take any more. Accepts NULL. */
void data_fetch_free(struct data_fetch *fetch);

/**
 * Replace what is in `out` by the bytes of the sample at a place of a lane, and *label by its
 * label; waits until they are there. Evaluation: epoch and lane are 0, place counts from
 * sample_begin. Each place is taken once; lanes advance in any relation to each other, and takes of
 * one lane may overtake each other (several threads have pictures in hand), but all must come for
 * the reading to go on.
 *
 * ERR_INPUT names the object: gone, replaced since it was listed, or (shards) a sample that has
 * another CRC-32C than its index says each time it is read; ERR_NET, ERR_MEMORY, ERR_STOPPED.
 */
int data_fetch_take(struct data_fetch *fetch, uint32_t epoch, uint32_t lane, uint64_t place,
                    struct buf *out, int32_t *label, struct err *err);

struct data_fetch_stats {
    uint64_t requests;  /* ranges read, but for those that the cache had */
    uint64_t bytes;     /* of these ranges */
    uint64_t held_max;  /* the most memory held at any time */
    uint64_t groups;    /* planned so far */
    uint64_t range_max; /* the longest range with more than one sample */
    uint64_t damaged;   /* samples of shards that came with a wrong CRC-32C and were read again */
};
void data_fetch_stats(struct data_fetch *fetch, struct data_fetch_stats *stats);

#endif
