/*
 * launcher/bench.h -- `convoy bench NAME`: what a machine, or several, can do.
 */
#ifndef LAUNCH_BENCH_H
#define LAUNCH_BENCH_H

struct err;

/** Run the verb; argv[0] is "bench", program convoy-train's path. 0 with the exit status, or -1
 * with err. Call once, from a process with one thread. */
int launch_bench_main(int argc, char *const *argv, const char *program, int *status,
                      struct err *err);

#endif
