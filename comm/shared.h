/*
 * comm/shared.h -- memory that the ranks of a host see of each other.
 *
 * Each rank has a part of its own, which its host's other ranks may read and write too: System V
 * shared memory (shmget(2)), since neither the size of /dev/shm (64 MB in a container) nor a limit
 * on the size of files applies to it. It is marked for removal as soon as its owner has it, so that
 * nothing outlives the ranks: Linux lets others attach to such a segment (shmat(2)).
 */
#ifndef COMM_SHARED_H
#define COMM_SHARED_H

#include <stdbool.h>
#include <stddef.h>

struct comm;
struct err;

struct comm_shared {
    int first, count;     /* the ranks [first, first + count) share */
    unsigned char **part; /* (count), each on a page's border, zero in the beginning */
    size_t bytes;         /* of this rank's part */
    bool mapped;          /* System V memory; else one part, from the heap */
};

/**
 * Memory of `bytes` bytes for this rank (may differ between ranks), seen by all ranks of its host
 * (comm->host_of). A rank that is alone on its host gets ordinary memory.
 *
 * Collective; blocks. *together tells whether ranks see each other's parts: where a host cannot
 * share memory, no rank of the job does, each has ordinary memory, and *together is false
 * everywhere. ERR_MEMORY, naming the bytes; then the job can only be ended.
 */
int comm_shared_open(struct comm *comm, size_t bytes, struct comm_shared *shared, bool *together,
                     struct err *err);
/** Not collective. Accepts all-zero. */
void comm_shared_close(struct comm_shared *shared);

/** The part of rank `rank`, one of those that share. */
void *comm_shared_part(const struct comm_shared *shared, int rank);

#endif
