#include "trainer/feature_cache.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "trainer/data/stream/stream.h"
#include "trainer/features.h"
#include "trainer/run.h"
#include "trainer/stop.h"
#include "trainer/tally.h"

/* What goes to the other ranks in one message: at most so many rows, and so many bytes, or one. */
#define SHARED_ROWS  256
#define SHARED_BYTES ((size_t)4 << 20)

/* The features of an index, as one view of it. */
struct view {
    const struct data_index *index;
    const struct data_transform *transform;
    uint32_t number;
    size_t row; /* of its first picture among the cache's rows */
    bool there;
};

struct train_feature_cache {
    size_t floats;
    struct train_features *rows;
    uint32_t views;
    struct view *training; /* (views) */
    struct view validation;
    size_t shared; /* rows of a message */
    float *batch;  /* (micro_batch or shared, floats) */
    int32_t *labels;
    uint64_t *samples; /* (micro_batch) of the last training batch: those there, then those not */
    uint32_t trained, left_out;
};

/* Of how many views the training pictures have; 0: they are new in each epoch. */
static uint32_t views_of(const struct data_transform *transform)
{
    if (transform->kind == DATA_TRANSFORM_CENTER || transform->kind == DATA_TRANSFORM_RESIZE)
        return 1;
    return transform->views;
}

/* NULL where there can be a cache. Where no layer is frozen nobody expects one. */
static const char *why_not(const struct train_options *o)
{
    if (o->tuning.frozen_batch)
        return "the batch norms of frozen layers look at the whole micro-batch (--batch-norm "
               "batch)";
    if (views_of(&o->training) == 0)
        return "every epoch sees pictures cropped anew (--augment-views K makes K crops of each)";
    return NULL;
}

static bool is_wanted(const struct train_options *o)
{
    return o->tuning.frozen > 0 && o->feature_cache_bytes > 0 && o->bench_steps == 0;
}

/* In memory at most half of what the host has left, shared by its ranks. */
static uint64_t memory_for(const struct train_run *run)
{
    return run->memory_left / 2 / (uint64_t)run->comm->local_size;
}

static size_t shared_rows(size_t floats)
{
    const size_t fitting = SHARED_BYTES / (floats * sizeof(float));

    return fitting < 1 ? 1 : fitting < SHARED_ROWS ? fitting : SHARED_ROWS;
}

static size_t buffer_rows(size_t floats, int micro_batch)
{
    const size_t shared = shared_rows(floats), batch = (size_t)micro_batch;

    return batch > shared ? batch : shared;
}

size_t train_feature_cache_buffer(const struct train_options *o, size_t row_bytes, int micro_batch)
{
    if (row_bytes == 0 || !is_wanted(o) || why_not(o) != NULL)
        return 0;
    return buffer_rows(row_bytes / sizeof(float), micro_batch) * row_bytes;
}

static int make_rows(struct train_feature_cache *cache, const struct train_run *run, size_t rows,
                     struct err *err)
{
    const int batch = run->options->micro_batch;
    const size_t floats = cache->floats;

    cache->batch = calloc(buffer_rows(floats, batch) * floats, sizeof(float));
    cache->labels = malloc((size_t)batch * sizeof(int32_t));
    cache->samples = malloc((size_t)batch * sizeof *cache->samples);
    if (cache->batch == NULL || cache->labels == NULL || cache->samples == NULL)
        return err_set(err, ERR_MEMORY, "no memory for a micro-batch of features (--micro-batch)");
    cache->rows = train_features_new(rows, floats, memory_for(run), file_temp_root(), err);
    return cache->rows == NULL ? -1 : 0;
}

static struct train_feature_cache *new_cache(const struct train_run *run, uint32_t views)
{
    const struct train_options *const o = run->options;
    const size_t train = run->dataset.train.count;
    struct train_feature_cache *const cache = calloc(1, sizeof(*cache));

    assert(run->dataset.train.pages == NULL && run->dataset.val.pages == NULL);
    if (cache == NULL || (cache->training = calloc(views + 1, sizeof(struct view))) == NULL)
        abort();
    cache->floats = nn_model_feature_count(run->model);
    cache->shared = shared_rows(cache->floats);
    cache->views = views;
    for (uint32_t v = 0; v < views; v++)
        cache->training[v] = (struct view){
            .index = &run->dataset.train, .transform = &o->training, .number = v, .row = v * train};
    cache->validation = (struct view){
        .index = &run->dataset.val, .transform = &o->evaluation, .row = views * train};
    return cache;
}

/* Rank 0's; another's may lie elsewhere. */
static void tell(const struct train_feature_cache *cache, const struct train_run *run, size_t rows)
{
    const size_t in_memory = train_features_in_memory(cache->rows);

    if (run->comm->rank != 0)
        return;
    if (in_memory == rows)
        log_info("the features of %zu views of pictures are kept: %.1f MB in memory", rows,
                 (double)train_features_bytes(rows, cache->floats) / 1e6);
    else
        log_info("the features of %zu views of pictures are kept: %.1f MB in memory, %.1f MB in "
                 "'%s'",
                 rows, (double)train_features_bytes(in_memory, cache->floats) / 1e6,
                 (double)train_features_bytes(rows - in_memory, cache->floats) / 1e6,
                 file_temp_root());
}

/* Without room on one rank no rank has a cache: a training goes on without. */
static int take_room(struct train_feature_cache **cache, struct train_run *run, size_t rows,
                     struct err *err)
{
    const int rc = make_rows(*cache, run, rows, err);
    int64_t failed = rc < 0;

    if (comm_sum_integers(run->comm, &failed, 1, err) < 0)
        return -1;
    if (failed == 0) {
        tell(*cache, run, rows);
        return 0;
    }
    (void)train_share_failure(run, rc, err);
    if (!run->agreed)
        return -1;
    run->agreed = false;
    if (run->comm->rank == 0)
        log_warn("no feature cache: %s", err->msg);
    *err = (struct err){0};
    train_feature_cache_free(*cache);
    *cache = NULL;
    return 0;
}

int train_feature_cache_new(struct train_feature_cache **cache, struct train_run *run,
                            struct err *err)
{
    const struct train_options *const o = run->options;
    const uint32_t all = views_of(&o->training);
    const uint32_t views = all < (uint32_t)o->epochs ? all : (uint32_t)o->epochs;
    const size_t rows = views * run->dataset.train.count + run->dataset.val.count;
    const uint64_t bytes = train_features_bytes(rows, nn_model_feature_count(run->model));
    const char *const why = why_not(o);

    *cache = NULL;
    if (!is_wanted(o))
        return 0;
    if (why != NULL) {
        if (run->comm->rank == 0)
            log_info("no feature cache: %s", why);
        return 0;
    }
    if (bytes > o->feature_cache_bytes) {
        if (run->comm->rank == 0)
            log_info("no feature cache: %zu pictures need %.1f MB, --feature-cache allows %.1f",
                     rows, (double)bytes / 1e6, (double)o->feature_cache_bytes / 1e6);
        return 0;
    }
    *cache = new_cache(run, views);
    return take_room(cache, run, rows, err);
}

void train_feature_cache_free(struct train_feature_cache *cache)
{
    if (cache == NULL)
        return;
    train_features_free(cache->rows);
    free(cache->training);
    free(cache->batch);
    free(cache->labels);
    free(cache->samples);
    free(cache);
}

/* --- filling it --- */

struct filling {
    struct train_feature_cache *cache;
    struct nn_model *model;
    size_t row;
};

static int fill_batch(void *context, const struct data_batch *batch, struct err *err)
{
    const struct filling *const filling = context;
    struct train_feature_cache *const cache = filling->cache;

    if (nn_model_features(filling->model, batch->x, batch->n, cache->batch, &train_stop_asked) != 0)
        return 1;
    for (int i = 0; i < batch->n; i++)
        if (train_features_put(cache->rows, filling->row + batch->samples[i], 1,
                               cache->batch + (size_t)i * cache->floats, err) < 0)
            return -1;
    return 0;
}

/* Rows [row, row + count) of rank `root`, of which it has those with has[] set, to all. */
static int share_rows(struct train_feature_cache *cache, struct comm *comm, int root, size_t row,
                      size_t count, struct err *err)
{
    bool has[SHARED_ROWS] = {false};
    int64_t failed = 0;

    for (size_t i = 0; i < count && comm->rank == root && failed == 0; i++) {
        has[i] = train_features_has(cache->rows, row + i);
        if (has[i])
            failed =
                train_features_get(cache->rows, row + i, cache->batch + i * cache->floats, err) < 0;
    }
    if (comm_broadcast(comm, has, sizeof has, root, err) < 0 ||
        comm_broadcast(comm, cache->batch, count * cache->floats * sizeof(float), root, err) < 0)
        return -1;
    for (size_t i = 0; i < count && comm->rank != root && failed == 0; i++)
        failed = has[i] && train_features_put(cache->rows, row + i, 1,
                                              cache->batch + i * cache->floats, err) < 0;
    return failed != 0 ? -1 : 0;
}

/* Of each rank in turn the part of a view that it has filled. */
struct sharing {
    struct train_feature_cache *cache;
    struct comm *comm;
    const struct view *view;
    int root;
    size_t at, end; /* the pictures of root's that are left */
};

static struct sharing begin_sharing(struct train_feature_cache *cache, struct comm *comm,
                                    const struct view *view, int root)
{
    const size_t n = view->index->count, ranks = (size_t)comm->size;

    return (struct sharing){.cache = cache,
                            .comm = comm,
                            .view = view,
                            .root = root,
                            .at = (size_t)root * n / ranks,
                            .end = ((size_t)root + 1) * n / ranks};
}

static size_t next_rows(const struct sharing *sharing)
{
    const size_t left = sharing->end - sharing->at;

    return left < sharing->cache->shared ? left : sharing->cache->shared;
}

static int share_next(void *context, uint64_t round, uint64_t *done, struct err *err)
{
    struct sharing *const sharing = context;
    size_t count;
    int rc;

    (void)round;
    while (sharing->at == sharing->end)
        *sharing = begin_sharing(sharing->cache, sharing->comm, sharing->view, sharing->root + 1);
    count = next_rows(sharing);
    rc = share_rows(sharing->cache, sharing->comm, sharing->root, sharing->view->row + sharing->at,
                    count, err);
    sharing->at += count;
    *done += count;
    return rc;
}

static int share_view(struct train_feature_cache *cache, struct train_run *run,
                      const struct view *view, struct err *err)
{
    struct sharing sharing = begin_sharing(cache, run->comm, view, 0);
    struct train_rounds rounds = {.what = "sharing features",
                                  .of = view->index->count,
                                  .take = share_next,
                                  .context = &sharing};

    if (run->comm->size == 1)
        return 0;
    for (int r = 0; r < run->comm->size; r++) {
        const struct sharing part = begin_sharing(cache, run->comm, view, r);

        rounds.count += (part.end - part.at + cache->shared - 1) / cache->shared;
    }
    return train_take_rounds(run, &rounds, err);
}

static int fill(struct train_feature_cache *cache, struct train_run *run, struct view *view,
                struct err *err)
{
    struct filling filling = {.cache = cache, .model = run->model, .row = view->row};
    const struct train_walk walk = {.index = view->index,
                                    .transform = view->transform,
                                    .epoch = view->number,
                                    .what = "computing features",
                                    .each = fill_batch,
                                    .context = &filling};

    if (view->there)
        return 0;
    if (train_walk(run, &walk, err) < 0 || share_view(cache, run, view, err) < 0)
        return -1;
    view->there = true;
    return 0;
}

int train_feature_cache_prepare(struct train_feature_cache *cache, struct train_run *run,
                                struct err *err)
{
    const uint32_t number = data_transform_view(&run->options->training, run->position.epoch);

    return fill(cache, run, &cache->training[number], err);
}

/* --- using it --- */

static void turn_round(uint64_t *x, uint32_t count)
{
    for (uint32_t i = 0; i < count / 2; i++) {
        const uint64_t swap = x[i];

        x[i] = x[count - 1 - i];
        x[count - 1 - i] = swap;
    }
}

int train_feature_cache_batch(struct train_feature_cache *cache, const struct train_run *run,
                              uint32_t lane, struct nn_step *step, struct err *err)
{
    const struct train_position *const p = &run->position;
    const struct view *const view =
        &cache->training[data_transform_view(&run->options->training, p->epoch)];
    const uint32_t images = data_order_lane_images(&run->order, p->epoch_step, lane);

    step->n = 0;
    step->features = cache->batch;
    step->labels = cache->labels;
    cache->left_out = 0;
    for (uint32_t i = 0; i < images; i++) {
        const uint64_t sample = data_order_sample(&run->order, p->epoch, p->epoch_step, lane, i);
        const size_t row = view->row + (size_t)sample;

        if (!train_features_has(cache->rows, row)) { /* it could not be decoded */
            cache->samples[images - ++cache->left_out] = sample;
            continue;
        }
        cache->samples[step->n] = sample;
        if (train_features_get(cache->rows, row, cache->batch + (size_t)step->n * cache->floats,
                               err) < 0)
            return -1;
        cache->labels[step->n++] = view->index->samples[sample].label;
    }
    cache->trained = (uint32_t)step->n;
    turn_round(cache->samples + step->n, cache->left_out);
    return 0;
}

const uint64_t *train_feature_cache_samples(const struct train_feature_cache *cache,
                                            uint32_t *trained, uint32_t *left_out)
{
    *trained = cache->trained;
    *left_out = cache->left_out;
    return cache->samples;
}

/* The pictures [at, at + count) of a view into batch and labels; returns how many are there. */
static int gather(struct train_feature_cache *cache, const struct view *view, size_t at,
                  size_t count, struct err *err)
{
    int n = 0;

    for (size_t i = at; i < at + count; i++) {
        if (!train_features_has(cache->rows, view->row + i))
            continue;
        if (train_features_get(cache->rows, view->row + i, cache->batch + (size_t)n * cache->floats,
                               err) < 0)
            return -1;
        cache->labels[n++] = view->index->samples[i].label;
    }
    return n;
}

struct validating {
    struct train_feature_cache *cache;
    struct train_run *run;
    struct train_share share;
    struct train_tally *tally;
    struct nn_score score;
    float *logits; /* (micro_batch, classes) */
};

static int score_next(void *context, uint64_t round, uint64_t *done, struct err *err)
{
    struct validating *const v = context;
    struct train_feature_cache *const cache = v->cache;
    const uint64_t batch = (uint64_t)v->run->options->micro_batch;
    const uint64_t at = v->share.begin + round * batch;
    const uint64_t left = at < v->share.end ? v->share.end - at : 0;
    const int n = gather(cache, &cache->validation, at, left < batch ? left : batch, err);

    if (n <= 0)
        return n;
    if (nn_model_evaluate_features(v->run->model, cache->batch, cache->labels, n, v->logits,
                                   &train_stop_asked, &v->score) != 0)
        return 1;
    train_tally_add(v->tally, n, v->logits, cache->labels);
    *done += (uint64_t)n;
    return 0;
}

int train_feature_cache_validate(struct train_feature_cache *cache, struct train_run *run,
                                 struct nn_score *score, struct train_tally *tally, struct err *err)
{
    struct view *const view = &cache->validation;
    struct validating v = {
        .cache = cache, .run = run, .share = train_share_of(run, view->index), .tally = tally};
    const struct train_rounds rounds = {.what = "validating",
                                        .count = v.share.rounds,
                                        .of = v.share.end - v.share.begin,
                                        .score = &v.score,
                                        .take = score_next,
                                        .context = &v};
    int rc;

    if (fill(cache, run, view, err) < 0)
        return -1;
    if ((v.logits = train_logits_new(run, err)) == NULL)
        return -1;
    rc = train_take_rounds(run, &rounds, err);
    free(v.logits);
    if (rc < 0)
        return -1;
    *score = v.score;
    return train_score_sum(run, view->index, score, err);
}
