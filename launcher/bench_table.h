/*
 * launcher/bench_table.h -- the results of `convoy bench scaling` for people, in 80 columns.
 */
#ifndef LAUNCH_BENCH_TABLE_H
#define LAUNCH_BENCH_TABLE_H

#include <stddef.h>
#include <stdio.h>

#include "launcher/bench_options.h"
#include "launcher/bench_point.h"

struct launch_machine;

struct launch_bench_report {
    const struct launch_bench_options *options;
    const struct launch_machine *machine;
    const struct launch_bench_point
        *points; /* (count), as launch_bench_points gives them, filled */
    size_t count;
    int image_size, threads; /* what the first run said of itself */
    const char *version;     /* of Convoy */
    const char *time;        /* when it began */
};

/** The point that this one is compared with: the first of its mode. */
const struct launch_bench_point *launch_bench_baseline(const struct launch_bench_report *report,
                                                       const struct launch_bench_point *point);

/** Title, machine, a table for each mode, and what bounds the figures. */
void launch_bench_table_print(const struct launch_bench_report *report, FILE *out);

#endif
