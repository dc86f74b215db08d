/*
 * launcher/bench_comm_record.h -- what `convoy bench comm --json FILE` writes: a JSON object per
 * line, each with "bench":"comm" and "what" (--json alone: the results only):
 *
 *   setting  first: time, command, version of Convoy, the machine that started the ranks and its
 *            load, hosts, link
 *   run      one measurement: all that convoy-train said of it (trainer/bench_comm.h), first the
 *            object that says what is measured; round 0 is a trial, which no result counts
 *   result   at the end, for each size and algorithm that was measured in all rounds: bytes, ranks,
 *            hosts, algorithm ("convoy", "mpi-default", "mpi-ring", ...), repeats; seconds of a sum
 *            (of the slowest rank), cpu_ms_per_mb (processor time of the busiest process, for each
 *            MB of the vector), convoy_ratio (Convoy's seconds by these, in the same round). These
 *            are medians over the rounds, ..._min and ..._max their range. bytes_per_s: bytes by
 *            the median. With --link bound_share: the bound by the median. "convoy" has
 *            exchange_cpu_ms_per_mb too, its communication thread's; the best forced algorithm of a
 *            size has "best":true. With --link "wire-bound" has the bound as its seconds
 */
#ifndef LAUNCH_BENCH_COMM_RECORD_H
#define LAUNCH_BENCH_COMM_RECORD_H

#include "launcher/bench_comm_table.h"
#include "launcher/bench_record.h"

struct err;

/** Each writes its lines at once; ERR_IO. lines: what the run wrote to stdout. */
int launch_bench_comm_record_setting(struct launch_bench_record *record,
                                     const struct launch_bench_comm_report *report,
                                     const char *command, struct err *err);
int launch_bench_comm_record_run(struct launch_bench_record *record, const char *lines,
                                 struct err *err);
int launch_bench_comm_record_results(struct launch_bench_record *record,
                                     const struct launch_bench_comm_report *report,
                                     struct err *err);

#endif
