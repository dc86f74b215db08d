/*
 * launcher/bench_comm.h -- `convoy bench comm`: how fast the exchange sums a vector over the ranks,
 * beside MPI_Allreduce.
 *
 * One run of `convoy train --bench-comm` measures all sizes and ways in turn, so that start,
 * network, agents and Open MPI's settings are those of training, and noise hits all ways alike.
 */
#ifndef LAUNCH_BENCH_COMM_H
#define LAUNCH_BENCH_COMM_H

struct err;

/** Measure what the words behind "comm" say and print it. program: convoy-train's path. 0 with the
 * exit status; -1 with err. Progress goes to stderr. SIGINT, SIGTERM, SIGHUP: the run is ended, and
 * the status is 128 + the signal's number. Call once, from a process with one thread. */
int launch_bench_comm(int argc, char *const *argv, const char *program, int *status,
                      struct err *err);

#endif
