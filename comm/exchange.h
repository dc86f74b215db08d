/*
 * comm/exchange.h -- sum every micro-batch's vector over all ranks while the last one is still
 * being computed.
 *
 * A step: comm_exchange_begin(); for each of this rank's leaves comm_exchange_leaf(), the vector
 * written there, comm_exchange_ready() as it grows, comm_exchange_written(); then
 * comm_exchange_gather(), and comm_exchange_wait() for sums, or comm_exchange_settle(). A
 * communication thread does all that concerns others: it sleeps when there is nothing to do, and
 * between settle and the next begin it makes no call of MPI, so that the caller may.
 *
 * The additions are those of the canonical tree (comm/tree.h), whatever the ranks, hosts, buckets
 * and moments: the same bits. Ranks of a host add up in shared memory (comm/shared.h) before the
 * wire. How buckets travel: comm/traffic.h.
 *
 * One rank alone: nothing is sent, no thread is there, and sums are ready when leaves are.
 */
#ifndef COMM_EXCHANGE_H
#define COMM_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm/wire.h"

struct comm;
struct err;

#define COMM_BUCKET_BYTES (4u << 20)

/* An answer that every rank gives every other in a step, at most. */
#define COMM_EXCHANGE_ANSWER_MAX 256

struct comm_exchange;

struct comm_exchange_options {
    uint32_t lanes;
    size_t count;        /* floats of a vector */
    size_t bucket_bytes; /* a multiple of 4; smaller where a vector would have few buckets */
    enum comm_wire wire;
    size_t exact; /* with COMM_WIRE_BF16: the first floats of a vector, which are not rounded */
    double elsewhere_s; /* a rank that is elsewhere for longer lives no more; 0: COMM_PATIENCE_S */
};

/** What the exchange takes on the rank of `ranks_of_host` on each host that takes the most: partial
 * sums, and buffers for buckets of other hosts. */
struct comm_exchange_memory {
    size_t vectors, buffers; /* bytes */
};
struct comm_exchange_memory comm_exchange_memory(const struct comm_exchange_options *options,
                                                 int ranks, int ranks_of_host);

/** Collective; blocks. NULL: ERR_MEMORY naming the bytes, or ERR_PEER. */
struct comm_exchange *
comm_exchange_new(struct comm *comm, const struct comm_exchange_options *options, struct err *err);
/** Accepts NULL. Not collective: where a step is not settled its messages are given up, and the job
 * can only be ended by comm_abort. */
void comm_exchange_free(struct comm_exchange *exchange);

/**
 * Begin a step of `leaves` present leaves (1 .. lanes), the same on every rank. The last step's
 * sums are not read any more.
 *
 * deadline_s  a rank that shows no progress for so long is given up: ERR_PEER, naming its host. 0:
 *             none.
 *
 * Blocks until the last step is settled. ERR_PEER.
 */
int comm_exchange_begin(struct comm_exchange *exchange, uint32_t leaves, double deadline_s,
                        struct err *err);
/** Where this rank's next leaf is to be written (count floats); NULL when it has no more. */
float *comm_exchange_leaf(struct comm_exchange *exchange);
/** The leaf's first `floats` floats are final. Computes with OpenMP threads. */
void comm_exchange_ready(struct comm_exchange *exchange, size_t floats);
/** The whole leaf is. */
void comm_exchange_written(struct comm_exchange *exchange);
/** This rank's step came to nothing: where leaves are missing its partial sums travel as they are,
 * so that nobody waits for them, and the sums are worth nothing. The caller tells the others in its
 * answer. */
void comm_exchange_give_up(struct comm_exchange *exchange);

/** Everybody's answer: all[r * bytes ..] is rank r's. Once a step, after the last leaf; bytes <=
 * COMM_EXCHANGE_ANSWER_MAX. Blocks until all are there. ERR_PEER. */
int comm_exchange_gather(struct comm_exchange *exchange, const void *mine, size_t bytes, void *all,
                         struct err *err);

/** -1 with the error where the communication thread has failed, which else shows when something is
 * waited for: ERR_PEER. Does not block. */
int comm_exchange_check(struct comm_exchange *exchange, struct err *err);

/** The sum of all leaves, (count) floats, on every rank the same; of this host's ranks together, so
 * read only. What comm_exchange_wait() was called for may be read until the next step's
 * comm_exchange_begin(). */
const float *comm_exchange_sum(const struct comm_exchange *exchange);
/** Block until the sums [begin, end) are there. ERR_PEER. */
int comm_exchange_wait(struct comm_exchange *exchange, size_t begin, size_t end, struct err *err);
/** Block until nothing of the step is under way; then the caller may call MPI. ERR_PEER. */
int comm_exchange_settle(struct comm_exchange *exchange, struct err *err);

/** While this rank is at something that is no micro-batch (input, a save), the communication thread
 * says that it lives, for options->elsewhere_s: who reads a disk that never answers must not keep
 * the others for ever. Between steps too; then the caller must not call MPI meanwhile. */
void comm_exchange_elsewhere(struct comm_exchange *exchange, bool elsewhere);

/** Whether the ranks of a host share memory; where they cannot, each exchanges as if it were a host
 * of its own. */
bool comm_exchange_shares(const struct comm_exchange *exchange);

/** Seconds of processor time that the communication thread has used. */
double comm_exchange_cpu_s(const struct comm_exchange *exchange);

#endif
