/*
 * comm/allreduce.h -- MPI_Allreduce, to compare the exchange with: as it comes, and by each
 * algorithm that the library can be held to.
 *
 * Open MPI's component coll/tuned chooses an algorithm by message and ranks. Its control variable
 * coll_tuned_allreduce_algorithm (MPI_T, MPI 4.0 section 15.3.6) forces one; it is read when a
 * communicator is made, so each algorithm here is a communicator of its own, made while the
 * variable named it. The list of algorithms and their names are that variable's enumeration: Open
 * MPI 4.1 has basic_linear, nonoverlapping, recursive_doubling, ring, segmented_ring and
 * rabenseifner. Another library, or one rank alone, has none to force.
 */
#ifndef COMM_ALLREDUCE_H
#define COMM_ALLREDUCE_H

#include <stdbool.h>
#include <stddef.h>

struct comm;
struct comm_allreduce;
struct err;

/** Before comm_open: let algorithms be forced. The choice where none is forced stays as it is. */
void comm_allreduce_prepare(void);

/** Collective; blocks. NULL: ERR_PEER. */
struct comm_allreduce *comm_allreduce_new(struct comm *comm, struct err *err);
/** Collective, before comm_close. Accepts NULL. */
void comm_allreduce_free(struct comm_allreduce *allreduce);

/** Ways to sum, the same on every rank: 0 is MPI_Allreduce as it comes, the others are forced. */
int comm_allreduce_ways(const struct comm_allreduce *allreduce);
/** "default", or the library's name of the algorithm. */
const char *comm_allreduce_name(const struct comm_allreduce *allreduce, int way);

/** Whether a rank that waits lets go of its core (mpi_yield_when_idle). */
bool comm_allreduce_yields(void);

/** Replace x, (count <= INT_MAX) floats, by the element-wise sum of all ranks' x. Collective; a
 * blocking call of MPI, which polls without sleeping. ERR_PEER. */
int comm_allreduce_sum(struct comm_allreduce *allreduce, int way, float *x, size_t count,
                       struct err *err);

#endif
