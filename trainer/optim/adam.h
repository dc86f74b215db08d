/*
 * trainer/optim/adam.h -- Adam and AdamW, as torch.optim.Adam and AdamW define them (no amsgrad).
 *
 *     Adam:    g = gradient + weight_decay * w
 *     AdamW:   g = gradient
 *              w -= lr * weight_decay * w
 *     both:    m = beta1 * m + (1 - beta1) * g
 *              v = beta2 * v + (1 - beta2) * g * g
 *              w -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
 *
 * Sources: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015
 * (arXiv:1412.6980), algorithm 1; Loshchilov and Hutter, "Decoupled weight decay regularization",
 * ICLR 2019 (arXiv:1711.05101), algorithm 2, where the rate scales the decay too; PyTorch's
 * documentation of both for the place of eps.
 */
#ifndef OPTIM_ADAM_H
#define OPTIM_ADAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct optim_adam {
    double beta1, beta2; /* in [0, 1) */
    double eps;
    double weight_decay;
    bool decoupled; /* AdamW */
};

/** Step number t (from 1) over count values in place; m and v (count each) are zero before the
 * first. Computes with OpenMP threads; element-wise, so the bits do not depend on them. */
void optim_adam_step(const struct optim_adam *adam, uint64_t t, double lr, float *w, float *m,
                     float *v, const float *gradient, size_t count);

#endif
