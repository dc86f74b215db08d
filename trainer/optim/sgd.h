/*
 * trainer/optim/sgd.h -- stochastic gradient descent with momentum, as torch.optim.SGD defines it.
 *
 *     g = gradient + weight_decay * w
 *     m = momentum * m + g
 *     w -= lr * (nesterov ? g + momentum * m : m)
 *
 * Source: Sutskever et al., "On the importance of initialization and momentum in deep learning",
 * ICML 2013 (Nesterov's form); PyTorch documentation of SGD for the exact variant (no dampening).
 */
#ifndef OPTIM_SGD_H
#define OPTIM_SGD_H

#include <stdbool.h>
#include <stddef.h>

struct optim_sgd {
    float momentum, weight_decay;
    bool nesterov;
};

/** One step over count values in place; m (count) is zero before the first step. Computes with
 * OpenMP threads; element-wise, so the bits do not depend on them. */
void optim_sgd_step(const struct optim_sgd *sgd, float lr, float *w, float *m,
                    const float *gradient, size_t count);

/** Euclidean norm of x: squares added in double in blocks of fixed size, blocks in a tree of fixed
 * shape. */
double optim_norm(const float *x, size_t count);

/** Multiply the gradient by max_norm / norm where norm is larger (torch.nn.utils.clip_grad_norm_).
 * Returns the norm before. */
double optim_clip(float *gradient, size_t count, double max_norm);

#endif
