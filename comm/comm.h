/*
 * comm/comm.h -- the ranks of a job, and the small things they tell each other.
 *
 * The only folder that includes mpi.h. One thread of a rank calls these functions, the one that
 * opened, and not while a step's exchange is under way (comm/exchange.h has a thread of its own).
 * Waiting is polling with short sleeps (a blocking MPI call would spin a core that computing could
 * use).
 */
#ifndef COMM_COMM_H
#define COMM_COMM_H

#include <stddef.h>
#include <stdint.h>

struct err;

#define COMM_PATIENCE_S 1800 /* a rank may read an index, or save to a slow S3, meanwhile */

struct comm {
    int rank, size;             /* 0 .. size - 1; the leader is rank 0 */
    int local_rank, local_size; /* among the ranks of this host */
    int hosts;                  /* that there are */
    int *host_of;               /* (size), ascending: the number of each rank's host */
    char host[256];             /* this host's name: MPI's, or what comm_call_host said */
    double deadline_s;          /* the caller's to set: who lets others wait for longer is given up
                                   (ERR_PEER, where it can be known with its host's name); 0:
                                   COMM_PATIENCE_S */
    char library[64];           /* "Open MPI v4.1.4" */
    void *mpi;                  /* comm's own */
};

/** MPI_Init and who is who. Ranks are numbered by (host, place on the host), as mpirun gives them
 * with --map-by slot. ERR_PEER if MPI refuses. On success every rank must call comm_close or
 * comm_abort. */
int comm_open(struct comm *comm, struct err *err);

/** Call this host by a platform's own name; NULL and "" leave it what the kernel says. Collective:
 * all ranks learn it. ERR_PEER. */
int comm_call_host(struct comm *comm, const char *name, struct err *err);
/** The name of a rank's host, for messages; comm's own. */
const char *comm_host_name(const struct comm *comm, int rank);

/** MPI_Finalize. Collective. Accepts an all-zero comm. */
void comm_close(struct comm *comm);

/** End all ranks of the job now with this exit status. The caller has printed why. Does not return.
 */
_Noreturn void comm_abort(struct comm *comm, int status);

/** Wait until every rank is here. Collective. */
int comm_barrier(struct comm *comm, struct err *err);

/** Copy root's bytes to every rank. Collective; bytes is the same everywhere (any size). */
int comm_broadcast(struct comm *comm, void *data, size_t bytes, int root, struct err *err);

/** Replace x by the element-wise sum of all ranks' x. Collective; count <= COMM_INTEGERS_MAX.
 * Exact, so the same on every rank. */
int comm_sum_integers(struct comm *comm, int64_t *x, int count, struct err *err);
#define COMM_INTEGERS_MAX 64

/** Gather `bytes` bytes of every rank on every rank: all[r * bytes ..] is rank r's. Collective;
 * bytes <= 4096. ERR_PEER, also after comm->deadline_s, with the name of the host that is missing.
 */
int comm_gather(struct comm *comm, const void *mine, size_t bytes, void *all, struct err *err);

#endif
