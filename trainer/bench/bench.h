/*
 * trainer/bench/bench.h -- `convoy-train bench NAME`: what a network, and its pictures, cost on
 * this host.
 *
 * No ranks: model and layers are the arithmetic alone, with the memory that it needs, and take no
 * pictures from anywhere; input takes pictures and computes nothing.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <signal.h>

struct err;

/** Run the benchmark that argv[0] names with the options behind it and print what it found to
 * stdout. ERR_USAGE, ERR_MEMORY, ERR_IO, of pictures ERR_INPUT and ERR_NET; ERR_STOPPED once
 * *cancel is not zero. */
int bench_run(int argc, char *const *argv, const volatile sig_atomic_t *cancel, struct err *err);

/* The benchmarks, for bench.c: argc and argv are what stands behind the name. */
int bench_model(int argc, char *const *argv, const volatile sig_atomic_t *cancel, struct err *err);
int bench_layers(int argc, char *const *argv, const volatile sig_atomic_t *cancel, struct err *err);
int bench_input(int argc, char *const *argv, const volatile sig_atomic_t *cancel, struct err *err);

#endif
