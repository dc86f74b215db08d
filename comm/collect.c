#include "comm/collect.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "comm/comm.h"
#include "comm/wait.h"

#define CHUNK_BYTES ((size_t)16 << 20) /* MPI counts in int */

static int send(struct comm *comm, int to, const void *data, size_t bytes, struct err *err)
{
    struct comm_mpi *const mpi = comm->mpi;

    if (comm_check(MPI_Isend(data, (int)bytes, MPI_BYTE, to, COMM_TAG_COLLECT, mpi->ranks,
                             &mpi->requests[0]),
                   "send bytes", err) < 0)
        return -1;
    return comm_wait_all(comm, 1, "send bytes", err);
}

static int receive(struct comm *comm, int from, void *data, size_t bytes, struct err *err)
{
    struct comm_mpi *const mpi = comm->mpi;

    if (comm_check(MPI_Irecv(data, (int)bytes, MPI_BYTE, from, COMM_TAG_COLLECT, mpi->ranks,
                             &mpi->requests[0]),
                   "receive bytes", err) < 0)
        return -1;
    return comm_wait_all(comm, 1, "receive bytes", err);
}

static size_t chunk_of(uint64_t left)
{
    return left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
}

/* The length first; rank 0 then says whether it has room. */
static int send_all(struct comm *comm, const struct buf *bytes, struct err *err)
{
    const uint64_t length = bytes->bytes;
    unsigned char room = 0;

    if (send(comm, 0, &length, sizeof length, err) < 0 || receive(comm, 0, &room, 1, err) < 0)
        return -1;
    for (uint64_t at = 0; room != 0 && at < length; at += chunk_of(length - at))
        if (send(comm, 0, bytes->data + at, chunk_of(length - at), err) < 0)
            return -1;
    return 0;
}

static int receive_all(struct comm *comm, int from, struct buf *bytes, struct err *err)
{
    struct err full = {0};
    uint64_t length = 0;
    unsigned char room;

    if (receive(comm, from, &length, sizeof length, err) < 0)
        return -1;
    room = buf_reserve(bytes, length, &full) == 0;
    if (send(comm, from, &room, 1, err) < 0)
        return -1;
    if (room == 0)
        return err_set(err, ERR_MEMORY, "cannot take the bytes of rank %d: %s", from, full.msg);
    for (uint64_t at = 0; at < length; at += chunk_of(length - at)) {
        const size_t chunk = chunk_of(length - at);

        if (receive(comm, from, bytes->data + bytes->bytes, chunk, err) < 0)
            return -1;
        bytes->bytes += chunk;
    }
    return 0;
}

int comm_collect(struct comm *comm, int from, struct buf *bytes, struct err *err)
{
    assert(from >= 0 && from < comm->size && (comm->rank == 0 || comm->rank == from));
    if (from == 0)
        return 0;
    return comm->rank == 0 ? receive_all(comm, from, bytes, err) : send_all(comm, bytes, err);
}
