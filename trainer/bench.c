#include "trainer/bench.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/philox.h"
#include "trainer/data/stream/stream.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/run.h"

#define LR 1e-3 /* small: what the network learns does not matter, and it must stay finite */

struct bench {
    struct train_run run;
    struct comm *comm; /* all ranks */
    struct comm alone; /* this rank without the others: run.comm in a run without exchange */
    struct data_batch batch;
};

/* What a rank found of its timed steps. */
struct figures {
    double images, seconds, compute_s, ranks_s, exchange_s, input_s;
};

/* All ranks together. */
struct totals {
    struct figures mean;
    double images, images_per_s, seconds, compute_s_max;
};

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

/* One epoch without end of full steps; of pictures that are read, as many epochs as it takes. */
static void plan(struct train_run *run)
{
    struct train_options *const o = run->options;
    const uint64_t steps = (uint64_t)o->bench_steps + TRAIN_BENCH_WARMUP_STEPS;

    o->epochs = (int)steps;
    if (o->bench_data)
        return;
    run->dataset.train.classes = nn_model_default_classes(o->model);
    run->order = (struct data_order){.samples = steps * (uint64_t)o->global_batch,
                                     .chunk_samples = 1,
                                     .seed = o->seed,
                                     .batch = (uint32_t)o->global_batch,
                                     .lanes = (uint32_t)o->lanes};
}

/* The rank's own lanes become a job of one rank, which no train_step waits for another in. Their
 * images stay as many as they were (a run of lanes shares them out as all lanes do), and the stream
 * goes on by the order of all: the pictures are those that this rank has with the exchange. */
static void stand_alone(struct bench *b)
{
    struct train_run *const run = &b->run;
    struct train_options *const o = run->options;
    struct data_order own = run->order;

    own.lanes = run->lanes.end - run->lanes.begin;
    own.batch = 0;
    for (uint32_t lane = run->lanes.begin; lane < run->lanes.end; lane++)
        own.batch += data_order_lane_images(&run->order, 0, lane);
    own.samples = data_order_steps(&run->order) * own.batch;
    for (uint32_t lane = 0; lane < own.lanes; lane++)
        assert(data_order_lane_images(&own, 0, lane) ==
               data_order_lane_images(&run->order, 0, run->lanes.begin + lane));
    run->order = own;
    o->lanes = (int)own.lanes;
    o->global_batch = (int)own.batch;
    b->alone = *b->comm;
    b->alone.rank = 0;
    b->alone.size = 1;
    run->comm = &b->alone;
}

static void begin_epoch_where_one_ended(struct train_run *run)
{
    if (run->position.epoch_step < data_order_steps(&run->order))
        return;
    run->position.epoch++;
    run->position.epoch_step = 0;
}

/* The last step's sums are waited for, and its update made, as well. */
static int settle(struct train_run *run, struct err *err)
{
    const double begun = clock_now_s(), waited = run->update.waited_s;
    const int rc = train_update_settle(run, err);
    const double waiting_s = run->update.waited_s - waited;

    run->times.exchange_s += waiting_s;
    run->times.compute_s += clock_now_s() - begun - waiting_s;
    return rc;
}

static int take_steps(struct train_run *run, int steps, struct err *err)
{
    for (int i = 0; i < steps; i++) {
        bool dropped = false, stop = false;

        begin_epoch_where_one_ended(run);
        if (train_step(run, &dropped, &stop, err) < 0)
            return -1;
        if (dropped || stop) {
            if (train_update_settle(run, err) < 0)
                return -1;
            run->agreed = true;
            return err_set(err, ERR_STOPPED, "stopped while measuring");
        }
    }
    return settle(run, err);
}

/* All ranks have taken their steps (rc). Side by side no rank has heard of another's end before. */
static int meet(struct bench *b, int rc, struct err *err)
{
    struct train_run *const run = &b->run;
    const int stopped = rc < 0 && err->code == ERR_STOPPED, failed = rc < 0 && !stopped;
    int64_t ended[2] = {stopped, failed};

    if (run->comm == b->comm)
        return rc < 0 ? -1 : comm_barrier(b->comm, err);
    if (comm_sum_integers(b->comm, ended, 2, err) < 0)
        return -1;
    if (ended[0] + ended[1] == 0)
        return 0;
    run->comm = b->comm;
    run->agreed = ended[1] == 0;
    return ended[1] > 0 ? train_share_failure(run, -failed, err)
                        : err_set(err, ERR_STOPPED, "stopped while measuring");
}

/* With the exchange all begin and end together; side by side a rank's clock stops with its own last
 * step. */
static int take_timed_steps(struct bench *b, struct figures *mine, struct err *err)
{
    struct train_run *const run = &b->run;
    const bool alone = run->comm != b->comm;
    uint64_t images;
    double begun, own_s;
    int rc;

    if (meet(b, take_steps(run, TRAIN_BENCH_WARMUP_STEPS, err), err) < 0)
        return -1;
    run->times = (struct train_times){0};
    images = run->position.samples;
    begun = clock_now_s();
    rc = take_steps(run, run->options->bench_steps, err);
    own_s = clock_now_s() - begun;
    if (meet(b, rc, err) < 0)
        return -1;
    *mine = (struct figures){.images = (double)(run->position.samples - images),
                             .seconds = alone ? own_s : clock_now_s() - begun,
                             .compute_s = run->times.compute_s,
                             .ranks_s = run->times.ranks_s,
                             .exchange_s = run->times.exchange_s,
                             .input_s = run->times.input_s};
    return 0;
}

/* Side by side every rank goes at its own rate, and the rates add up. */
static struct totals add_up(const struct figures *all, int ranks, bool alone)
{
    struct totals t = {.seconds = all[0].seconds, .images = all[0].images};

    for (int r = 0; r < ranks; r++) {
        const struct figures *const f = &all[r];

        t.mean.compute_s += f->compute_s / ranks;
        t.mean.ranks_s += f->ranks_s / ranks;
        t.mean.exchange_s += f->exchange_s / ranks;
        t.mean.input_s += f->input_s / ranks;
        t.compute_s_max = f->compute_s > t.compute_s_max ? f->compute_s : t.compute_s_max;
        t.images_per_s += alone ? f->images / f->seconds : 0;
        if (alone && r > 0) {
            t.seconds = f->seconds > t.seconds ? f->seconds : t.seconds;
            t.images += f->images;
        }
    }
    if (!alone)
        t.images_per_s = t.images / t.seconds;
    return t;
}

static int print(const struct bench *b, const struct totals *t, int global_batch)
{
    const struct train_options *const o = b->run.options;
    const double imbalance = t->mean.compute_s > 0 ? t->compute_s_max / t->mean.compute_s - 1 : 0;
    json_t *const line = json_pack(
        "{s:s, s:s, s:i, s:s*, s:i, s:i, s:i, s:i, s:b, s:i, s:I, s:f, s:f, s:f, s:f, s:f, s:f, "
        "s:f, s:f, s:s, s:s}",
        "event", "bench", "model", o->model, "image_size", o->image_size, "data",
        !o->bench_data    ? NULL
        : o->data != NULL ? o->data
                          : o->train,
        "ranks", b->comm->size, "threads", o->threads, "micro_batch", o->micro_batch,
        "global_batch", global_batch, "exchange", !o->no_exchange, "steps", o->bench_steps,
        "images", (json_int_t)t->images, "seconds", t->seconds, "images_per_s", t->images_per_s,
        "compute_s", t->mean.compute_s, "compute_s_max", t->compute_s_max, "ranks_s",
        t->mean.ranks_s, "exchange_s", t->mean.exchange_s, "input_s", t->mean.input_s, "imbalance",
        imbalance, "numerics", nn_numerics_id(), "mpi", b->comm->library);
    const int rc = json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));

    json_decref(line);
    return rc < 0 || putchar('\n') == EOF ? -1 : 0;
}

static int measure(struct bench *b, int global_batch, struct err *err)
{
    const int ranks = b->comm->size;
    struct figures mine = {0}, *all = calloc((size_t)ranks, sizeof *all);
    struct totals totals;
    int rc = -1;

    if (all == NULL)
        abort();
    if (take_timed_steps(b, &mine, err) < 0 ||
        comm_gather(b->comm, &mine, sizeof mine, all, err) < 0)
        goto out;
    totals = add_up(all, ranks, b->run.options->no_exchange);
    rc = 0;
    if (b->comm->rank == 0 && print(b, &totals, global_batch) < 0)
        rc = err_set(err, ERR_IO, "cannot write the figures to stdout");
out:
    free(all);
    return rc;
}

/* Whatever the dataset's: the rate of a warm-up would be another for each batch. */
static void set_schedule(struct train_run *run)
{
    run->schedule = (struct optim_schedule){
        .kind = OPTIM_CONSTANT, .lr = LR, .total_samples = (double)run->order.samples};
}

static void release(struct bench *b)
{
    struct train_run *const run = &b->run;

    data_stream_free(run->stream);
    train_step_release(run);
    nn_model_free(run->model);
    optim_state_release(&run->state);
    train_dataset_release(&run->dataset);
    free(b->batch.x);
    free(b->batch.labels);
}

int train_bench(struct train_options *options, struct comm *comm, bool *agreed, struct err *err)
{
    const int global_batch = options->global_batch;
    struct bench b = {.run = {.options = options, .comm = comm, .metrics.fd = -1}, .comm = comm};
    int rc = -1;

    plan(&b.run);
    if (train_trace_begin(&b.run, err) < 0 || train_prepare_bench(&b.run, err) < 0)
        goto out;
    if (!options->bench_data) {
        if (make_batch(&b.run, &b.batch, err) < 0)
            goto out;
        b.run.same_batch = &b.batch;
    }
    set_schedule(&b.run);
    if (options->no_exchange)
        stand_alone(&b);
    if (train_step_init(&b.run, err) == 0)
        rc = measure(&b, global_batch, err);
out:
    release(&b);
    b.run.comm = comm;
    rc = train_trace_end(&b.run, rc, err);
    *agreed = b.run.agreed;
    return rc;
}
