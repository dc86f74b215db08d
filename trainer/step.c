#include "trainer/run.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/trace.h"
#include "comm/exchange.h"
#include "trainer/checkpoint/lease.h"
#include "trainer/data/stream/stream.h"
#include "trainer/feature_cache.h"
#include "trainer/optim/sgd.h"
#include "trainer/stop.h"

#define FORWARDS 3 /* that a micro-batch takes the time of, for want of a better guess */

/* What the ranks tell each other in a step; and the sum of it. */
struct train_agreement {
    int64_t images, correct, correct5, loss, nonfinite, stop, dropped, failed;
    int64_t empty;    /* micro-batches of which no picture could be decoded: leaves of zeros */
    int64_t busy_us;  /* waited for pictures and computed */
    int64_t batch_us; /* computed per micro-batch */
};

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

static void tell_of_rounding(const struct train_run *run)
{
    const bool wire = run->comm->hosts > 1 || !comm_exchange_shares(run->exchange);

    if (run->comm->rank != 0 || run->options->wire != COMM_WIRE_BF16)
        return;
    log_info(
        wire ? "gradients travel as bf16 (--wire-dtype): the weights will not be those of another "
               "number of hosts, nor of a run that was not resumed where this is"
             : "--wire-dtype bf16 is for gradients between hosts: on one nothing is rounded");
}

int train_step_init(struct train_run *run, struct err *err)
{
    const size_t count = leaf_floats(run);
    const struct comm_exchange_options options = {.lanes = (uint32_t)run->options->lanes,
                                                  .count = count,
                                                  .bucket_bytes = run->options->bucket_bytes,
                                                  .wire = run->options->wire,
                                                  .exact = nn_model_measured_count(run->model)};

    run->lanes = comm_tree_share(options.lanes, run->comm->rank, run->comm->size);
    warn_of_buffers(run, count);
    run->statistics = calloc(nn_model_measured_count(run->model) + 1, sizeof(float));
    run->answers = calloc((size_t)run->comm->size, sizeof *run->answers);
    run->step_busy_s = calloc((size_t)run->comm->size, sizeof *run->step_busy_s);
    run->epoch_busy_s = calloc((size_t)run->comm->size, sizeof *run->epoch_busy_s);
    if (run->statistics == NULL || run->answers == NULL || run->step_busy_s == NULL ||
        run->epoch_busy_s == NULL)
        abort();
    if (train_update_init(run, err) < 0)
        return -1;
    run->exchange = comm_exchange_new(run->comm, &options, err);
    if (run->exchange == NULL)
        return -1;
    if (run->comm->rank == 0 && !comm_exchange_shares(run->exchange))
        log_warn("the ranks of a host cannot share memory (System V): each exchanges gradients by "
                 "itself, which takes longer and more memory");
    tell_of_rounding(run);
    return 0;
}

void train_step_release(struct train_run *run)
{
    comm_exchange_free(run->exchange);
    train_update_release(run);
    free(run->statistics);
    free(run->answers);
    free(run->step_busy_s);
    free(run->epoch_busy_s);
    run->exchange = NULL;
    run->statistics = NULL;
    run->answers = NULL;
    run->step_busy_s = run->epoch_busy_s = NULL;
}

/* Images that had their turn before this step, those among them that could not be decoded too: the
 * rate of a step does not depend on how many these are. */
static uint64_t images_before(const struct train_run *run)
{
    const struct train_position *const p = &run->position;

    return p->epoch * data_order_images(&run->order) +
           data_order_images_before(&run->order, p->epoch_step);
}

/* A step as this rank works on it. */
struct work {
    uint32_t images, leaves; /* as planned */
    double weight;           /* of the planned images' labels; in the end of those there were */
    double lr;
    struct nn_score score;
    int64_t empty;
    uint32_t batches; /* that this rank has computed */
    struct train_times times;
    bool begun;  /* the exchange of this step */
    bool failed; /* the exchange, in the middle of micro-batches; err is its error */
    struct err err;
    double begun_s, waited_s,
        seconds; /* waited_s: by run->update then; seconds: of the whole step */
};

static struct work begin_work(struct train_run *run)
{
    const struct train_position *const p = &run->position;
    const uint32_t images = data_order_step_images(&run->order, p->epoch_step);
    const uint32_t lanes = (uint32_t)run->options->lanes;

    return (struct work){.images = images,
                         .leaves = images < lanes && run->order.parts == NULL ? images : lanes,
                         .weight = train_class_weights_sum(&run->class_weights, &run->dataset.train,
                                                           &run->order, p->epoch, p->epoch_step),
                         .lr = optim_schedule_lr(&run->schedule, images_before(run), images),
                         .begun_s = clock_now_s(),
                         .waited_s = run->update.waited_s};
}

/* The pictures of a lane, or their features: step's n, labels and x or features. They stay until
 * they are given back. Returns 1 when given up. */
static int take_pictures(struct train_run *run, uint32_t lane, struct nn_step *step,
                         struct data_batch *batch, struct err *err)
{
    int got = 1;

    if (run->feature_cache != NULL)
        return train_feature_cache_batch(run->feature_cache, run, lane, step, err);
    if (run->same_batch != NULL) {
        *batch = *run->same_batch;
        batch->n = (int)data_order_lane_images(&run->order, run->position.epoch_step, lane);
    } else {
        got = data_stream_next(run->stream, batch, &train_stop_drop, err);
    }
    if (got < 0)
        return err->code == ERR_STOPPED ? 1 : -1;
    if (got == 0)
        return err_set(err, ERR_INTERNAL, "the stream of pictures ended early");
    step->x = batch->x;
    step->labels = batch->labels;
    step->n = batch->n;
    return 0;
}

static void give_back(struct train_run *run, struct data_batch *batch)
{
    if (run->stream != NULL)
        data_stream_give_back(run->stream, batch);
}

/* What the network calls back with. */
struct call {
    struct train_run *run;
    struct work *work;
};

static int need_weights(void *context, size_t begin)
{
    const struct call *const call = context;

    call->work->failed = train_update_from(call->run, begin, &call->work->err) < 0;
    return call->work->failed;
}

static void gradient_is_ready(void *context, size_t floats)
{
    const struct call *const call = context;
    const double begun = trace_begin();

    comm_exchange_ready(call->run->exchange, nn_model_measured_count(call->run->model) + floats);
    trace_end("step", "add", begun);
}

/* The last step's sums are used up, and this one's gradients may come. */
static int begin_exchange(struct train_run *run, struct work *work, struct err *err)
{
    if (work->begun)
        return 0;
    if (train_update_settle(run, err) < 0 ||
        comm_exchange_begin(run->exchange, work->leaves,
                            train_pace_deadline(&run->pace, run->options->step_timeout_s), err) < 0)
        return -1;
    work->begun = true;
    return 0;
}

/* The exchange has failed: there is nobody to tell. */
static int fail(const struct work *work, struct err *err)
{
    *err = work->err;
    return -1;
}

/* Pictures through the network and back, into the next leaf. Returns 1 when given up. */
static int learn_pictures(struct train_run *run, struct nn_step *step, struct work *work,
                          struct err *err)
{
    const size_t measured = nn_model_measured_count(run->model);
    struct call call = {run, work};
    const double begun = clock_now_s();
    float *leaf;

    step->need = need_weights;
    step->ready = gradient_is_ready;
    step->context = &call;
    if (nn_model_forward(run->model, step, &work->score) != 0) {
        return work->failed ? fail(work, err) : 1;
    }
    if (run->pace.count == 0)
        train_pace_add(&run->pace, FORWARDS * (clock_now_s() - begun));
    if (begin_exchange(run, work, err) < 0)
        return -1;
    leaf = comm_exchange_leaf(run->exchange);
    memcpy(leaf, run->statistics, measured * sizeof *leaf);
    step->gradient = leaf + measured;
    comm_exchange_ready(run->exchange, measured);
    return nn_model_backward(run->model, step);
}

/* A micro-batch of which no picture could be decoded, or whose host has no more of its own: a leaf
 * of zeros. */
static int learn_nothing(struct train_run *run, struct work *work, struct err *err)
{
    if (begin_exchange(run, work, err) < 0)
        return -1;
    memset(comm_exchange_leaf(run->exchange), 0, leaf_floats(run) * sizeof(float));
    work->empty++;
    return 0;
}

/* One micro-batch into the tree's next leaf. Returns 1 when given up. */
static int train_micro_batch(struct train_run *run, uint32_t lane, struct work *work,
                             struct err *err)
{
    const double begun = clock_now_s();
    struct data_batch batch = {0};
    struct nn_step step = {.scale = 1.0f / (float)work->weight,
                           .class_weights = run->class_weights.weight,
                           .label_smoothing = (float)run->options->label_smoothing,
                           .statistics = run->statistics,
                           .cancel = &train_stop_drop};
    double read, waited;
    int rc;

    comm_exchange_elsewhere(run->exchange, true);
    rc = take_pictures(run, lane, &step, &batch, err);
    comm_exchange_elsewhere(run->exchange, false);
    read = clock_now_s();
    waited = run->update.waited_s;
    work->times.input_s += read - begun;
    if (rc != 0)
        return rc;
    rc = step.n > 0 ? learn_pictures(run, &step, work, err) : learn_nothing(run, work, err);
    if (step.n > 0 && rc == 0)
        train_class_weights_meet(&run->class_weights, step.n, step.labels);
    if (rc == 0)
        train_audit_lane(run, lane, &batch);
    give_back(run, &batch);
    if (rc != 0)
        return rc;
    comm_exchange_written(run->exchange);
    work->batches++;
    work->times.compute_s += clock_now_s() - read - (run->update.waited_s - waited);
    trace_put(&(struct trace_span){.category = "step",
                                   .name = "micro-batch",
                                   .begun_s = begun,
                                   .argument = "lane",
                                   .value = lane});
    return 0;
}

/* A lane without images in this step. Where all lanes share the pictures it is one of the last,
 * and the tree has no leaf of it. */
static int pass_over(struct train_run *run, struct work *work, struct err *err)
{
    if (run->order.parts == NULL)
        return 0;
    if (learn_nothing(run, work, err) < 0)
        return -1;
    comm_exchange_written(run->exchange);
    return 0;
}

/* This rank's lanes, one after the other. Returns 1 when given up. */
static int train_lanes(struct train_run *run, struct work *work, struct err *err)
{
    int rc = 0;

    train_audit_step(run);
    for (uint32_t lane = run->lanes.begin; lane < run->lanes.end && rc == 0; lane++) {
        const bool absent =
            data_order_lane_images(&run->order, run->position.epoch_step, lane) == 0;

        work->failed = comm_exchange_check(run->exchange, &work->err) < 0;
        rc = work->failed ? fail(work, err)
             : absent     ? pass_over(run, work, err)
                          : train_micro_batch(run, lane, work, err);
    }
    if (rc == 0 && (lease_lost(run->lease, err) || train_audit_write(run, err) < 0))
        rc = -1;
    return rc;
}

static struct train_agreement sum_of(const struct train_agreement *answers, int ranks)
{
    struct train_agreement all = {0};
    int64_t *const sum = &all.images;

    for (int rank = 0; rank < ranks; rank++)
        for (size_t i = 0; i < sizeof all / sizeof *sum; i++)
            sum[i] += (&answers[rank].images)[i];
    return all;
}

/* Whatever became of the lanes, the others wait for this rank's part and for its answer. */
static int answer(struct train_run *run, struct work *work, const struct train_agreement *mine,
                  struct train_agreement *all, struct err *err)
{
    double begun;

    if (begin_exchange(run, work, err) < 0)
        return -1;
    begun = clock_now_s();
    comm_exchange_give_up(run->exchange);
    if (comm_exchange_gather(run->exchange, mine, sizeof *mine, run->answers, err) < 0)
        return -1;
    work->times.ranks_s = clock_now_s() - begun;
    trace_end("wait", "agreement", begun);
    *all = sum_of(run->answers, run->comm->size);
    return 0;
}

static int64_t microseconds(double seconds)
{
    return (int64_t)(seconds * 1e6);
}

/* What this rank's lanes came to (rc), made known to all. */
static int agree(struct train_run *run, struct work *work, int rc, struct train_agreement *all,
                 struct err *err)
{
    const struct train_times *const times = &work->times;
    const struct train_agreement mine = {
        .images = work->score.images,
        .correct = work->score.correct,
        .correct5 = work->score.correct5,
        .loss = work->score.loss,
        .nonfinite = work->score.nonfinite,
        .stop = train_stop_asked != 0,
        .dropped = rc == 1,
        .failed = (rc < 0),
        .empty = work->empty,
        .busy_us = microseconds(times->input_s + times->compute_s),
        .batch_us = (work->batches > 0) ? microseconds(times->compute_s / work->batches) : 0,
    };
    struct err other = {0};

    if (work->failed) /* the exchange itself: there is nobody to tell */
        return -1;
    if (answer(run, work, &mine, all, rc < 0 ? &other : err) < 0)
        return -1;
    if (all->failed == 0 && (all->dropped != 0 || all->nonfinite == 0))
        return 0;
    if (comm_exchange_settle(run->exchange, &other) < 0) {
        *err = rc < 0 ? *err : other;
        return -1;
    }
    if (all->failed != 0)
        return train_share_failure(run, rc, err);
    run->agreed = true;
    return err_set(err, ERR_INTERNAL,
                   "the loss is not a finite number at step %llu (epoch %u): the rate (--lr) "
                   "may be too high; nothing of this step is kept",
                   (unsigned long long)run->position.step + 1, run->position.epoch);
}

static void advance(struct train_run *run, const struct work *work,
                    const struct train_agreement *all)
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
    p->epoch_s += work->seconds;
    p->epoch_weight += work->weight;
}

/* How the ranks went along, from what each told. */
static void note_pace(struct train_run *run)
{
    int64_t batch_us = 0;

    for (int rank = 0; rank < run->comm->size; rank++) {
        const struct train_agreement *const a = &run->answers[rank];

        run->step_busy_s[rank] = (double)a->busy_us / 1e6;
        run->epoch_busy_s[rank] += run->step_busy_s[rank];
        batch_us = a->batch_us > batch_us ? a->batch_us : batch_us;
    }
    train_pace_add(&run->pace, (double)batch_us / 1e6);
}

static void report(struct train_run *run, const struct work *work,
                   const struct train_agreement *all)
{
    const struct train_position *const p = &run->position;
    const struct train_times *const times = &work->times;

    report_metrics_write(&run->metrics, "step",
                         json_pack("{s:i, s:I, s:f, s:f, s:f, s:I, s:f, s:f, s:f, s:f, s:f, s:o*}",
                                   "epoch", (int)p->epoch, "step", (json_int_t)p->step, "loss",
                                   (double)all->loss / NN_LOSS_UNIT / work->weight, "accuracy",
                                   (double)all->correct / (double)all->images, "lr", work->lr,
                                   "images", (json_int_t)all->images, "seconds", work->seconds,
                                   "compute_s", times->compute_s, "ranks_s", times->ranks_s,
                                   "exchange_s", times->exchange_s, "input_s", times->input_s,
                                   "slowest", train_straggler_json(run, run->step_busy_s)));
}

static void count_times(struct train_run *run, struct work *work)
{
    struct train_times *const times = &work->times;

    times->exchange_s = run->update.waited_s - work->waited_s;
    run->times.input_s += times->input_s;
    run->times.compute_s += times->compute_s;
    run->times.ranks_s += times->ranks_s;
    run->times.exchange_s += times->exchange_s;
}

/* Pictures were left out: the weight of those that are not. Nothing else may be on its way. */
static int weigh_the_rest(struct train_run *run, struct work *work,
                          const struct train_agreement *all, struct err *err)
{
    const double begun = clock_now_s();
    double settled;
    int rc;

    if (comm_exchange_settle(run->exchange, err) < 0)
        return -1;
    settled = clock_now_s();
    run->update.waited_s += settled - begun;
    rc = train_class_weights_met(&run->class_weights, run->comm, all->images, &work->weight, err);
    work->times.ranks_s += clock_now_s() - settled;
    return rc;
}

/* Every rank has done its lanes: what is said of the step, and its new weights to come. */
static int learn(struct train_run *run, struct work *work, const struct train_agreement *all,
                 struct err *err)
{
    if (all->images < work->images && weigh_the_rest(run, work, all, err) < 0)
        return -1;
    count_times(run, work);
    train_update_plan(run, work->leaves - (uint32_t)all->empty, work->lr);
    work->seconds = clock_now_s() - work->begun_s;
    advance(run, work, all);
    note_pace(run);
    report(run, work, all);
    return 0;
}

/* Not one picture of the step could be decoded: there is nothing to learn. */
static void skip(struct train_run *run, struct work *work, const struct train_agreement *all)
{
    work->weight = 0;
    count_times(run, work);
    work->seconds = clock_now_s() - work->begun_s;
    advance(run, work, all);
}

static int take_step(struct train_run *run, bool *dropped, bool *stop, struct err *err)
{
    struct work work = begin_work(run);
    struct train_agreement all = {0};
    const int rc = train_lanes(run, &work, err);

    if (agree(run, &work, rc, &all, err) < 0)
        return -1;
    *dropped = all.dropped != 0;
    *stop = all.stop != 0;
    if (*dropped) /* what the others computed of it is on its way, and nobody reads it */
        return comm_exchange_settle(run->exchange, err);
    if (all.images > 0)
        return learn(run, &work, &all, err);
    skip(run, &work, &all);
    return 0;
}

int train_step(struct train_run *run, bool *dropped, bool *stop, struct err *err)
{
    const struct trace_span span = {.category = "step",
                                    .name = "step",
                                    .begun_s = trace_begin(),
                                    .argument = "step",
                                    .value = (int64_t)run->position.step + 1};
    const int rc = take_step(run, dropped, stop, err);

    trace_put(&span);
    return rc;
}
