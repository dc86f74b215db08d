/*
 * launcher/bench_point.h -- what a benchmark of scaling measures, and what its figures come to.
 *
 * A point is a mode and a number of ranks; it is run with the exchange, and side by side without
 * (trainer/bench.h). All points are measured in turn, both ways in every round, so that what is
 * compared met the same noise in the same round; ratios are therefore taken round by round, and
 * their medians shown.
 */
#ifndef LAUNCH_BENCH_POINT_H
#define LAUNCH_BENCH_POINT_H

#include <stddef.h>

enum launch_bench_mode {
    LAUNCH_BENCH_WEAK,  /* the same images on each rank: the step grows with the ranks */
    LAUNCH_BENCH_STRONG /* the same images in a step, shared out among the ranks */
};

enum launch_bench_way {
    LAUNCH_BENCH_TOGETHER,     /* with the exchange of gradients */
    LAUNCH_BENCH_SIDE_BY_SIDE, /* the same ranks at the same time, each by itself */
    LAUNCH_BENCH_WAYS
};

/* The figures of one run. */
struct launch_bench_sample {
    double images_per_s; /* of all ranks together */
    double seconds;      /* of the steps that count */
    double ranks_s;      /* of seconds: waiting for other ranks' answers, a rank's mean */
    double exchange_s;   /* of seconds: waiting for sums of gradients, a rank's mean */
    double input_s;      /* of seconds: waiting for pictures, a rank's mean */
    double imbalance; /* how much longer the slowest rank computed than the mean: 0.1 is a tenth */
};

struct launch_bench_point {
    enum launch_bench_mode mode;
    int hosts, ranks;                                       /* ranks: on all hosts together */
    int global_batch, micro_batch;                          /* images */
    struct launch_bench_sample *samples[LAUNCH_BENCH_WAYS]; /* (rounds) each; the caller's */
};

struct launch_bench_spread {
    double median, min, max;
};

struct launch_bench_summary {
    struct launch_bench_spread images_per_s, side_by_side; /* the latter images/s too */
    struct launch_bench_spread speedup;                    /* times the baseline's images_per_s */
    struct launch_bench_spread efficiency; /* speed-up per (ranks / the baseline's ranks) */
    struct launch_bench_spread efficiency_side_by_side; /* images_per_s / side_by_side */
    struct launch_bench_spread ranks_share, exchange_share, input_share; /* of the steps' time */
    struct launch_bench_spread imbalance, seconds;
};

const char *launch_bench_mode_name(enum launch_bench_mode mode);
/** "exchange", "side-by-side". */
const char *launch_bench_way_name(enum launch_bench_way way);

/** Median (of an even count: the mean of the middle two), least and greatest; count > 0. Sorts x.
 */
struct launch_bench_spread launch_bench_spread(double *x, size_t count);

/** What `rounds` (> 0) rounds of a point and of its baseline say. */
struct launch_bench_summary launch_bench_summarise(const struct launch_bench_point *point,
                                                   const struct launch_bench_point *baseline,
                                                   int rounds);

/** The efficiency that whole micro-batches allow: a step has V = ceil(global / micro) of them, and
 * the busiest of P ranks ceil(V / P). 1 where they come out as even as the baseline's. */
double launch_bench_limit(const struct launch_bench_point *point,
                          const struct launch_bench_point *baseline);

#endif
