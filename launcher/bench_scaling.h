/*
 * launcher/bench_scaling.h -- `convoy bench scaling`: how the rate of training grows with hosts or
 * ranks.
 *
 * Every round runs every point with the exchange and side by side without (A a B b C c A a ...),
 * each as a job of its own by `convoy train --bench-steps`, so that start, network and exchange are
 * those of training.
 */
#ifndef LAUNCH_BENCH_SCALING_H
#define LAUNCH_BENCH_SCALING_H

struct err;

/** Measure what the words behind "scaling" say and print it. program: convoy-train's path. 0 with
 * the exit status; -1 with err: a run that failed is named with its command. Progress goes to
 * stderr. SIGINT, SIGTERM, SIGHUP: the run at hand is ended, and the status is 128 + the signal's
 * number. Call once, from a process with one thread. */
int launch_bench_scaling(int argc, char *const *argv, const char *program, int *status,
                         struct err *err);

#endif
