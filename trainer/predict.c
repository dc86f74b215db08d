#include "trainer/predict.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "trainer/data/index/index.h"
#include "trainer/data/set/files.h"
#include "trainer/data/stream/stream.h"
#include "trainer/guess.h"
#include "trainer/infer_options.h"
#include "trainer/model_dir.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/nn/model.h"
#include "trainer/output.h"
#include "trainer/run.h"
#include "trainer/stop.h"
#include "trainer/threads.h"

#define TOP_DEFAULT 5
#define DEPTH       TRAIN_BATCHES_AHEAD_EVALUATION

struct predictor {
    const struct train_infer_options *options;
    struct train_model_dir dir;
    struct nn_model *model;
    struct data_index index;
    int batch, threads, top;
    float *logits;                 /* (batch, classes) */
    struct train_guess *guesses;   /* (classes) */
    struct report_guess *reported; /* (top) */
    struct train_output output;
    struct buf lines;    /* that were not written yet */
    size_t done, bad;    /* predictions; pictures without one */
    char first_bad[264]; /* why */
};

/* --- a batch --- */

/* As a person finds it: in a shard pictures have no path of their own. */
static char *name_of(const struct data_index *index, uint64_t sample)
{
    char *const name =
        index->sharded ? strdup(index->samples[sample].key) : data_index_path(index, sample);

    if (name == NULL)
        abort();
    return name;
}

static void add(struct predictor *p, uint64_t sample, const char *error)
{
    char *const name = name_of(&p->index, sample);
    const struct report_prediction prediction = {
        .picture = name, .error = error, .guesses = p->reported, .count = p->top};

    report_prediction_add(p->options->format, &prediction, &p->lines);
    if (error != NULL && p->bad == 0)
        snprintf(p->first_bad, sizeof p->first_bad, "%s", error);
    p->bad += error != NULL;
    p->done += error == NULL;
    free(name);
}

static void add_picture(struct predictor *p, uint64_t sample, const float *logits)
{
    if (train_guess(logits, p->dir.classes, p->top, p->guesses) < 0) {
        add(p, sample, "the network's output is no finite number");
        return;
    }
    for (int i = 0; i < p->top; i++)
        p->reported[i] = (struct report_guess){.name = p->dir.class_names[p->guesses[i].label],
                                               .label = p->guesses[i].label,
                                               .probability = p->guesses[i].probability};
    add(p, sample, NULL);
}

/* Where lines go to the terminal they tell as much, and a bar would stand between them. */
static void show(const struct predictor *p)
{
    const size_t done = p->done + p->bad;
    char text[64];

    if (p->output.name == NULL && isatty(STDOUT_FILENO))
        return;
    snprintf(text, sizeof text, "predicting %3.0f %% of %zu pictures",
             100 * (double)done / (double)p->index.count, p->index.count);
    log_bar(text);
}

/* The pictures that there are, and the others, in the order of the input. */
static int take_batch(struct predictor *p, const struct data_batch *batch, struct err *err)
{
    struct nn_score score = {0};
    int i = 0, b = 0;

    if (batch->n > 0 && nn_model_evaluate(p->model, batch->x, NULL, batch->n, p->logits,
                                          &train_stop_asked, &score) != 0)
        return err_set(err, ERR_STOPPED, "stopped while predicting");
    while (i < batch->n || b < batch->bad_count) {
        if (b == batch->bad_count || (i < batch->n && batch->samples[i] < batch->bad[b].sample)) {
            add_picture(p, batch->samples[i], p->logits + (size_t)i * (size_t)p->dir.classes);
            i++;
        } else {
            add(p, batch->bad[b].sample, batch->bad[b].why);
            b++;
        }
    }
    return train_output_write(&p->output, &p->lines, err);
}

static void tell_truncated(struct data_stream *stream)
{
    struct data_stream_stats stats = {0};

    data_stream_stats(stream, &stats);
    if (stats.truncated > 0)
        log_warn("%llu pictures were cut short and decoded as far as they go; the first is '%s'",
                 (unsigned long long)stats.truncated, stats.truncated_first);
}

static int predict_all(struct predictor *p, struct err *err)
{
    const struct train_infer_options *const o = p->options;
    const struct data_stream_options options = {
        .index = &p->index,
        .transform = p->dir.evaluation,
        .sample_end = p->index.count,
        .micro_batch = p->batch,
        .threads = train_decode_threads(o->decode_threads, train_threads(1), p->threads),
        .depth = DEPTH,
        .fetch_bytes = o->prefetch_bytes,
        .fetch_threads = o->fetch_threads,
        .leave_unreadable = true};
    struct data_stream *const stream = data_stream_new(&options, err);
    struct data_batch batch = {0};
    int got = -1, rc = 0;

    report_predictions_begin(o->format, &p->lines);
    while (stream != NULL && rc == 0 &&
           (got = data_stream_next(stream, &batch, &train_stop_asked, err)) > 0) {
        rc = take_batch(p, &batch, err);
        show(p);
        data_stream_give_back(stream, &batch);
    }
    log_bar("");
    if (stream != NULL)
        tell_truncated(stream);
    data_stream_free(stream);
    return got < 0 || rc < 0 ? -1 : 0;
}

/* --- before and after --- */

static int choose_top(struct predictor *p, struct err *err)
{
    const int classes = p->dir.classes, wanted = p->options->top_k;

    if (wanted > classes)
        return err_set(err, ERR_USAGE, "--top-k %d: the model has %d classes", wanted, classes);
    p->top = wanted > 0 ? wanted : classes < TOP_DEFAULT ? classes : TOP_DEFAULT;
    return 0;
}

static int open_pictures(struct predictor *p, struct err *err)
{
    const struct train_infer_options *const o = p->options;
    struct data_index *const index = &p->index;

    if (data_files_open(index, o->paths, o->path_count, &train_stop_asked, err) < 0)
        return -1;
    if (index->ignored.count > 0)
        log_info("%zu files are no pictures by their name and are passed over; the first is '%s'",
                 index->ignored.count, index->ignored.first);
    if (index->empty.count > 0)
        log_warn("%zu pictures are empty and are left out; the first is '%s'", index->empty.count,
                 index->empty.first);
    p->batch = index->count < (size_t)o->batch ? (int)index->count : o->batch;
    return 0;
}

static int make_network(struct predictor *p, struct err *err)
{
    const size_t classes = (size_t)p->dir.classes;
    const struct train_model_use use = {
        .batch = p->batch, .batches_ahead = DEPTH, .threads = p->threads, .ranks_of_host = 1};

    p->model = train_model_dir_network(&p->dir, &use, err);
    if (p->model == NULL || train_model_dir_load(&p->dir, p->model, err) < 0)
        return -1;
    p->logits = calloc((size_t)p->batch * classes, sizeof *p->logits);
    p->guesses = calloc(classes, sizeof *p->guesses);
    p->reported = calloc((size_t)p->top, sizeof *p->reported);
    if (p->logits == NULL || p->guesses == NULL || p->reported == NULL)
        return err_set(err, ERR_MEMORY, "no memory for the guesses of %d pictures (--batch)",
                       p->batch);
    return 0;
}

static int finish(struct predictor *p, double begun_s, struct err *err)
{
    if (p->done == 0)
        return err_set(err, ERR_INPUT, "not one of %zu pictures could be predicted; the first: %s",
                       p->bad, p->first_bad);
    if (p->bad > 0)
        log_warn("%zu pictures could not be predicted; the first: %s", p->bad, p->first_bad);
    log_info("%zu pictures in %.1f s", p->done, clock_now_s() - begun_s);
    return train_output_commit(&p->output, err);
}

static int predict(struct predictor *p, struct err *err)
{
    double begun_s;

    if (train_model_dir_open(&p->dir, p->options->model, err) < 0)
        return err_wrap(err, "--model");
    if (choose_top(p, err) < 0 || open_pictures(p, err) < 0 || make_network(p, err) < 0 ||
        train_output_open(&p->output, p->options->output, err) < 0 ||
        train_output_begin(&p->output, err) < 0)
        return -1;
    begun_s = clock_now_s();
    return predict_all(p, err) < 0 ? -1 : finish(p, begun_s, err);
}

int train_predict(const struct train_infer_options *options, struct err *err)
{
    struct predictor p = {.options = options,
                          .threads = options->threads > 0 ? options->threads : train_threads(1)};
    int rc;

    nn_threads_init(p.threads);
    rc = predict(&p, err);
    train_output_close(&p.output);
    free(p.logits);
    free(p.guesses);
    free(p.reported);
    buf_release(&p.lines);
    nn_model_free(p.model);
    data_index_release(&p.index);
    train_model_dir_release(&p.dir);
    return rc;
}
