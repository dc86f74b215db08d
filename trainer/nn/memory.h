/*
 * trainer/nn/memory.h -- where a network's values, gradients and working memory are: planned once
 * for the largest micro-batch, so that a step allocates nothing.
 *
 * Time runs through forward (node i at step i), the loss and backward. Two buffers share memory
 * when they are never needed at the same step (plan.h). Three kinds need no buffer at all: what
 * stands between a convolution and the next one is computed as it is read; the gradient of a
 * convolution's raw result takes that result's place, once the result has been read for the last
 * time; and the gradient of a block's shortcut stands where that of the block's end stood.
 */
#ifndef NN_MEMORY_H
#define NN_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/nn/batchnorm.h"
#include "trainer/nn/graph.h"
#include "trainer/nn/kernel/scratch.h"

struct err;

struct nn_memory {
    float *floats;              /* what the arrays below point into */
    float **data, **gradient;   /* per value, for the whole micro-batch; the input's are NULL */
    uint8_t **taken;            /* per node: a max pool's choices */
    struct nn_batchnorm *norms; /* per node, of convolutions */
    float *norm_floats;
    float *sums; /* of the sink that is being written to: kernel/sink.h */
    uint32_t *block_rows;
    struct nn_conv_packed *packed; /* per node: of frozen convolutions, as a step reads them; floats
                                      is NULL elsewhere */
    float *packed_floats;
    float *features; /* of the whole micro-batch; no value's buffer */
    struct nn_scratch scratch;
};

/* What a plan takes, in floats. */
struct nn_memory_size {
    size_t values; /* data and gradients, sharing */
    size_t norms, sums, block_rows;
    size_t packed;          /* filters of frozen layers */
    size_t features;        /* what frozen layers give to the others, of all images */
    size_t shared, private; /* scratch; private: of one thread */
};

/** How many of n images go through the frozen layers at once, as nn_model_features() sends them:
 * few, so that what stands between layers stays in the caches. All n where the batch is measured
 * there. */
int nn_memory_frozen_images(const struct nn_graph *graph, int n);

struct nn_memory_size nn_memory_size(const struct nn_graph *graph, int micro_batch, bool training);

/** Take all of it. ERR_MEMORY; release after a failure too. */
int nn_memory_init(struct nn_memory *memory, const struct nn_graph *graph, int micro_batch,
                   bool training, struct err *err);
void nn_memory_release(struct nn_memory *memory);

#endif
