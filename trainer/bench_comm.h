/*
 * trainer/bench_comm.h -- how fast the exchange sums a vector over all ranks, beside MPI_Allreduce.
 */
#ifndef TRAIN_BENCH_COMM_H
#define TRAIN_BENCH_COMM_H

#include <stdbool.h>

struct comm;
struct err;
struct train_options;

/** Before comm_open, in a process that will call train_bench_comm. */
void train_bench_comm_prepare(void);

/**
 * Sum vectors of options->bench_comm's sizes over all ranks: by the exchange (one micro-batch on
 * each rank, --bucket-bytes), by MPI_Allreduce as it comes, and by each algorithm that it can be
 * held to (comm/allreduce.h). Every way's sum of each size is checked once. Then
 * options->bench_rounds rounds measure all sizes by all ways in turn, beginning with another way
 * each time, so that noise hits all alike. A small vector is summed several times in a row.
 *
 * Lines of JSON on stdout, from rank 0, as they come:
 *
 *   {"event":"comm","ranks":2,"hosts":2,"threads":1,"bucket_bytes":4194304,"rounds":5,
 *    "bytes":[1000000],"algorithms":["convoy","mpi-default","mpi-ring",...],"yield_when_idle":true,
 *    "numerics":"convoy 0.1.0 ...","mpi":"Open MPI v4.1.4"}
 *   {"event":"comm-sum","bytes":1000000,"algorithm":"convoy","round":1,"sums":12,"seconds":0.0085,
 *    "cpu_s":0.0041,"exchange_cpu_s":0.0013}
 *
 * seconds is the slowest rank's for one sum, cpu_s the processor time of the process that used
 * most; exchange_cpu_s, only with "convoy", that of its communication thread alone. round 0 is what
 * led to the number of sums in a row; a forced algorithm whose round 0 took longer than
 * half a second and three times as long as the best of them is not measured again at that size.
 *
 * Collective. Returns and agrees as train_run does. ERR_USAGE for one rank alone, ERR_INTERNAL for
 * a sum that is wrong, ERR_STOPPED when asked to stop.
 */
int train_bench_comm(struct train_options *options, struct comm *comm, bool *agreed,
                     struct err *err);

#endif
