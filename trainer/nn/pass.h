/*
 * trainer/nn/pass.h -- one micro-batch through the list of nodes, forward and backward.
 */
#ifndef NN_PASS_H
#define NN_PASS_H

#include <signal.h>
#include <stdbool.h>

#include "trainer/nn/graph.h"
#include "trainer/nn/memory.h"

struct nn_pass {
    const struct nn_graph *graph;
    const struct nn_memory *memory;
    const float *weights, *running;
    const float *x;        /* (n, H, W, 3) */
    const float *features; /* not NULL: the boundary's value (graph.h), and frozen nodes rest */
    int n;
    bool frozen_only;  /* end at the boundary */
    float *statistics; /* out: of training, those of measured batch norms; NULL: evaluation */
    float *gradient;   /* out: of the weights; NULL: no backward follows */
    const volatile sig_atomic_t *cancel;      /* may be NULL */
    int (*need)(void *context, size_t begin); /* as nn_step has it; may be NULL */
    void *context;
};

/** All nodes in order (frozen ones that do not measure the batch: with features, or of so few
 * images as nn_memory_frozen_images() says); the last value then holds the logits, or the
 * boundary's what was asked for. Returns 0, or 1 when cancelled. */
int nn_pass_forward(const struct nn_pass *pass);

/** From the gradient of the logits to those of all trained weights. `ready` (may be NULL) is told
 * how much of the gradient vector is final. Returns 0, or 1 when cancelled. */
int nn_pass_backward(const struct nn_pass *pass, void (*ready)(void *context, size_t floats),
                     void *context);

#endif
