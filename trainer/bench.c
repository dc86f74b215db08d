#include "trainer/bench.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/philox.h"
#include "trainer/data/stream.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/run.h"

#define LR 1e-3 /* small: what the network learns does not matter, and it must stay finite */

/* Pictures of noise: how long a step takes does not depend on what they show. */
static int make_batch(const struct train_run *run, struct data_batch *batch, struct err *err)
{
    const struct train_options *const o = run->options;
    const size_t n = (size_t)o->micro_batch,
                 floats = n * (size_t)o->image_size * (size_t)o->image_size * 3;
    struct philox philox;

    batch->x = malloc(floats * sizeof(float));
    batch->labels = malloc(n * sizeof(int32_t));
    if (batch->x == NULL || batch->labels == NULL)
        return err_set(err, ERR_MEMORY, "no memory for %zu pictures (--micro-batch, --image-size)",
                       n);
    philox_init(&philox, o->seed, 0, 0, PHILOX_SYNTH);
    for (size_t i = 0; i < floats; i++)
        batch->x[i] = philox_uniform(&philox) - 0.5f;
    for (size_t i = 0; i < n; i++)
        batch->labels[i] = (int32_t)(i % (size_t)run->dataset.train.classes);
    return 0;
}

/* One epoch without end of full steps. */
static void plan(struct train_run *run)
{
    const struct train_options *const o = run->options;
    const uint64_t steps = (uint64_t)o->bench_steps + TRAIN_BENCH_WARMUP_STEPS;

    run->dataset.train.classes = nn_model_default_classes(o->model);
    run->order = (struct data_order){.samples = steps * (uint64_t)o->global_batch,
                                     .chunk_samples = 1,
                                     .seed = o->seed,
                                     .batch = (uint32_t)o->global_batch,
                                     .lanes = (uint32_t)o->lanes};
    run->schedule = (struct optim_schedule){
        .kind = OPTIM_CONSTANT, .lr = LR, .total_samples = (double)run->order.samples};
}

static int take_steps(struct train_run *run, int steps, struct err *err)
{
    for (int i = 0; i < steps; i++) {
        bool dropped = false, stop = false;

        if (train_step(run, &dropped, &stop, err) < 0)
            return -1;
        if (dropped || stop) {
            run->agreed = true;
            return err_set(err, ERR_STOPPED, "stopped while measuring");
        }
    }
    return train_update_settle(run, err);
}

static int print(const struct train_run *run, double seconds, double compute_s, double exchange_s)
{
    const struct train_options *const o = run->options;
    const double images = (double)o->bench_steps * o->global_batch;
    json_t *const line = json_pack(
        "{s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:f, s:f, s:f, s:f, s:s, s:s}", "event",
        "bench", "model", o->model, "image_size", o->image_size, "ranks", run->comm->size,
        "threads", o->threads, "micro_batch", o->micro_batch, "global_batch", o->global_batch,
        "steps", o->bench_steps, "images", (json_int_t)images, "seconds", seconds, "images_per_s",
        images / seconds, "compute_s", compute_s, "exchange_s", exchange_s, "numerics",
        nn_numerics_id(), "mpi", run->comm->library);
    const int rc = json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));

    json_decref(line);
    return rc < 0 || putchar('\n') == EOF ? -1 : 0;
}

static int tell(struct train_run *run, double seconds, struct err *err)
{
    const double ranks = run->comm->size;
    int64_t us[] = {(int64_t)(run->times.compute_s * 1e6), (int64_t)(run->times.exchange_s * 1e6)};

    if (comm_sum_integers(run->comm, us, 2, err) < 0)
        return -1;
    if (run->comm->rank == 0 &&
        print(run, seconds, (double)us[0] / 1e6 / ranks, (double)us[1] / 1e6 / ranks) < 0)
        return err_set(err, ERR_IO, "cannot write the figures to stdout");
    return 0;
}

static int measure(struct train_run *run, struct err *err)
{
    double begun;

    if (take_steps(run, TRAIN_BENCH_WARMUP_STEPS, err) < 0 || comm_barrier(run->comm, err) < 0)
        return -1;
    run->times = (struct train_times){0};
    begun = clock_now_s();
    if (take_steps(run, run->options->bench_steps, err) < 0 || comm_barrier(run->comm, err) < 0)
        return -1;
    return tell(run, clock_now_s() - begun, err);
}

int train_bench(struct train_options *options, struct comm *comm, bool *agreed, struct err *err)
{
    struct train_run run = {.options = options, .comm = comm, .metrics.fd = -1};
    struct data_batch batch = {0};
    int rc = -1;

    plan(&run);
    if (train_prepare_bench(&run, err) < 0 || make_batch(&run, &batch, err) < 0)
        goto out;
    run.same_batch = &batch;
    rc = measure(&run, err);
out:
    train_step_release(&run);
    nn_model_free(run.model);
    optim_state_release(&run.state);
    free(batch.x);
    free(batch.labels);
    *agreed = run.agreed;
    return rc;
}
