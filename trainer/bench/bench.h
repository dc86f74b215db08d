/*
 * trainer/bench/bench.h -- `convoy-train bench NAME`: what the network costs on this host.
 *
 * No ranks and no pictures from anywhere: the arithmetic alone, with the memory that it needs.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <signal.h>

struct err;

/** Run the benchmark that argv[0] names with the options behind it and print what it found to
 * stdout. ERR_USAGE, ERR_MEMORY, ERR_IO; ERR_STOPPED once *cancel is not zero. */
int bench_run(int argc, char *const *argv, const volatile sig_atomic_t *cancel, struct err *err);

/* The benchmarks, for bench.c: argc and argv are what stands behind the name. */
int bench_model(int argc, char *const *argv, const volatile sig_atomic_t *cancel, struct err *err);
int bench_layers(int argc, char *const *argv, const volatile sig_atomic_t *cancel, struct err *err);

#endif
