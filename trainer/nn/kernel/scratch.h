/*
 * trainer/nn/kernel/scratch.h -- working memory of the layers, made once with the model.
 *
 * `shared` belongs to the layer that is computing; every thread may write its own part of it.
 * `private` is one run of floats for each thread. Nothing in it lives longer than one call of a
 * layer.
 */
#ifndef NN_SCRATCH_H
#define NN_SCRATCH_H

#include <stddef.h>

struct err;

struct nn_scratch {
    float *shared, *private;
    size_t shared_floats, private_floats; /* private_floats: of one thread */
    int threads;
};

/** Take memory for as many threads as OpenMP would use now. ERR_MEMORY. */
int nn_scratch_init(struct nn_scratch *scratch, size_t shared_floats, size_t private_floats,
                    struct err *err);
void nn_scratch_release(struct nn_scratch *scratch);

/** The calling OpenMP thread's own run of floats. */
float *nn_scratch_mine(const struct nn_scratch *scratch);

/** Floats whose storage begins at a cache line; all zero. NULL: ERR_MEMORY. free() releases them.
 */
float *nn_floats_new(size_t count, struct err *err);

#endif
