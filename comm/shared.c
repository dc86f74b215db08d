/* comm/shared.c -- see shared.h. */
#include "comm/shared.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>

#include "base/err.h"
#include "comm/comm.h"

#define PART_ALIGN ((size_t)2 << 20) /* what a huge page needs */

/* What a rank tells the others of its part. */
struct offer {
    int32_t id;       /* of its segment; -1: it could not make one */
    int32_t attached; /* it sees all parts of its host */
};

static void group_hosts(const struct comm *comm, struct comm_shared *shared)
{
    int first = comm->rank, end = comm->rank + 1;

    memcpy(shared->group_of, comm->host_of, (size_t)comm->size * sizeof *shared->group_of);
    while (first > 0 && comm->host_of[first - 1] == comm->host_of[comm->rank])
        first--;
    while (end < comm->size && comm->host_of[end] == comm->host_of[comm->rank])
        end++;
    shared->first = first;
    shared->count = end - first;
}

static void part_ranks(const struct comm *comm, struct comm_shared *shared)
{
    for (int rank = 0; rank < comm->size; rank++)
        shared->group_of[rank] = rank;
    shared->first = comm->rank;
    shared->count = 1;
}

/* Ordinary memory, of this rank alone. */
static int allocate_alone(struct comm_shared *shared, struct err *err)
{
    const size_t bytes = (shared->bytes + PART_ALIGN - 1) / PART_ALIGN * PART_ALIGN;
    void *memory =
        mmap(NULL, bytes + PART_ALIGN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return err_set(err, ERR_MEMORY,
                       "cannot allocate %zu bytes for gradients; a larger --micro-batch or a "
                       "smaller --global-batch needs fewer",
                       shared->bytes);
    madvise(memory, bytes + PART_ALIGN, MADV_HUGEPAGE);
    shared->part[0] = memory;
    return 0;
}

/* This rank's own segment, attached and already marked for removal. Returns its id, or -1. */
static int make_segment(struct comm_shared *shared, int rank)
{
    const int id = shmget(IPC_PRIVATE, shared->bytes, IPC_CREAT | 0600);
    void *memory;

    if (id < 0)
        return -1;
    memory = shmat(id, NULL, 0);
    shmctl(id, IPC_RMID, NULL);
    if (memory == (void *)-1)
        return -1;
    shared->part[rank - shared->first] = memory;
    return id;
}

static bool attach(struct comm_shared *shared, const struct offer *offers, int rank)
{
    for (int i = 0; i < shared->count; i++) {
        void *memory;

        if (shared->first + i == rank)
            continue;
        if (offers[shared->first + i].id < 0)
            return false;
        memory = shmat(offers[shared->first + i].id, NULL, 0);
        if (memory == (void *)-1)
            return false;
        shared->part[i] = memory;
    }
    return shared->part[rank - shared->first] != NULL;
}

static void detach(struct comm_shared *shared)
{
    for (int i = 0; i < shared->count; i++) {
        if (shared->part[i] != NULL)
            shmdt(shared->part[i]);
        shared->part[i] = NULL;
    }
}

/* Every rank of a host with several makes a segment, learns the others' and attaches; all ranks of
 * the job agree whether it worked. */
static int share(struct comm *comm, struct comm_shared *shared, struct err *err)
{
    struct offer mine = {.id = -1, .attached = 1}, *const all =
                                                       calloc((size_t)comm->size, sizeof *all);
    int rc = -1;

    if (all == NULL)
        abort();
    if (shared->count > 1)
        mine.id = make_segment(shared, comm->rank);
    if (comm_gather(comm, &mine, sizeof mine, all, err) < 0)
        goto out;
    if (shared->count > 1)
        mine.attached = attach(shared, all, comm->rank);
    if (comm_gather(comm, &mine, sizeof mine, all, err) < 0)
        goto out;
    shared->together = true;
    for (int rank = 0; rank < comm->size; rank++)
        shared->together = shared->together && all[rank].attached;
    shared->mapped = shared->together && shared->count > 1;
    rc = 0;
out:
    free(all);
    return rc;
}

int comm_shared_open(struct comm *comm, size_t bytes, size_t bytes_alone,
                     struct comm_shared *shared, struct err *err)
{
    *shared = (struct comm_shared){.bytes = bytes > 0 ? bytes : 1};
    shared->group_of = calloc((size_t)comm->size, sizeof *shared->group_of);
    if (shared->group_of == NULL)
        abort();
    group_hosts(comm, shared);
    shared->part = calloc((size_t)shared->count, sizeof *shared->part);
    if (shared->part == NULL)
        abort();
    if (share(comm, shared, err) < 0) {
        detach(shared);
        comm_shared_close(shared);
        return -1;
    }
    if (shared->mapped)
        return 0;
    detach(shared);
    if (!shared->together) {
        part_ranks(comm, shared);
        shared->bytes = bytes_alone > 0 ? bytes_alone : 1;
    }
    if (allocate_alone(shared, err) < 0) {
        comm_shared_close(shared);
        return -1;
    }
    return 0;
}

void comm_shared_close(struct comm_shared *shared)
{
    const size_t bytes = (shared->bytes + PART_ALIGN - 1) / PART_ALIGN * PART_ALIGN;

    if (shared->mapped)
        detach(shared);
    else if (shared->part != NULL && shared->part[0] != NULL)
        munmap(shared->part[0], bytes + PART_ALIGN);
    free(shared->part);
    free(shared->group_of);
    *shared = (struct comm_shared){0};
}

void *comm_shared_part(const struct comm_shared *shared, int rank)
{
    assert(rank >= shared->first && rank < shared->first + shared->count);
    return shared->part[rank - shared->first];
}
