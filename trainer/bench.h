/*
 * trainer/bench.h -- how fast the steps of a training run are.
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
 * optimizer), after TRAIN_BENCH_WARMUP_STEPS that are not counted, and write one line of JSON to
 * stdout from rank 0. Pictures are made up in memory; with options->bench_data they are read as a
 * training reads them, in full steps only.
 *
 *   {"event":"bench","model":"resnet20","image_size":32,"data":"s3://...","ranks":2,"threads":1,
 *    "micro_batch":32,"global_batch":64,"exchange":true,"steps":10,"images":640,"seconds":1.5,
 *    "images_per_s":426.7,"compute_s":1.3,"compute_s_max":1.31,"ranks_s":0.02,
 *    "exchange_s":0.18,"input_s":0.0,"imbalance":0.008,"numerics":"convoy 0.1.0 ...",
 *    "mpi":"Open MPI v4.1.4"}
 *
 * data is there only where pictures are read. seconds is the wall clock of all ranks together;
 * compute_s, ranks_s (waiting for other ranks to end their step: for the slowest, and for their
 * answers on the wire), exchange_s (waiting for sums of gradients) and input_s (waiting for
 * pictures) are a rank's, the mean over ranks. compute_s is the network's and the optimizer's,
 * which works layer by layer in the next forward.
 * compute_s_max is that of the rank that computed longest, imbalance how much longer than the mean:
 * 0.1 is a tenth. numerics is what was measured (nn/threads.h).
 *
 * With options->no_exchange the ranks work side by side: each takes the same steps on the same
 * pictures as with the exchange, but its own share only and as a job of one rank; between a barrier
 * before and one behind, none waits for another. Then seconds is the slowest rank's, and
 * images_per_s the sum of the ranks' own rates (images / its own seconds): what these hosts do when
 * nobody waits. All images / seconds would be less where ranks differ, and would not count against
 * the exchange what waiting for the slowest costs.
 *
 * Collective. Returns and agrees as train_run does.
 */
int train_bench(struct train_options *options, struct comm *comm, bool *agreed, struct err *err);

#endif
