/*
 * trainer/data/stream/stream.h -- micro-batches, read, decoded and transformed ahead by threads.
 *
 * Threads of its own fill a bounded ring of micro-batch buffers; the caller takes them in order.
 * What a micro-batch holds is given by the order (training) or by the range (evaluation), never by
 * timing.
 */
#ifndef DATA_STREAM_H
#define DATA_STREAM_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/data/index/order.h"
#include "trainer/data/picture/transform.h"

struct data_cache;
struct data_index;
struct data_stream;
struct err;

/* A picture that was left out. */
struct data_bad {
    uint64_t sample;
    char why[256]; /* its name, and what is wrong with it; longer: " ... " for the middle */
};

/* What is in it is the stream's, and valid until data_stream_give_back. */
struct data_batch {
    float *x;             /* (n, size, size, 3) */
    int32_t *labels;      /* (n) */
    uint64_t *samples;    /* (n) index places, ascending in an evaluation */
    int n;                /* 0 where all were left out */
    struct data_bad *bad; /* (bad_count) those that were left out, in their order */
    int bad_count;
    uint32_t epoch, lane;
    uint64_t step; /* of the epoch; evaluation: number of the batch */
    int slot;      /* the stream's own */
};

struct data_stream_options {
    const struct data_index *index; /* the caller's; outlives the stream */
    struct data_transform transform;
    /* Training: lanes lane_begin .. lane_end - 1 of each step from (epoch, step) on, lane by lane,
     * step by step, epoch after epoch up to epoch_end (exclusive); absent micro-batches are left
     * out. order == NULL means evaluation: samples sample_begin .. sample_end - 1 in index order,
     * micro_batch at a time, as their view in `epoch`. */
    const struct data_order *order;
    uint32_t lane_begin, lane_end;
    uint32_t epoch, epoch_end;
    uint64_t step;
    uint64_t sample_begin, sample_end;
    int micro_batch; /* the most images a batch holds */
    int threads;     /* >= 1 */
    int depth;       /* batches decoded ahead, >= 2 */
    /* Where the index is of an s3:// root, as data_fetch_options; not looked at for others. */
    uint64_t fetch_bytes;
    int fetch_threads;
    struct data_cache *cache;
    /* A picture that cannot be decoded is an error; else it is left out: its micro-batch has one
     * less, the others move up. */
    bool stop_at_bad;
    /* Pictures that cannot be read are left out too: files that are gone, not allowed, of another
     * length than the index says or that the disk does not give; objects that are gone, not allowed
     * or replaced since; of shards, what ERR_INPUT tells. */
    bool leave_unreadable;
    bool time_stages; /* fill in the times of data_stream_stats */
};

/** Start the threads and begin to fill. NULL: ERR_MEMORY (names micro-batch and image size); what
 * data_fetch_new says. */
struct data_stream *data_stream_new(const struct data_stream_options *options, struct err *err);
/** Stop the threads (waits for the pictures in hand) and free. Accepts NULL. */
void data_stream_free(struct data_stream *stream);

/**
 * Take the next micro-batch; blocks until it is whole. cancel (may be NULL) is looked at every few
 * milliseconds while waiting. Returns 1 with *batch set; 0 at the end; -1: ERR_INPUT naming the
 * file (unreadable, CRC-32C mismatch: "does not match its index"; with stop_at_bad: no picture),
 * ERR_NET, ERR_STOPPED when cancelled.
 */
int data_stream_next(struct data_stream *stream, struct data_batch *batch,
                     const volatile sig_atomic_t *cancel, struct err *err);
/** Let the stream fill the batch's memory anew. Each is given back once, in any order. */
void data_stream_give_back(struct data_stream *stream, const struct data_batch *batch);

enum data_stage { DATA_STAGE_READ, DATA_STAGE_DECODE, DATA_STAGE_TRANSFORM, DATA_STAGES };

/* What was noticed so far. */
struct data_stream_stats {
    uint64_t images;
    uint64_t truncated;        /* JPEGs whose data ended early */
    char truncated_first[256]; /* the first of them, "" if none */
    uint64_t left_out;         /* pictures that could not be decoded; not among images */
    char left_out_first[256];  /* the first of them and why, "" if none */
    double wait_s;             /* time callers of next spent waiting */
    /* With time_stages: what the stream's threads took, added up; reading from S3 is waiting, as
     * other threads do the work. */
    double stage_s[DATA_STAGES], stage_cpu_s[DATA_STAGES];
};
/** Copied into the caller's. */
void data_stream_stats(struct data_stream *stream, struct data_stream_stats *stats);

#endif
