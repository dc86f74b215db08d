/*
 * launcher/bench_comm_table.h -- the results of `convoy bench comm` for people, in 80 columns.
 */
#ifndef LAUNCH_BENCH_COMM_TABLE_H
#define LAUNCH_BENCH_COMM_TABLE_H

#include <stdio.h>

#include "launcher/bench_comm_options.h"
#include "launcher/bench_sums.h"

struct launch_machine;

struct launch_bench_comm_report {
    const struct launch_bench_comm_options *options;
    const struct launch_machine *machine;
    const struct launch_bench_sums *sums;
    const char *version; /* of Convoy */
    const char *time;    /* when it began */
};

void launch_bench_comm_table_print(const struct launch_bench_comm_report *report, FILE *out);

#endif
