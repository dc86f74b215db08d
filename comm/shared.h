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

/* A group is the ranks that see each other's parts: those of a host, or each rank by itself where
 * some host of the job cannot share memory. What is of a host else (pictures, a folder) stays
 * comm->host_of's. */
struct comm_shared {
    bool together;        /* groups are hosts; the same on every rank */
    int *group_of;        /* (ranks of the job), ascending from 0 */
    int first, count;     /* this rank's group: the ranks [first, first + count) */
    unsigned char **part; /* (count), each on a page's border, zero in the beginning */
    size_t bytes;         /* of this rank's part */
    bool mapped;          /* System V memory; else one part, from the heap */
};

/**
 * Memory for this rank that all ranks of its group see. A rank that is alone in its group gets
 * ordinary memory.
 *
 * bytes        of this rank's part (may differ between ranks) where groups are hosts
 * bytes_alone  the same where every rank is a group of its own
 *
 * Collective; blocks. ERR_MEMORY, naming the bytes; then the job can only be ended.
 */
int comm_shared_open(struct comm *comm, size_t bytes, size_t bytes_alone,
                     struct comm_shared *shared, struct err *err);
/** Not collective. Accepts all-zero. */
void comm_shared_close(struct comm_shared *shared);

/** The part of rank `rank`, one of those that share. */
void *comm_shared_part(const struct comm_shared *shared, int rank);

#endif
