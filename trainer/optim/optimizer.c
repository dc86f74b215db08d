/* trainer/optim/optimizer.c -- see optimizer.h. */
#include "trainer/optim/optimizer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

static const struct {
    int vectors;
    const char *name[OPTIM_VECTORS_MAX];
} kinds[] = {
    [OPTIM_SGD] = {1, {"momentum"}},
    [OPTIM_ADAM] = {2, {"exp_avg", "exp_avg_sq"}},
};

int optim_vectors(enum optim_kind kind)
{
    return kinds[kind].vectors;
}

const char *optim_vector_name(enum optim_kind kind, int i)
{
    assert(i < kinds[kind].vectors);
    return kinds[kind].name[i];
}

int optim_state_init(struct optim_state *state, enum optim_kind kind, size_t count, struct err *err)
{
    *state = (struct optim_state){.kind = kind, .vectors = optim_vectors(kind), .count = count};
    for (int i = 0; i < state->vectors; i++) {
        state->vector[i] = calloc(count > 0 ? count : 1, sizeof(float));
        if (state->vector[i] == NULL) {
            optim_state_release(state);
            return err_set(err, ERR_MEMORY, "no memory for the optimizer's state (%zu MB)",
                           (size_t)optim_vectors(kind) * count * sizeof(float) / 1000000);
        }
    }
    return 0;
}

void optim_state_release(struct optim_state *state)
{
    for (int i = 0; i < OPTIM_VECTORS_MAX; i++)
        free(state->vector[i]);
    memset(state, 0, sizeof *state);
}

void optim_optimizer_step(const struct optim_optimizer *optimizer, struct optim_state *state,
                          uint64_t t, double lr, float *w, const float *gradient, size_t begin,
                          size_t end)
{
    float *const first = state->vector[0] + begin;

    assert(begin <= end && end <= state->count && state->kind == optimizer->kind);
    if (optimizer->kind == OPTIM_SGD)
        optim_sgd_step(&optimizer->sgd, (float)lr, w + begin, first, gradient + begin, end - begin);
    else
        optim_adam_step(&optimizer->adam, t, lr, w + begin, first, state->vector[1] + begin,
                        gradient + begin, end - begin);
}
