/*
 * comm/traffic.h -- one step's vector on its way: from every rank's partial sums to the one sum of
 * all leaves on every host, bucket by bucket.
 *
 * A bucket's way: once it is final on all ranks of this host, the handlers of its chunks add up
 * what the host has of them (comm/pieces.h) and send it to the chunks' owners; an owner adds up the
 * parts of all hosts in the canonical tree and sends the sum to the handlers of every host, who put
 * it where all ranks of their host see it. 2 (H-1)/H of the bytes leave a host where it has one
 * part, as with a ring, in two rounds, and the order of additions is free: element by element it is
 * the tree's, so neither buckets, ranks, hosts nor arrival change a bit.
 *
 * With COMM_WIRE_BF16 what travels between hosts is rounded (comm/wire.h), but for the vector's
 * prefix: a host's parts become one, which is rounded where it is sent, and the sum is rounded once
 * more, for all. Sums are taken of floats. An owner's host rounds nothing that it does not send, so
 * the bits depend on the hosts and on the buckets, and on nothing else.
 *
 * Several buckets are under way at a time. Rank 0 says in which order they set out: of those that
 * are final there the last one, whose sums the next forward needs first. A rank begins them in that
 * order, and messages set out by urgency, the last bucket's first (comm/outbox.h). Why none wait
 * for each other in a ring: of the first place that is not through everywhere, every rank that
 * needs it has a slot, and of places up to slot_count further all parts are asked for. So its parts
 * arrive; then its sums are asked for, and they may go beside the window.
 *
 * Called by one thread at a time; never blocks. Only files of comm/ and their tests include it.
 */
#ifndef COMM_TRAFFIC_H
#define COMM_TRAFFIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm/buckets.h"
#include "comm/layout.h"
#include "comm/outbox.h"
#include "comm/pieces.h"
#include "comm/wire.h"

struct comm;
struct comm_post;
struct err;

#define COMM_TRAFFIC_SLOTS 36 /* buckets under way, at most: all of 128 MB */

/* What a rank shows the others of its host. */
struct comm_board {
    _Atomic uint64_t ready;   /* step * (count + 1) + floats of its vector that are final */
    _Atomic uint32_t there[]; /* (buckets): the last step in which this rank's chunks' sums were */
};

/** Bytes of a board. */
size_t comm_board_bytes(int buckets);

struct comm_slot;

struct comm_traffic {
    struct comm *comm;
    struct comm_post *post;
    struct comm_layout layout;
    struct comm_pieces pieces;
    struct comm_buckets cut;
    int buckets;
    float *lost; /* (floats) with COMM_WIRE_BF16: what rounding left out of what this rank sent */
    int local_first, local_count;
    struct comm_board **boards;   /* (local ranks) the caller's */
    float *const *const *vectors; /* (local ranks)(partial sums): the caller's */
    float *sum;                   /* (count): this host's, the caller's */

    uint32_t step;
    int *order;  /* (buckets) in which they set out, as far as it is known */
    bool *named; /* (buckets) rank 0: those that are in it */
    int ordered, begun, through;
    int next_order, order_under_way; /* other ranks: what rank 0 says next */
    struct comm_slot *slots; /* (slot_count) each bucket's own, or place p's is p % slot_count */
    int slot_count;
    struct comm_outbox parts, sums; /* sums wait for parts: so those have a window of their own */
};

/* What a traffic is made of; all of it stays the caller's. */
struct comm_traffic_options {
    uint32_t lanes;
    struct comm_buckets buckets;
    enum comm_wire wire;
    const int *group_of; /* (ranks) who shares memory: comm/shared.h; a host, to this file */
    struct comm_board **boards;
    float *const *const *vectors;
    float *sum;
    int slots;     /* 0: as comm_traffic_memory counts them */
    size_t window; /* bytes of parts, and of sums, that MPI has for a peer; 0: half a megabyte */
};

/** ERR_MEMORY, naming the bytes. Release accepts all-zero; what is under way is given up. */
int comm_traffic_init(struct comm_traffic *traffic, struct comm *comm, struct comm_post *post,
                      const struct comm_traffic_options *options, struct err *err);
void comm_traffic_release(struct comm_traffic *traffic);

/** What comm_traffic_init takes, in bytes. */
size_t comm_traffic_memory(const struct comm_layout *layout, uint32_t lanes,
                           const struct comm_buckets *buckets, enum comm_wire wire);

/** Begin a step of `leaves` leaves; the last one is through. */
int comm_traffic_begin(struct comm_traffic *traffic, uint32_t leaves, struct err *err);
/** This rank's vector is final as far as that. */
void comm_traffic_ready(struct comm_traffic *traffic, size_t floats);
/** Do what can be done now; *moved tells whether that was something. ERR_PEER. Call comm_post_test
 * between two calls. */
int comm_traffic_advance(struct comm_traffic *traffic, bool *moved, struct err *err);
/** Whether a bucket's sums are there, from all ranks of this host. */
bool comm_traffic_is_there(const struct comm_traffic *traffic, int bucket);
/** Whether some bucket is under way. */
bool comm_traffic_is_busy(const struct comm_traffic *traffic);
/** Whether nothing of this step is left to do for this rank. */
bool comm_traffic_is_through(const struct comm_traffic *traffic);

#endif
