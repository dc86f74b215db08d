/*
 * trainer/memory.h -- what a rank takes of its host's memory, before it takes it.
 */
#ifndef TRAIN_MEMORY_H
#define TRAIN_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct err;
struct train_options;

/* A run as far as its memory depends on it. */
struct train_memory_job {
    const struct train_options *options;
    int micro_batch, classes, threads;
    int ranks, ranks_of_host;
    bool resumed; /* from a checkpoint, which fixes the micro-batch */
};

/* Bytes of the rank that takes the most. */
struct train_memory {
    size_t weights, state;  /* state: the optimizer's, one or two vectors */
    size_t gradients;       /* partial sums of micro-batches */
    size_t exchange;        /* of gradients: what comes from other ranks */
    size_t values, working; /* of the network: nn_model_memory */
    size_t best;            /* weights that are kept: rank 0 only */
    size_t save;            /* copies of all these: rank 0 only, for a moment */
    size_t pictures;        /* decoded ahead, of training and of an evaluation */
    size_t fetched;         /* from s3:// and not decoded yet, at most */
    size_t features;        /* of a micro-batch, out of the feature cache or on the way into it */
    size_t trace;           /* with --trace */
    size_t total;
};

/** ERR_USAGE as nn_model_new. */
int train_memory_plan(const struct train_memory_job *job, struct train_memory *memory,
                      struct err *err);

/** Does it fit into `available` bytes of this host, together with its other ranks? Else ERR_USAGE,
 * saying what would: the largest --micro-batch, where it can be chosen. */
int train_memory_check(const struct train_memory_job *job, uint64_t available, struct err *err);

/** What the ranks of this host leave of `available` bytes when they have all that is planned. The
 * feature cache takes a part of it. */
uint64_t train_memory_left(const struct train_memory_job *job, uint64_t available);

/** --memory: the plan as a table. */
int train_memory_print(const struct train_memory_job *job, FILE *out, struct err *err);

#endif
