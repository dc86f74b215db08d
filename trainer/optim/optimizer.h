/*
 * trainer/optim/optimizer.h -- the run's optimizer: which one, and what it keeps between steps.
 *
 * A state vector is laid out like the weights' first `count` floats, those that are trained. It is
 * the caller's, as it belongs into the checkpoint.
 */
#ifndef OPTIM_OPTIMIZER_H
#define OPTIM_OPTIMIZER_H

#include <stddef.h>
#include <stdint.h>

#include "trainer/optim/adam.h"
#include "trainer/optim/sgd.h"

struct err;

enum optim_kind { OPTIM_SGD, OPTIM_ADAM };

struct optim_optimizer {
    enum optim_kind kind;
    struct optim_sgd sgd;
    struct optim_adam adam;
};

#define OPTIM_VECTORS_MAX 2

struct optim_state {
    enum optim_kind kind;
    int vectors;
    size_t count; /* floats of each */
    float *vector[OPTIM_VECTORS_MAX];
};

/** State vectors: 1 of SGD (momentum), 2 of Adam. */
int optim_vectors(enum optim_kind kind);

/** What a state vector is called, as in PyTorch's state_dict: "momentum" (there momentum_buffer);
 * "exp_avg", "exp_avg_sq". i < optim_vectors(kind). */
const char *optim_vector_name(enum optim_kind kind, int i);

/** Zeros. ERR_MEMORY. Release accepts all-zero. */
int optim_state_init(struct optim_state *state, enum optim_kind kind, size_t count,
                     struct err *err);
void optim_state_release(struct optim_state *state);

/**
 * Step number t (from 1) of the weights [begin, end): w, gradient and the state's vectors are all
 * indexed by a weight's place. end <= state->count. Steps of parts that together are the whole give
 * the bits of one step of the whole, in any order. Computes with OpenMP threads, the same bits with
 * any number.
 */
void optim_optimizer_step(const struct optim_optimizer *optimizer, struct optim_state *state,
                          uint64_t t, double lr, float *w, const float *gradient, size_t begin,
                          size_t end);

#endif
