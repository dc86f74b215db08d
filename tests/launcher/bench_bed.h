/* tests/launcher/bench_bed.h -- the report of a benchmark with figures that are easy to check. */
#ifndef TESTS_LAUNCHER_BENCH_BED_H
#define TESTS_LAUNCHER_BENCH_BED_H

#include <stdbool.h>

#include "launcher/bench_options.h"
#include "launcher/bench_table.h"
#include "launcher/machine.h"

#define BENCH_BED_ROUNDS 3

/* Points of `hosts` hosts or ranks by the mode: 100 images/s each with one, 90 % of that for each
 * with more, 96 % side by side; 5 % less and more in the other two rounds. */
struct bench_bed {
    struct launch_bench_options options;
    struct launch_machine machine;
    struct launch_bench_point points[2 * LAUNCH_BENCH_COUNTS_MAX];
    struct launch_bench_sample samples[2 * LAUNCH_BENCH_COUNTS_MAX][LAUNCH_BENCH_WAYS]
                                      [BENCH_BED_ROUNDS];
    struct launch_bench_report report;
};

/* counts end with 0. */
void bench_bed_init(struct bench_bed *bed, const int *counts, bool weak, bool strong);

#endif
