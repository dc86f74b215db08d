#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/trace.h"
#include "comm/exchange.h"
#include "trainer/run.h"

int train_update_init(struct train_run *run, struct err *err)
{
    struct train_update *const update = &run->update;
    const size_t clipped = run->options->clip_norm > 0 ? nn_model_trained_count(run->model) : 0;

    update->averages = calloc(nn_model_measured_count(run->model) + 1, sizeof(float));
    update->clipped = clipped > 0 ? malloc(clipped * sizeof(float)) : NULL;
    if (update->averages == NULL)
        abort();
    if (clipped > 0 && update->clipped == NULL)
        return err_set(err, ERR_MEMORY, "no memory for a gradient of %zu bytes (--clip-norm)",
                       clipped * sizeof(float));
    return 0;
}

void train_update_release(struct train_run *run)
{
    free(run->update.averages);
    free(run->update.clipped);
    run->update = (struct train_update){0};
}

void train_update_plan(struct train_run *run, uint32_t leaves, double lr)
{
    struct train_update *const update = &run->update;

    update->pending = true;
    update->t = run->position.step + 1;
    update->lr = lr;
    update->leaves = leaves;
    update->from = run->state.count;
    update->gradient = NULL;
}

/* Wait for sums [begin, end) of the vector, and count the time. */
static int wait_for(struct train_run *run, size_t begin, size_t end, struct err *err)
{
    const double begun = clock_now_s();
    const int rc = comm_exchange_wait(run->exchange, begin, end, err);

    run->update.waited_s += clock_now_s() - begun;
    trace_end("wait", "sums", begun);
    return rc;
}

/* The norm is that of the whole gradient. It is of all ranks of this host, so what is clipped is a
 * copy. */
static int clip(struct train_run *run, struct err *err)
{
    struct train_update *const update = &run->update;
    const size_t measured = nn_model_measured_count(run->model), trained = run->state.count;

    if (wait_for(run, measured, measured + trained, err) < 0)
        return -1;
    memcpy(update->clipped, comm_exchange_sum(run->exchange) + measured, trained * sizeof(float));
    optim_clip(update->clipped, trained, run->options->clip_norm);
    update->gradient = update->clipped;
    return 0;
}

int train_update_from(struct train_run *run, size_t begin, struct err *err)
{
    struct train_update *const update = &run->update;
    const size_t measured = nn_model_measured_count(run->model);
    double begun;

    if (!update->pending || begin >= update->from)
        return 0;
    if (update->clipped != NULL && update->gradient == NULL && clip(run, err) < 0)
        return -1;
    if (wait_for(run, measured + begin, measured + update->from, err) < 0)
        return -1;
    if (update->gradient == NULL)
        update->gradient = comm_exchange_sum(run->exchange) + measured;
    begun = trace_begin();
    optim_optimizer_step(&run->options->optimizer, &run->state, update->t, update->lr,
                         nn_model_weights(run->model), update->gradient, begin, update->from);
    trace_end("step", "update", begun);
    update->from = begin;
    return 0;
}

static int update_running(struct train_run *run, struct err *err)
{
    struct train_update *const update = &run->update;
    const size_t measured = nn_model_measured_count(run->model);
    const float *const sum = comm_exchange_sum(run->exchange);

    if (wait_for(run, 0, measured, err) < 0)
        return -1;
    for (size_t i = 0; i < measured; i++)
        update->averages[i] = sum[i] / (float)update->leaves;
    nn_model_update_running(run->model, update->averages, NN_RUNNING_MOMENTUM);
    return 0;
}

int train_update_settle(struct train_run *run, struct err *err)
{
    double begun;
    int rc;

    if (run->update.pending && (train_update_from(run, 0, err) < 0 || update_running(run, err) < 0))
        return -1;
    run->update.pending = false;
    begun = clock_now_s();
    rc = comm_exchange_settle(run->exchange, err);
    run->update.waited_s += clock_now_s() - begun;
    trace_end("wait", "settle", begun);
    return rc;
}
