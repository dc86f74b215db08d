/*
 * comm/layout.h -- who adds up which part of a bucket, and whose messages carry it.
 *
 * A bucket is cut into one chunk per rank, its owner: evenly over the hosts, since hosts have the
 * wires, and a host's part evenly over its ranks. On every other host one rank is the chunk's
 * handler: it adds up what its host has of the chunk, sends it to the owner and receives the sum.
 * On the owner's host the owner handles it. So a host sends and receives 2 (H-1)/H of the bytes of
 * one vector, however many ranks it has.
 *
 * Pure arithmetic; no MPI.
 */
#ifndef COMM_LAYOUT_H
#define COMM_LAYOUT_H

#include <stddef.h>

#include "comm/buckets.h"

/* Ranks are numbered host by host. A host is here what shares memory: where hosts cannot, each of
 * their ranks (comm/shared.h). */
struct comm_layout {
    int ranks, hosts;
    const int *host_of; /* (ranks), ascending; the caller's, and stays */
    int *first_of;      /* (hosts + 1): a host's first rank; the last is ranks */
};

void comm_layout_init(struct comm_layout *layout, int ranks, const int *host_of);
/** Accepts an all-zero layout. */
void comm_layout_release(struct comm_layout *layout);

/** The chunk of `bucket` that rank `owner` adds up; may be empty. */
struct comm_run comm_layout_chunk(const struct comm_layout *layout, struct comm_run bucket,
                                  int owner);

/** The largest chunk of a bucket of `floats` floats. */
size_t comm_layout_chunk_max(const struct comm_layout *layout, size_t floats);

/** The rank of `host` that handles the chunk of rank `owner`. */
int comm_layout_handler(const struct comm_layout *layout, int host, int owner);

#endif
