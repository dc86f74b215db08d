#include "trainer/eval.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/uri.h"
#include "trainer/data/cache/cache.h"
#include "trainer/data/set/open.h"
#include "trainer/data/set/root.h"
#include "trainer/data/set/webdataset.h"
#include "trainer/infer_options.h"
#include "trainer/model_dir.h"
#include "trainer/picture_cache.h"
#include "trainer/report/tables.h"
#include "trainer/run.h"
#include "trainer/stop.h"
#include "trainer/tally.h"

/* A run as far as an evaluation needs one. */
struct evaluation {
    const struct train_infer_options *options;
    struct train_options as_run;
    struct train_run run; /* its dataset.train are the pictures */
    struct train_model_dir model;
    struct nn_score score;
    struct train_tally tally;
    int64_t truncated, left_out;
};

/* --- the model, on every rank --- */

static int parse_shared(struct evaluation *e, struct err *err)
{
    struct buf config = {0}, labels = {0};
    const bool first = e->run.comm->rank == 0;
    int rc = -1;

    if (first) {
        buf_append(&config, e->model.config.data, e->model.config.bytes);
        buf_append(&labels, e->model.labels.data, e->model.labels.bytes);
    }
    if (train_share_bytes(&e->run, &config, err) == 0 &&
        train_share_bytes(&e->run, &labels, err) == 0)
        rc = first ? 0 : train_model_dir_parse(&e->model, e->options->model, &config, &labels, err);
    buf_release(&config);
    buf_release(&labels);
    return rc;
}

static int make_network(struct evaluation *e, struct err *err)
{
    struct train_run *const run = &e->run;
    const struct train_model_use use = {.batch = e->options->batch,
                                        .batches_ahead = TRAIN_BATCHES_AHEAD_EVALUATION,
                                        .threads = e->as_run.threads,
                                        .ranks_of_host = run->comm->local_size};
    int64_t failed;

    run->model = train_model_dir_network(&e->model, &use, err);
    failed = run->model == NULL;
    if (comm_sum_integers(run->comm, &failed, 1, err) < 0)
        return -1;
    return failed > 0 ? train_share_failure(run, run->model == NULL ? -1 : 0, err) : 0;
}

static int open_model(struct evaluation *e, struct err *err)
{
    struct train_run *const run = &e->run;
    const bool first = run->comm->rank == 0;
    int rc = first ? train_model_dir_open(&e->model, e->options->model, err) : 0;

    if (rc < 0)
        err_wrap(err, "--model");
    if (train_share_outcome(run, rc, err) < 0 || parse_shared(e, err) < 0 ||
        make_network(e, err) < 0)
        return -1;
    rc = first ? train_model_dir_load(&e->model, run->model, err) : 0;
    if (train_share_outcome(run, rc, err) < 0)
        return -1;
    e->as_run.model = e->model.name;
    e->as_run.image_size = e->model.evaluation.size;
    e->as_run.evaluation = e->model.evaluation;
    return train_share_model(run, err);
}

/* --- the pictures --- */

/* The folder of the pictures; heap. NULL with err set where --data names none. */
static char *find_pictures(const struct train_infer_options *o, struct err *err)
{
    enum data_root_kind kind = DATA_ROOT_EMPTY;
    char *path = NULL;

    if (o->data != NULL) {
        if (data_root_look(o->data, &kind, &train_stop_asked, err) < 0)
            return NULL;
        if (kind == DATA_ROOT_SPLITS) {
            if (data_root_find(o->data, DATA_SPLIT_TEST, &path, err) == 0 && path == NULL)
                err_set(err, ERR_INPUT,
                        "--data: '%s' has no test pictures: give those that are to be scored, as "
                        "--test DIR",
                        o->data);
            return path;
        }
    }
    path = strdup(o->test != NULL ? o->test : o->data);
    if (path == NULL)
        abort();
    return path;
}

/* Labels of folders and shards are the places of names in bytewise order. */
static int check_order(const struct train_model_dir *model, struct err *err)
{
    for (int i = 1; i < model->classes; i++)
        if (strcmp(model->class_names[i - 1], model->class_names[i]) >= 0)
            return err_set(err, ERR_INPUT,
                           "the classes of '%s' are in another order than those of pictures, which "
                           "are bytewise: class %d is '%s', and class %d is '%s'",
                           model->where, i - 1, model->class_names[i - 1], i,
                           model->class_names[i]);
    return 0;
}

static int check_all_there(const struct data_index *index, bool partial, struct err *err)
{
    bool *const there = calloc((size_t)index->classes, sizeof *there);
    int first = -1, missing = 0;

    if (there == NULL)
        abort();
    assert(index->pages == NULL);
    for (size_t i = 0; i < index->count; i++)
        there[index->samples[i].label] = true;
    for (int c = 0; c < index->classes; c++) {
        first = first < 0 && !there[c] ? c : first;
        missing += !there[c];
    }
    free(there);
    if (missing > 0 && partial)
        log_info("of %d of the model's %d classes there are no pictures; the first is '%s'",
                 missing, index->classes, index->class_names[first]);
    if (missing == 0 || partial)
        return 0;
    return err_set(err, ERR_INPUT,
                   "'%s' has no pictures of the model's class '%s' (%d classes are missing): are "
                   "they other data, or is a part meant (--partial)?",
                   index->root, index->class_names[first], missing);
}

/* Rank 0. */
static int read_index(struct evaluation *e, struct err *err)
{
    struct data_index *const index = &e->run.dataset.train;
    const struct train_model_dir *const model = &e->model;
    char *const path = find_pictures(e->options, err);
    int rc = path == NULL ? -1 : check_order(model, err);

    data_webdataset_keep(e->options->cache);
    if (rc == 0)
        rc = data_index_open(index, path, model->class_names, model->classes, &train_stop_asked,
                             err);
    free(path);
    if (rc < 0 || check_all_there(index, e->options->partial, err) < 0)
        return -1;
    return train_dataset_tell(index, e->options->stop_at_bad, err);
}

static int open_pictures(struct evaluation *e, struct err *err)
{
    struct train_run *const run = &e->run;

    return train_share_dataset(run, run->comm->rank == 0 ? read_index(e, err) : 0, err);
}

/* --- the report --- */

static int check_report(struct evaluation *e, struct err *err)
{
    const char *const report = e->options->report;
    int rc = 0;

    if (e->run.comm->rank == 0 && report != NULL && file_check_writable(report, err) < 0) {
        err->code = ERR_USAGE;
        rc = err_wrap(err, "--report");
    }
    return train_share_outcome(&e->run, rc, err);
}

/* Numbers have as many digits as in metrics.jsonl: what is equal reads alike. */
static int write_json(const struct evaluation *e, const struct report_sum *sum, struct err *err)
{
    char *const path = uri_join(e->options->report, "evaluation.json");
    json_t *const object =
        json_pack("{s:o, s:s, s:o, s:i, s:I, s:f, s:f, s:f, s:I, s:I, s:I}", "model",
                  json_new_text(e->model.where), "network", e->model.name, "data",
                  json_new_text(e->run.dataset.train.root), "classes", e->model.classes, "images",
                  (json_int_t)sum->images, "loss", sum->loss, "accuracy", report_accuracy(sum),
                  "accuracy5", report_accuracy5(sum), "nonfinite", (json_int_t)e->score.nonfinite,
                  "truncated", (json_int_t)e->truncated, "left_out", (json_int_t)e->left_out);
    char *const text = json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    int rc;

    if (text == NULL)
        abort();
    rc = file_replace(path, text, strlen(text), err);
    free(text);
    json_decref(object);
    free(path);
    return rc;
}

/* Rank 0: what was found is told, whatever becomes of its report. */
static int tell(struct evaluation *e, struct err *err)
{
    const struct report_sum sum = train_report_sum(&e->score);
    const struct report_tables tables =
        train_tally_tables(&e->tally, e->run.dataset.train.class_names);
    const char *const report = e->options->report;

    if (e->score.nonfinite > 0)
        log_warn("%lld pictures have a loss that is not finite; they are left out of the mean",
                 (long long)e->score.nonfinite);
    report_tables_worst(&tables, TRAIN_WORST_LINES, &e->run.worst);
    train_tell_worst(&e->run, "test");
    report_line_test(&sum);
    report_line_test5(&sum);
    if (report != NULL &&
        (report_tables_write(&tables, report, err) < 0 || write_json(e, &sum, err) < 0))
        return err_wrap(err, "--report");
    return 0;
}

/* --- all of it --- */

static int score(struct evaluation *e, struct err *err)
{
    struct train_run *const run = &e->run;
    const struct data_index *const index = &run->dataset.train;
    json_t *cache = NULL;

    log_info("'%s': %s, %d classes; %zu pictures in '%s'; %d ranks x %d threads", e->model.where,
             e->model.name, e->model.classes, index->count, index->root, run->comm->size,
             e->as_run.threads);
    report_progress_init(&run->progress, run->comm->rank != 0, 0);
    train_tally_init(&e->tally, e->model.classes);
    if (train_picture_cache_open_evaluation(run, err) < 0 ||
        train_evaluate(run, index, "testing", &e->score, &e->tally, err) < 0)
        return -1;
    report_progress_end(&run->progress);
    if (e->score.nonfinite == e->score.images) {
        run->agreed = true; /* every rank has the same sum */
        return err_set(err, ERR_INPUT,
                       "not one picture of '%s' has a finite loss: the weights are damaged, or the "
                       "training that they are from diverged",
                       index->root);
    }
    if (train_tally_sum(&e->tally, run->comm, err) < 0 ||
        train_tell_odd(run, &e->truncated, &e->left_out, err) < 0 ||
        train_picture_cache_tell(run, &cache, err) < 0)
        return -1;
    train_picture_cache_log(run, cache);
    json_decref(cache);
    return train_share_outcome(run, run->comm->rank == 0 ? tell(e, err) : 0, err);
}

static void release(struct evaluation *e)
{
    train_tally_release(&e->tally);
    data_cache_free(e->run.cache);
    nn_model_free(e->run.model);
    train_model_dir_release(&e->model);
    train_dataset_release(&e->run.dataset);
    buf_release(&e->run.worst);
}

int train_eval(const struct train_infer_options *o, struct comm *comm, bool *agreed,
               struct err *err)
{
    struct evaluation e = {
        .options = o,
        .as_run = {.micro_batch = o->batch,
                   .epochs = 1,
                   .threads = o->threads,
                   .decode_threads = o->decode_threads,
                   .prefetch_bytes = o->prefetch_bytes * TRAIN_PREFETCH_EVALUATION, /* its share */
                   .fetch_threads = o->fetch_threads,
                   .cache = o->cache,
                   .cache_bytes = o->cache_bytes,
                   .stop_at_bad = o->stop_at_bad},
        .run = {.comm = comm, .metrics.fd = -1, .began_s = clock_now_s()}};
    int rc = -1;

    e.run.options = &e.as_run;
    if (train_prepare_evaluation(&e.run, err) == 0 && open_model(&e, err) == 0 &&
        open_pictures(&e, err) == 0 && check_report(&e, err) == 0)
        rc = score(&e, err);
    report_progress_end(&e.run.progress);
    if (rc < 0 && err->code == ERR_STOPPED)
        log_info("%s", err->msg);
    release(&e);
    *agreed = e.run.agreed;
    return rc;
}
