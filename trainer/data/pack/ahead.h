/*
 * trainer/data/pack/ahead.h -- samples of a source, read by several threads and taken in order.
 *
 * Reading waits for disks and networks, so it is threads' business; what is written is the taker's,
 * in one order, whatever the threads do. What was read and not taken stays within
 * DATA_AHEAD_BYTES, but for the sample that is taken next, which may be of any size.
 */
#ifndef DATA_PACK_AHEAD_H
#define DATA_PACK_AHEAD_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct data_ahead;
struct data_source;
struct err;

#define DATA_AHEAD_BYTES          ((uint64_t)128 << 20)
#define DATA_AHEAD_SAMPLES        1024
#define DATA_AHEAD_THREADS        8
/* A request waits 20 to 50 ms for its first byte at AWS: as many as of training (fetch.h). */
#define DATA_AHEAD_THREADS_REMOTE 16

/** Begin to read these samples (count of them, kept by the caller) in their order. threads 0: as
 * above. Never NULL; free accepts NULL and ends what is under way. */
struct data_ahead *data_ahead_new(const struct data_source *source, const uint64_t *samples,
                                  size_t count, int threads, const volatile sig_atomic_t *cancel);
void data_ahead_free(struct data_ahead *ahead);

/** The next sample's bytes replace what is in `out`; waits for them. Of several failures the one
 * that comes first in order is told, whatever thread met it. ERR_STOPPED; what data_source_get
 * says. */
int data_ahead_take(struct data_ahead *ahead, struct buf *out, struct err *err);

#endif
