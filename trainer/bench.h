/*
 * trainer/bench.h -- how fast the steps of a training run are, without its pictures.
 */
#ifndef TRAIN_BENCH_H
#define TRAIN_BENCH_H

#include <stdbool.h>

struct comm;
struct err;
struct train_options;

#define TRAIN_BENCH_WARMUP_STEPS 2

/**
 * Take options->bench_steps training steps (train_step: the same network, tree, exchange and
 * optimizer) on pictures made up in memory, after TRAIN_BENCH_WARMUP_STEPS that are not counted,
 * and write one line of JSON to stdout from rank 0:
 *
 *   {"event":"bench","model":"resnet20","image_size":32,"ranks":2,"threads":1,"micro_batch":32,
 *    "global_batch":64,"steps":10,"images":640,"seconds":1.5,"images_per_s":426.7,"compute_s":1.3,
 *    "exchange_s":0.2,"numerics":"convoy 0.1.0 ...","mpi":"Open MPI v4.1.4"}
 *
 * seconds is the wall clock of all ranks together; compute_s and exchange_s are a rank's, the mean
 * over ranks. exchange_s includes waiting for the slowest; what is left of seconds is the
 * optimizer. numerics is what was measured (nn/threads.h).
 *
 * Collective. Returns and agrees as train_run does.
 */
int train_bench(struct train_options *options, struct comm *comm, bool *agreed, struct err *err);

#endif
