/*
 * comm/exchange.h -- sum every micro-batch's vector over all ranks, in the canonical tree.
 *
 * Direct exchange: a bucket is cut into P chunks; every rank sends chunk j of each of its pieces
 * straight to rank j, which adds the pieces of all ranks as the tree says and sends the sum back to
 * everybody. 2 (P-1)/P of the bytes leave a rank where it has one piece, as with a ring, in two
 * rounds, and the order of additions is free. Element by element the additions are those of the
 * tree, so neither bucket size, rank count nor arrival changes a bit.
 */
#ifndef COMM_EXCHANGE_H
#define COMM_EXCHANGE_H

#include <stddef.h>

struct comm;
struct comm_tree_sum;
struct err;

#define COMM_BUCKET_BYTES (4u << 20)

struct comm_exchange;

/** What comm_exchange_new takes for buckets of other ranks; 0 for one rank. */
size_t comm_exchange_bytes(unsigned lanes, int ranks, size_t count, size_t bucket_bytes);

/** Scratch for sums of vectors of up to `count` floats over `lanes` lanes, exchanged bucket_bytes
 * (a multiple of 4) at a time. NULL: ERR_MEMORY. free accepts NULL. */
struct comm_exchange *comm_exchange_new(struct comm *comm, unsigned lanes, size_t count,
                                        size_t bucket_bytes, struct err *err);
void comm_exchange_free(struct comm_exchange *exchange);

/**
 * The sum of all present leaves of this step, on every rank.
 *
 * own   this rank's part, all its leaves pushed (a rank without leaves has none).
 * out   (own->count) floats, the caller's; may be own's first vector's storage when there is one
 * (own->vector[0]).
 *
 * Collective; every rank with the same leaves and count. Blocks until done; allocates nothing.
 * ERR_PEER: a rank is gone; then out is undefined and the job can only be ended.
 */
int comm_exchange_sum(struct comm_exchange *exchange, struct comm_tree_sum *own, float *out,
                      struct err *err);

#endif
