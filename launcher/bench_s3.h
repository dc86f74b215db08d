/*
 * launcher/bench_s3.h -- `convoy bench s3`: how fast objects are read, and what that costs.
 *
 * Each round reads every object of a prefix once, as training does (s3_object_read), and computes
 * its CRC-32C; from the second round on that must be the first round's. --json FILE
 * gets a JSON object per line, each with "bench":"s3" and "what" (--json alone: the result only):
 *
 *   setting  first: time, command, version of Convoy, the machine; uri, objects, bytes, in_flight,
 *            range_bytes, into
 *   run      a round, as it ends: round (from 1), seconds, cpu_s (of this process), mb_per_s,
 *            objects_per_s, cpu_s_per_gb, cpu_ms_per_object, request_ms, request_ms_p95, requests,
 *            retries, hedged, bytes_in (as they came, what was asked for twice too)
 *   get, get-small  the result (small: below 1 MiB on average): objects, bytes, in_flight,
 *            range_bytes, into, repeats; the medians of the rounds, mb_per_s and the other rates
 *            and costs with ..._min and ..._max; requests, retries, hedged, bytes_in of all rounds
 *            together
 */
#ifndef LAUNCH_BENCH_S3_H
#define LAUNCH_BENCH_S3_H

struct err;

/** Measure what the words behind "s3" say and print it; 0, or -1 with err. program and status are
 * not looked at: the runs are this process's. SIGINT and the like end it as they end any process:
 * there is no result, and --json FILE has the rounds before. */
int launch_bench_s3(int argc, char *const *argv, const char *program, int *status, struct err *err);

#endif
