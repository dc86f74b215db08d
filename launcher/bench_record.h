/*
 * launcher/bench_record.h -- what `convoy bench scaling --json FILE` writes: a JSON object per
 * line, each with "bench":"scaling" and "what" (--json alone: the results only):
 *
 *   setting  first: time, command, version of Convoy, the machine that started the runs and its
 *            load (mean processes of the last minute) before them, hosts
 *   run      one run, as it ends: mode, way ("exchange", "side-by-side"), hosts, round (from 1),
 *            command, and all that convoy-train said (trainer/bench.h: images_per_s, seconds,
 *            versions, ...)
 *   result   at the end, one for each point: mode, hosts, ranks, global_batch, steps, repeats;
 *            images_per_s; efficiency against the first point of the mode (1 is perfect), speedup;
 *            side_by_side_images_per_s, and efficiency_side_by_side against it;
 *            of a step's time rank_wait_share (for other ranks' answers: they end later, or the
 *            wire is busy), exposed_exchange_share (for sums of gradients) and input_wait_share;
 *            imbalance (how much longer the slowest rank computed than the mean); seconds (of the
 *            timed steps). These are medians over the rounds, ..._min and ..._max their range.
 *            efficiency_limit: what
 *            whole micro-batches allow
 */
#ifndef LAUNCH_BENCH_RECORD_H
#define LAUNCH_BENCH_RECORD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "launcher/bench_table.h"

struct err;

struct launch_bench_record {
    FILE *file; /* NULL: none is wanted */
    const char *path;
    bool results_only;
};

/** Open the file that --json names; NULL: none. ERR_USAGE where it cannot be written. An existing
 * file is replaced. */
int launch_bench_record_open(struct launch_bench_record *record, const char *path,
                             bool results_only, struct err *err);
/** Accepts all-zero. */
void launch_bench_record_close(struct launch_bench_record *record);

/** Write a line of one's own, and let go of the object. ERR_IO. */
int launch_bench_record_line(struct launch_bench_record *record, json_t *object, struct err *err);
/** Add what a setting says of the machine. */
void launch_bench_record_machine(json_t *object, const struct launch_machine *machine);

/** Each writes its lines at once, so that they are there whatever comes later; ERR_IO. figures
 * stay the caller's. */
int launch_bench_record_setting(struct launch_bench_record *record,
                                const struct launch_bench_report *report, const char *command,
                                struct err *err);
int launch_bench_record_run(struct launch_bench_record *record,
                            const struct launch_bench_point *point, enum launch_bench_way way,
                            int round, const char *command, const json_t *figures, struct err *err);
int launch_bench_record_results(struct launch_bench_record *record,
                                const struct launch_bench_report *report, struct err *err);

#endif
