/* trainer/optim/adam.c -- see adam.h. */
#include "trainer/optim/adam.h"

#include <assert.h>
#include <math.h>

#define THREADS_FLOATS 32768 /* as sgd.c */

/* What a step multiplies with, each computed in double and rounded once, as PyTorch does. */
struct factors {
    float beta1, beta1_rest, beta2, beta2_rest; /* rest: 1 - beta */
    float eps, rate, root;                      /* root: sqrt(1 - beta2^t) */
    float decay, kept;                          /* into the gradient; of the weight */
};

/* By squaring: the C library's pow() may pick another algorithm on another CPU. */
static double power(double x, uint64_t n)
{
    double result = 1;

    for (; n > 0; n >>= 1, x *= x)
        if (n & 1)
            result *= x;
    return result;
}

static struct factors factors_of(const struct optim_adam *adam, uint64_t t, double lr)
{
    return (struct factors){
        .beta1 = (float)adam->beta1,
        .beta1_rest = (float)(1 - adam->beta1),
        .beta2 = (float)adam->beta2,
        .beta2_rest = (float)(1 - adam->beta2),
        .eps = (float)adam->eps,
        .rate = (float)(lr / (1 - power(adam->beta1, t))),
        .root = (float)sqrt(1 - power(adam->beta2, t)),
        .decay = adam->decoupled ? 0 : (float)adam->weight_decay,
        .kept = adam->decoupled ? (float)(1 - lr * adam->weight_decay) : 1,
    };
}

/* The build does not contract: each operation rounds by itself, on every instruction set alike.
 * Where nothing decays, 0 * w is added and w is multiplied by 1: that changes no value. */
void optim_adam_step(const struct optim_adam *adam, uint64_t t, double lr, float *w, float *m,
                     float *v, const float *gradient, size_t count)
{
    const struct factors f = factors_of(adam, t, lr);

    assert(t > 0);
#pragma omp parallel for simd schedule(static) if (parallel : count >= THREADS_FLOATS)
    for (size_t i = 0; i < count; i++) {
        const float g = gradient[i] + f.decay * w[i];

        m[i] = f.beta1 * m[i] + f.beta1_rest * g;
        v[i] = f.beta2 * v[i] + f.beta2_rest * (g * g);
        w[i] = f.kept * w[i] - f.rate * (m[i] / (sqrtf(v[i]) / f.root + f.eps));
    }
}
