/*
 * comm/wait.h -- comm's own: what stands behind struct comm, and waiting for MPI without burning a
 * core.
 *
 * Only files of comm/ and their tests include it.
 */
#ifndef COMM_WAIT_H
#define COMM_WAIT_H

#include <mpi.h>
#include <stdint.h>

struct comm;
struct err;

#define COMM_HOST_CHARS 256

/* What comm->mpi points at. */
struct comm_mpi {
    MPI_Comm ranks;                 /* numbered as struct comm says */
    MPI_Request *requests;          /* 2 (size - 1): one message to and one from everybody else */
    int *done;                      /* as many, for comm_wait_all */
    int64_t *integers;              /* size * COMM_INTEGERS_MAX */
    char (*names)[COMM_HOST_CHARS]; /* (size) each rank's host */
};

/* What a TCP flow between two ranks may have on its way with three hosts and more. Every rank sends
 * to all others at once: with windows as the kernel lets them grow two senders fill the queue
 * before a receiver's port, and packets are lost there while another port stands idle. */
#define COMM_WINDOW_BYTES (192 * 1024)

/* A vector travels in segments of so many bytes. Open MPI sends them whole, without a question
 * first, as its limit for that is set a little higher. Half as much took a fifth to a half more of
 * a core, and twice as much was 3 % slower (two hosts, 1 Gbit/s; measured when a send ended with
 * the receiver's answer). */
#define COMM_SEGMENT_BYTES (256 * 1024)

/* What it may mean that nothing comes from a rank: the end of a line. */
#define COMM_SILENT_MEANS "it is dead, frozen, cut off, or stuck in reading or saving"

enum comm_tag {
    COMM_TAG_GATHER,
    COMM_TAG_CLOCK,
    COMM_TAG_COLLECT,
    COMM_TAG_ORDER,
    COMM_TAG_ROLL,
    COMM_TAG_TRAFFIC = 1000 /* + a bucket's tag (traffic.c) */
};

/** The number of the world's rank `rank` when hosts are taken one after the other, in the order in
 * which they first appear. host_first[r]: the lowest world rank on r's host. */
int comm_place(const int *host_first, int ranks, int rank);

/** -1 with err set (ERR_PEER) if `code` is no MPI_SUCCESS; `what` is what was tried. */
int comm_check(int code, const char *what, struct err *err);

/** Wait for the first `count` of comm's requests; they become MPI_REQUEST_NULL. Polls a few times
 * at once, then with growing sleeps. ERR_PEER, also when nothing came for comm->deadline_s. */
int comm_wait_all(struct comm *comm, int count, const char *what, struct err *err);
/** The same, but 1 when nothing came for so long; it is still under way. */
int comm_wait_a_while(struct comm *comm, int count, const char *what, struct err *err);
/** How long that is. */
double comm_patience_s(const struct comm *comm);

#endif
