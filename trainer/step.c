#include "trainer/run.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "comm/exchange.h"
#include "trainer/checkpoint/lease.h"
#include "trainer/data/stream.h"
#include "trainer/feature_cache.h"
#include "trainer/optim/sgd.h"
#include "trainer/stop.h"

/* A leaf's vector: batch-norm statistics first (they are ready when forward ends), then the
 * gradient. */
static size_t leaf_floats(const struct train_run *run)
{
    return nn_model_measured_count(run->model) + nn_model_trained_count(run->model);
}

/* Partial sums beyond those that a power of two of lanes needs, on the rank that keeps the most. */
static int extra_buffers(uint32_t lanes, int ranks)
{
    int most = 0;

    for (int r = 0; r < ranks; r++) {
        const struct comm_leaves own = comm_tree_share(lanes, r, ranks);
        int log2 = 0, extra = 0;

        while (2u << log2 <= own.end - own.begin)
            log2++;
        extra = comm_tree_sum_buffers(lanes, own) - log2 - 1;
        most = extra > most ? extra : most;
    }
    return most;
}

static void warn_of_buffers(const struct train_run *run, size_t count)
{
    const int extra = extra_buffers((uint32_t)run->options->lanes, run->comm->size);

    if (run->comm->rank == 0 && extra > 0)
        log_warn(
            "%d micro-batches over %d ranks is no power of two each: a rank keeps up to %.1f MB "
            "more of partial sums",
            run->options->lanes, run->comm->size, extra * (double)count * sizeof(float) / 1e6);
}

int train_step_init(struct train_run *run, struct err *err)
{
    const size_t count = leaf_floats(run);
    const uint32_t lanes = (uint32_t)run->options->lanes;

    run->lanes = comm_tree_share(lanes, run->comm->rank, run->comm->size);
    warn_of_buffers(run, count);
    if (comm_tree_sum_init(&run->tree, lanes, run->lanes, count, err) < 0)
        return -1;
    run->exchange = comm_exchange_new(run->comm, lanes, count, run->options->bucket_bytes, err);
    if (run->exchange == NULL)
        return -1;
    if (run->tree.vectors == 0 && (run->own_sum = calloc(count, sizeof(float))) == NULL)
        return err_set(err, ERR_MEMORY, "no memory for a gradient of %zu MB",
                       count * sizeof(float) / 1000000);
    run->sum = run->tree.vectors > 0 ? run->tree.vector[0] : run->own_sum;
    return 0;
}

void train_step_release(struct train_run *run)
{
    comm_exchange_free(run->exchange);
    comm_tree_sum_release(&run->tree);
    free(run->own_sum);
    run->exchange = NULL;
    run->own_sum = run->sum = NULL;
}

uint64_t train_epoch_images(const struct data_order *order)
{
    return order->drop_last ? data_order_steps(order) * order->batch : order->samples;
}

/* Images that had their turn before this step, those among them that could not be decoded too: the
 * rate of a step does not depend on how many these are. */
static uint64_t images_before(const struct train_run *run)
{
    const struct train_position *const p = &run->position;

    return p->epoch * train_epoch_images(&run->order) + p->epoch_step * run->order.batch;
}

/* What the ranks tell each other before they exchange gradients. */
struct agreement {
    int64_t images, correct, correct5, loss, nonfinite, stop, dropped, failed;
    int64_t empty; /* micro-batches of which no picture could be decoded: leaves of zeros */
};

/* As data_stream_next. */
static int next_batch(struct train_run *run, uint32_t lane_images, struct data_batch *batch,
                      struct err *err)
{
    if (run->same_batch == NULL)
        return data_stream_next(run->stream, batch, &train_stop_drop, err);
    *batch = *run->same_batch;
    batch->n = (int)lane_images;
    return 1;
}

/* Run one micro-batch of a step with this sum of weights into the tree's next leaf; count it if it
 * has no picture. Returns 1 when given up. */
static int train_micro_batch(struct train_run *run, double weight, uint32_t lane,
                             struct nn_score *score, int64_t *empty, struct train_times *times,
                             struct err *err)
{
    const double begun = clock_now_s();
    const uint32_t lane_images =
        data_order_lane_images(&run->order, run->position.epoch_step, lane);
    struct data_batch batch = {0};
    float *const leaf = comm_tree_sum_leaf(&run->tree);
    struct nn_step step = {.scale = 1.0f / (float)weight,
                           .class_weights = run->class_weights.weight,
                           .label_smoothing = (float)run->options->label_smoothing,
                           .statistics = leaf,
                           .gradient = leaf + nn_model_measured_count(run->model),
                           .cancel = &train_stop_drop};
    const int got = run->feature_cache != NULL
                        ? train_feature_cache_batch(run->feature_cache, run, lane, &step, err)
                        : next_batch(run, lane_images, &batch, err);
    const double read = clock_now_s();
    int cancelled = 0;

    times->input_s += read - begun;
    if (got < 0)
        return err->code == ERR_STOPPED ? 1 : -1;
    if (got == 0 && run->feature_cache == NULL)
        return err_set(err, ERR_INTERNAL, "the stream of pictures ended early");
    if (run->feature_cache == NULL) {
        step.x = batch.x;
        step.labels = batch.labels;
        step.n = batch.n;
    }
    if (step.n > 0) {
        cancelled = nn_model_train(run->model, &step, score);
    } else {
        memset(leaf, 0, leaf_floats(run) * sizeof *leaf);
        ++*empty;
    }
    if (run->same_batch == NULL && run->feature_cache == NULL)
        data_stream_give_back(run->stream, &batch);
    if (cancelled)
        return 1;
    comm_tree_sum_push(&run->tree);
    times->compute_s += clock_now_s() - read;
    return 0;
}

/* This rank's lanes, one after the other. */
static int train_lanes(struct train_run *run, double weight, struct agreement *mine,
                       struct train_times *times, struct err *err)
{
    struct nn_score score = {0};
    int64_t empty = 0;
    int rc = 0;

    for (uint32_t lane = run->lanes.begin; lane < run->lanes.end && rc == 0; lane++) {
        const uint32_t own = data_order_lane_images(&run->order, run->position.epoch_step, lane);

        if (own > 0)
            rc = train_micro_batch(run, weight, lane, &score, &empty, times, err);
    }
    *mine = (struct agreement){.images = score.images,
                               .correct = score.correct,
                               .correct5 = score.correct5,
                               .loss = score.loss,
                               .nonfinite = score.nonfinite,
                               .stop = train_stop_asked != 0,
                               .dropped = rc == 1,
                               .failed = rc < 0,
                               .empty = empty};
    return rc < 0 ? -1 : 0;
}

/* Change weights and running statistics by the sum of all leaves. */
static void apply(struct train_run *run, uint32_t leaves, double lr)
{
    const struct train_options *const o = run->options;
    const size_t measured = nn_model_measured_count(run->model), trained = run->state.count;
    float *const gradient = run->sum + measured;

    for (size_t i = 0; i < measured; i++)
        run->sum[i] /= (float)leaves;
    if (o->clip_norm > 0)
        optim_clip(gradient, trained, o->clip_norm);
    optim_optimizer_step(&o->optimizer, &run->state, run->position.step + 1, lr,
                         nn_model_weights(run->model), gradient, 0, trained);
    nn_model_update_running(run->model, run->sum, NN_RUNNING_MOMENTUM);
}

static void advance(struct train_run *run, const struct agreement *all, double weight,
                    double seconds)
{
    struct train_position *const p = &run->position;
    const struct nn_score score = {.images = all->images,
                                   .correct = all->correct,
                                   .correct5 = all->correct5,
                                   .loss = all->loss};

    nn_score_add(&p->epoch_score, &score);
    p->step++;
    p->epoch_step++;
    p->samples += (uint64_t)all->images;
    p->epoch_s += seconds;
    p->epoch_weight += weight;
}

static void report(struct train_run *run, const struct agreement *all, double weight, double lr,
                   const struct train_times *times, double seconds)
{
    const struct train_position *const p = &run->position;

    report_metrics_write(
        &run->metrics, "step",
        json_pack("{s:i, s:I, s:f, s:f, s:f, s:I, s:f, s:f, s:f, s:f}", "epoch", (int)p->epoch,
                  "step", (json_int_t)p->step, "loss", (double)all->loss / NN_LOSS_UNIT / weight,
                  "accuracy", (double)all->correct / (double)all->images, "lr", lr, "images",
                  (json_int_t)all->images, "seconds", seconds, "compute_s", times->compute_s,
                  "exchange_s", times->exchange_s, "input_s", times->input_s));
}

int train_step(struct train_run *run, bool *dropped, bool *stop, struct err *err)
{
    const double begun = clock_now_s();
    const uint32_t images = data_order_step_images(&run->order, run->position.epoch_step);
    const uint32_t leaves =
        images < (uint32_t)run->options->lanes ? images : (uint32_t)run->options->lanes;
    double weight = train_class_weights_sum(&run->class_weights, &run->dataset.train, &run->order,
                                            run->position.epoch, run->position.epoch_step);
    const double lr = optim_schedule_lr(&run->schedule, images_before(run), images);
    struct agreement all = {0};
    struct train_times times = {0};
    double computed = 0;
    int rc = 0;

    comm_tree_sum_begin(&run->tree, leaves, run->lanes);
    rc = train_lanes(run, weight, &all, &times, err);
    if (rc == 0 && lease_lost(run->lease, err)) {
        rc = -1;
        all.failed = 1;
    }
    computed = clock_now_s();
    if (comm_sum_integers(run->comm, &all.images, sizeof all / sizeof(int64_t), err) < 0)
        return -1;
    if (all.failed != 0)
        return train_share_failure(run, rc, err);
    *dropped = all.dropped != 0;
    *stop = all.stop != 0;
    if (*dropped)
        return 0;
    if (all.nonfinite != 0) {
        run->agreed = true;
        return err_set(err, ERR_INTERNAL,
                       "the loss is not a finite number at step %llu (epoch %u): the rate (--lr) "
                       "may be too high; nothing of "
                       "this step is kept",
                       (unsigned long long)run->position.step + 1, run->position.epoch);
    }
    if (all.images == 0) { /* not one picture of the step could be decoded: nothing to learn */
        advance(run, &all, 0, clock_now_s() - begun);
        return 0;
    }
    if (comm_exchange_sum(run->exchange, &run->tree, run->sum, err) < 0)
        return -1;
    times.exchange_s = clock_now_s() - computed;
    run->times.input_s += times.input_s;
    run->times.compute_s += times.compute_s;
    run->times.exchange_s += times.exchange_s;
    apply(run, leaves - (uint32_t)all.empty, lr);
    weight *= (double)all.images / images; /* some may have been left out */
    advance(run, &all, weight, clock_now_s() - begun);
    report(run, &all, weight, lr, &times, clock_now_s() - begun);
    return 0;
}
