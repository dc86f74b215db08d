/*
 * launcher/bench_sums.h -- what a benchmark of sums measured, and what its figures come to.
 *
 * Figures are those of `convoy train --bench-comm` (trainer/bench_comm.h): every size in every way,
 * round after round. Ratios are taken round by round, since what was measured in one round met the
 * same noise, and their medians shown.
 */
#ifndef LAUNCH_BENCH_SUMS_H
#define LAUNCH_BENCH_SUMS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "launcher/bench_point.h"

struct err;

#define LAUNCH_BENCH_SIZES_MAX 16
#define LAUNCH_BENCH_WAYS_MAX  40
#define LAUNCH_BENCH_NAME_MAX  80

/* What a link carries of its rate: the headers of Ethernet, IP and TCP take about a twentieth. */
#define LAUNCH_BENCH_GOODPUT 0.95

/* The ways of a sum: ours, MPI_Allreduce as it comes, and what it was held to. */
enum { LAUNCH_BENCH_OURS, LAUNCH_BENCH_AS_IT_COMES, LAUNCH_BENCH_FORCED };

/* One sum; seconds 0: not measured. */
struct launch_bench_sum {
    double seconds, cpu_s; /* the slowest rank's; the processor time of the busiest process */
    double exchange_cpu_s; /* ours only: of the communication thread */
};

struct launch_bench_sums {
    int ranks, hosts, threads, rounds;
    size_t bucket_bytes;
    bool yields;  /* ranks that wait let go of their core */
    char mpi[64]; /* "Open MPI v4.1.4" */
    int size_count, way_count;
    size_t bytes[LAUNCH_BENCH_SIZES_MAX];
    char names[LAUNCH_BENCH_WAYS_MAX][LAUNCH_BENCH_NAME_MAX]; /* "convoy", "mpi-default", ... */
    struct launch_bench_sum *of;                              /* (sizes, ways, rounds) */
};

/**
 * Read what a run wrote to stdout. ERR_INTERNAL: it is something else, is not complete, or is of
 * other ranks or rounds. Release also after a failure; it accepts all-zero.
 *
 * lines  the caller's; its line ends become zeros.
 */
int launch_bench_sums_read(struct launch_bench_sums *sums, struct buf *lines, int ranks, int rounds,
                           struct err *err);
void launch_bench_sums_release(struct launch_bench_sums *sums);

struct launch_bench_sums_summary {
    struct launch_bench_spread seconds;                /* of one sum */
    struct launch_bench_spread ours;                   /* our seconds / these, round by round */
    struct launch_bench_spread cpu_ms_per_mb;          /* the busiest process's */
    struct launch_bench_spread exchange_cpu_ms_per_mb; /* ours only: the communication thread's */
};

/** Whether a way was measured at a size: one that is hopeless is not. */
bool launch_bench_sums_measured(const struct launch_bench_sums *sums, int size, int way);

struct launch_bench_sums_summary launch_bench_sums_summarise(const struct launch_bench_sums *sums,
                                                             int size, int way);

/** The forced way whose median is least at this size; -1: there is none. */
int launch_bench_sums_best(const struct launch_bench_sums *sums, int size);

/** Seconds below which no sum can be where each host sends and receives by a link of this rate:
 * 2 (H-1)/H of the vector, at LAUNCH_BENCH_GOODPUT of the rate. */
double launch_bench_sums_bound(const struct launch_bench_sums *sums, int size,
                               double link_bytes_per_s);

#endif
