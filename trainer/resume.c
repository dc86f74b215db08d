#include "trainer/run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/tensors.h"

/* Open what --resume and --checkpoint name. 1: open; 0: nothing to resume. */
static int open_checkpoint(const struct train_options *o, struct safetensors *file, char **path,
                           struct err *err)
{
    const bool automatic = strcmp(o->resume, "auto") == 0;
    int found = 0;

    if (strcmp(o->resume, "never") == 0 || (automatic && o->checkpoint == NULL))
        return 0;
    if (automatic) {
        found = checkpoint_open_latest(o->checkpoint, file, path, err);
        return found < 0 ? err_wrap(err, "--checkpoint") : found;
    }
    if (checkpoint_is_file(o->resume)) {
        if ((*path = strdup(o->resume)) == NULL)
            abort();
        return checkpoint_open(o->resume, file, err) < 0 ? err_wrap(err, "--resume") : 1;
    }
    found = checkpoint_open_latest(o->resume, file, path, err);
    if (found < 0)
        return err_wrap(err, "--resume");
    if (found == 0)
        return err_set(err, ERR_INPUT, "--resume: there is no whole checkpoint in '%s'", o->resume);
    return found;
}

#define COUNT_MAX 9007199254740992.0 /* 2^53: exact in a double */

/* What a checkpoint says, and what it may say: each fits where it goes. */
struct number {
    const char *key;
    double min, max;
    const char
        *older; /* the value where a checkpoint is older than the key; NULL: it must be there */
};

static int number_of(const struct safetensors *file, const char *path, const struct number *number,
                     double *value, struct err *err)
{
    const char *const found = safetensors_metadata(file, number->key);
    const char *const text = found != NULL ? found : number->older;
    char *end = NULL;

    if (text == NULL)
        return err_set(err, ERR_INPUT,
                       "'%s' says nothing of '%s': it is no checkpoint of a training run", path,
                       number->key);
    *value = strtod(text, &end);
    if (end == text || *end != '\0' || !(*value >= number->min && *value <= number->max))
        return err_set(err, ERR_INPUT, "'%s' in '%s' is no number that can be: '%s'", number->key,
                       path, text);
    return 0;
}

/* An older checkpoint does not say which launch made it, and that matters to an audit alone. */
static void read_launch(const struct safetensors *file, unsigned char launch[AUDIT_LAUNCH_BYTES])
{
    const char *const hex = safetensors_metadata(file, "launch");
    unsigned byte = 0;

    if (hex == NULL || strlen(hex) != 2 * AUDIT_LAUNCH_BYTES)
        return;
    for (int i = 0; i < AUDIT_LAUNCH_BYTES; i++)
        launch[i] = sscanf(hex + 2 * i, "%2x", &byte) == 1 ? (unsigned char)byte : 0;
}

/* Counts below 2^53 are exact in a double; the loss sum is not among them and is read as an
 * integer. */
static int read_position(const struct safetensors *file, const char *path, struct train_position *p,
                         struct err *err)
{
    static const struct number numbers[] = {
        {"step", 0, COUNT_MAX, NULL},
        {"epoch", 0, UINT32_MAX, NULL},
        {"epoch_step", 0, COUNT_MAX, NULL},
        {"samples", 0, COUNT_MAX, NULL},
        {"generation", 0, CHECKPOINT_GENERATION_MAX, NULL},
        {"epoch_images", 0, COUNT_MAX, NULL},
        {"epoch_correct", 0, COUNT_MAX, NULL},
        {"epoch_correct5", 0, COUNT_MAX, NULL},
        {"epoch_s", 0, COUNT_MAX, NULL},
        {"best_accuracy", -1, 1, NULL},
        {"best_epoch", 0, UINT32_MAX, NULL},
        {"epoch_loss", -1, (double)INT64_MAX, NULL},
        {"epoch_weight", -1, COUNT_MAX, "-1"}, /* of images without weights */
        {"best_step", 0, COUNT_MAX, "0"},
        {"improved_epoch", -1, UINT32_MAX, "-1"}, /* without a tolerance the best epoch */
    };
    enum { NUMBERS = sizeof numbers / sizeof numbers[0] };
    double v[NUMBERS];

    for (int i = 0; i < NUMBERS; i++)
        if (number_of(file, path, &numbers[i], &v[i], err) < 0)
            return -1;
    *p = (struct train_position){.step = (uint64_t)v[0],
                                 .epoch = (uint32_t)v[1],
                                 .epoch_step = (uint64_t)v[2],
                                 .samples = (uint64_t)v[3],
                                 .generation = (int)v[4],
                                 .epoch_s = v[8],
                                 .best_accuracy = v[9],
                                 .best_epoch = (uint32_t)v[10],
                                 .epoch_weight = v[12] < 0 ? v[5] : v[12],
                                 .best_step = (uint64_t)v[13],
                                 .improved_epoch = (uint32_t)(v[14] < 0 ? v[10] : v[14])};
    p->epoch_score =
        (struct nn_score){.images = (int64_t)v[5],
                          .correct = (int64_t)v[6],
                          .correct5 = (int64_t)v[7],
                          .loss = strtoll(safetensors_metadata(file, "epoch_loss"), NULL, 10)};
    read_launch(file, p->launch);
    return 0;
}

/* Values are cut: weights of many classes would leave no room for what is said of them. */
static int take_option(struct train_options *o, size_t i, const char *path, const char *stored,
                       struct err *err)
{
    const struct option_spec *const spec = &o->set.specs[i];
    const struct option_value *const value = &o->set.values[i];

    if (value->source > OPTION_CHECKPOINT) {
        if (train_options_means(o, i, stored))
            return 0;
        if (spec->flags & TRAIN_OPTION_FIXED)
            return err_set(err, ERR_USAGE,
                           "--%s is %.80s, but the checkpoint '%s' was made with%s%.80s: leave it "
                           "out, or give --resume never or another --checkpoint",
                           spec->name, value->text, path, *stored != '\0' ? " " : "out it", stored);
        if (*stored == '\0')
            return 0;
        log_warn("--%s is %.80s from here on; it was %.80s: the weights will not be those of an "
                 "uninterrupted run",
                 spec->name, value->text, stored);
        return 0;
    }
    return *stored != '\0'
               ? option_set_assign(&o->set, spec->name, stored, OPTION_CHECKPOINT, path, err)
               : 0;
}

static int take_options(struct train_options *o, const struct safetensors *file, const char *path,
                        struct err *err)
{
    for (size_t i = 0; i < o->set.count; i++) {
        const char *stored = NULL;
        char key[80];

        snprintf(key, sizeof key, "option.%s", o->set.specs[i].name);
        stored = safetensors_metadata(file, key);
        if (stored == NULL && (o->set.specs[i].flags & TRAIN_OPTION_FIXED) != 0)
            stored = o->set.specs[i].fallback; /* older than the option: nothing else was there */
        if (stored != NULL && take_option(o, i, path, stored, err) < 0)
            return -1;
    }
    return 0;
}

static int read_checkpoint(struct train_run *run, struct safetensors *file, char **path,
                           struct err *err)
{
    const int found = open_checkpoint(run->options, file, path, err);
    const char *format = NULL;

    if (found <= 0)
        return found;
    format = safetensors_metadata(file, "format");
    if (format == NULL || strcmp(format, "convoy-checkpoint-1") != 0)
        return err_set(err, ERR_INPUT, "'%s' is no checkpoint of a training run", *path);
    if (read_position(file, *path, &run->position, err) < 0 ||
        take_options(run->options, file, *path, err) < 0)
        return -1;
    return 1;
}

/* Every rank read the same command line; what rank 0 took from the checkpoint goes to the others as
 * NAME NUL TEXT NUL. */
static int share_options(struct train_run *run, struct err *err)
{
    struct option_set *const set = &run->options->set;
    struct buf text = {0};
    int rc = 0;

    for (size_t i = 0; run->comm->rank == 0 && i < set->count; i++)
        if (set->values[i].source == OPTION_CHECKPOINT) {
            buf_append(&text, set->specs[i].name, strlen(set->specs[i].name) + 1);
            buf_append(&text, set->values[i].text, strlen(set->values[i].text) + 1);
        }
    rc = train_share_bytes(run, &text, err);
    for (size_t at = 0; run->comm->rank != 0 && rc == 0 && at < text.bytes;) {
        const char *const name = buf_text(&text) + at;
        const char *const value = name + strlen(name) + 1;

        rc = option_set_assign(set, name, value, OPTION_CHECKPOINT, "the checkpoint", err);
        at += strlen(name) + strlen(value) + 2;
    }
    buf_release(&text);
    return rc < 0 ? -1 : train_options_fill(run->options, err);
}

int train_resume_find(struct train_run *run, struct safetensors *file, char **path, struct err *err)
{
    int found = 0;

    if (run->comm->rank == 0)
        found = read_checkpoint(run, file, path, err);
    found = train_share_outcome(run, found, err);
    if (found <= 0)
        return found;
    run->resumed = true;
    if (comm_broadcast(run->comm, &run->position, sizeof run->position, 0, err) < 0)
        return -1;
    return share_options(run, err) < 0 ? -1 : 1;
}

/* Pictures of a host go to the lanes of its ranks: other lanes would train some twice in an epoch,
 * and others not at all. Where each host has all, nothing is said of lanes. */
static int check_host_lanes(const struct train_run *run, const struct safetensors *file,
                            const char *path, struct err *err)
{
    const char *const found = safetensors_metadata(file, "host_lanes");
    const char *const stored = found != NULL ? found : "";
    struct buf now = {0};
    int rc = 0;

    train_host_data_lanes(run, &now);
    if ((*stored == '\0') != (now.bytes == 0))
        rc = err_set(err, ERR_USAGE,
                     "the checkpoint '%s' was made %s --host-data, which is %s now: give the same, "
                     "or --resume never",
                     path, *stored != '\0' ? "with" : "without",
                     *stored != '\0' ? "missing" : "there");
    else if (strcmp(stored, buf_text(&now)) != 0)
        rc = err_set(err, ERR_USAGE,
                     "the checkpoint '%s' was made with %s micro-batches of a step on the hosts in "
                     "their turn, now it would be %s: --host-data needs the same; start as many "
                     "ranks on each host",
                     path, stored, buf_text(&now));
    buf_release(&now);
    return rc;
}

/* Rank 0: the data must be those of the checkpoint; other arithmetic is allowed, but said. */
static int check_data(const struct train_run *run, const struct safetensors *file, const char *path,
                      struct err *err)
{
    static const struct number version = {"order_version", 0, INT32_MAX, NULL};
    const char *const dataset = safetensors_metadata(file, "dataset"), *const numerics =
                                                                           safetensors_metadata(
                                                                               file, "numerics");
    double order = 0;
    char hex[DIGEST_HEX_CHARS];

    /* First, since with other parts it is another fingerprint. */
    if (check_host_lanes(run, file, path, err) < 0)
        return -1;
    digest_hex(run->dataset.train.fingerprint, hex);
    if (dataset == NULL || strcmp(dataset, hex) != 0)
        return err_set(err, ERR_INPUT,
                       "the checkpoint '%s' was made with other training pictures than those in "
                       "'%s' (%zu of %d classes): give "
                       "the same data, or --resume never",
                       path, run->dataset.train.root, run->dataset.train.count,
                       run->dataset.train.classes);
    if (number_of(file, path, &version, &order, err) < 0)
        return -1;
    if ((int)order != DATA_ORDER_VERSION)
        return err_set(err, ERR_INPUT, "'%s' has sample order version %d, this program has %d",
                       path, (int)order, DATA_ORDER_VERSION);
    if (numerics == NULL || strcmp(numerics, nn_numerics_id()) != 0)
        log_warn("the checkpoint was made by '%s', this is '%s': bits may differ from an "
                 "uninterrupted run",
                 numerics != NULL ? numerics : "?", nn_numerics_id());
    return 0;
}

int train_resume_check_data(struct train_run *run, const struct safetensors *file, const char *path,
                            struct err *err)
{
    int rc = 0;

    if (!run->resumed)
        return 0;
    if (run->comm->rank == 0)
        rc = check_data(run, file, path, err);
    return train_share_outcome(run, rc, err);
}

int train_resume_load(struct train_run *run, struct safetensors *file, char **path, struct err *err)
{
    struct nn_model *const model = run->model;
    int rc = 0;

    if (run->comm->rank == 0) {
        run->best.there = run->best.weights != NULL && run->position.best_step > 0;
        rc = train_tensors_restore(file, *path, model, &run->state, &run->best, err);
        if (rc == 0)
            log_info("resuming at step %" PRIu64 " (epoch %u) from '%s'", run->position.step,
                     run->position.epoch, *path);
    }
    if (train_share_outcome(run, rc, err) < 0)
        return -1;
    if (train_share_model(run, err) < 0)
        return -1;
    for (int i = 0; i < run->state.vectors; i++)
        if (train_share_floats(run, run->state.vector[i], run->state.count, err) < 0)
            return -1;
    return 0;
}
