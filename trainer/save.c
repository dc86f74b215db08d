#include "trainer/run.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/trace.h"
#include "trainer/checkpoint/lease.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/tensors.h"

#define LEASE_WAIT_S 20 /* for the lease, before the last save of a run that was asked to stop */
#define RETRY_AFTER_S                                                                              \
    30 /* a save that failed is tried again so soon, or at its interval if that is shorter */

/* Keys and values of the metadata, written one behind the other with NULs; the pairs point into it
 * in the end. */
struct metadata {
    struct buf text;
    size_t count;
};

static void add(struct metadata *m, const char *key, const char *value)
{
    buf_append(&m->text, key, strlen(key) + 1);
    buf_append(&m->text, value, strlen(value) + 1);
    m->count++;
}

static void add_integer(struct metadata *m, const char *key, int64_t value)
{
    char text[32];

    snprintf(text, sizeof text, "%" PRId64, value);
    add(m, key, text);
}

static void add_number(struct metadata *m, const char *key, double value)
{
    char text[32];

    snprintf(text, sizeof text, "%.17g", value);
    add(m, key, text);
}

static void add_launch(struct metadata *m, const unsigned char launch[AUDIT_LAUNCH_BYTES])
{
    char hex[2 * AUDIT_LAUNCH_BYTES + 1];

    for (int i = 0; i < AUDIT_LAUNCH_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", launch[i]);
    add(m, "launch", hex);
}

static void add_options(struct metadata *m, const struct train_options *o)
{
    for (size_t i = 0; i < o->set.count; i++) {
        struct buf value = {0};
        char key[80];

        if ((o->set.specs[i].flags & (TRAIN_OPTION_FIXED | TRAIN_OPTION_SCHEDULE)) == 0)
            continue;
        snprintf(key, sizeof key, "option.%s", o->set.specs[i].name);
        train_options_resolved(o, i, &value);
        add(m, key, buf_text(&value));
        buf_release(&value);
    }
}

/* Which lanes read whose pictures. */
static void add_host_lanes(struct metadata *m, const struct train_run *run)
{
    struct buf lanes = {0};

    train_host_data_lanes(run, &lanes);
    if (lanes.bytes > 0)
        add(m, "host_lanes", buf_text(&lanes));
    buf_release(&lanes);
}

static void describe(struct metadata *m, const struct train_run *run)
{
    const struct train_position *const p = &run->position;
    char hex[DIGEST_HEX_CHARS];

    add(m, "format", "convoy-checkpoint-1");
    add_integer(m, "step", (int64_t)p->step);
    add_integer(m, "epoch", p->epoch);
    add_integer(m, "epoch_step", (int64_t)p->epoch_step);
    add_integer(m, "samples", (int64_t)p->samples);
    add_integer(m, "generation", p->generation);
    add_launch(m, p->launch);
    add_integer(m, "epoch_images", p->epoch_score.images);
    add_integer(m, "epoch_correct", p->epoch_score.correct);
    add_integer(m, "epoch_correct5", p->epoch_score.correct5);
    add_integer(m, "epoch_loss", p->epoch_score.loss);
    add_number(m, "epoch_weight", p->epoch_weight);
    add_number(m, "epoch_s", p->epoch_s);
    add_number(m, "best_accuracy", p->best_accuracy);
    add_integer(m, "best_epoch", p->best_epoch);
    add_integer(m, "best_step", (int64_t)p->best_step);
    add_integer(m, "improved_epoch", p->improved_epoch);
    add_integer(m, "classes", run->dataset.train.classes);
    digest_hex(run->dataset.train.fingerprint, hex);
    add(m, "dataset", hex);
    add_integer(m, "order_version", DATA_ORDER_VERSION);
    add_host_lanes(m, run);
    add(m, "numerics", nn_numerics_id());
    add_options(m, run->options);
}

static struct safetensors_pair *pairs_of(struct metadata *m)
{
    struct safetensors_pair *const pairs = calloc(m->count, sizeof pairs[0]);
    const char *at = buf_text(&m->text);

    if (pairs == NULL)
        abort();
    for (size_t i = 0; i < m->count; i++) {
        pairs[i].key = at;
        at += strlen(at) + 1;
        pairs[i].value = at;
        at += strlen(at) + 1;
    }
    return pairs;
}

static bool is_finite(const float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

int train_check_finite(const struct train_run *run, struct err *err)
{
    const size_t weights = nn_model_weight_count(run->model);

    bool finite = is_finite(nn_model_weights(run->model), weights) &&
                  is_finite(nn_model_running(run->model), nn_model_running_count(run->model));

    for (int i = 0; finite && i < run->state.vectors; i++)
        finite = is_finite(run->state.vector[i], run->state.count);
    if (finite)
        return 0;
    return err_set(err, ERR_INTERNAL,
                   "a weight is not a finite number after step %" PRIu64
                   " (epoch %u): the rate (--lr) may be too high; nothing of it is written",
                   run->position.step, run->position.epoch);
}

/* A copy of all tensors, in the order of files. */
static int copy_tensors(struct train_run *run, struct train_tensors *tensors, struct err *err)
{
    const double begun = trace_begin();
    const int rc =
        train_tensors_gather(tensors, run->model, &run->state, &run->best, run->position.step, err);

    trace_end("checkpoint", "copy", begun);
    return rc;
}

static int commit(struct train_run *run, bool last, char **path, struct err *err)
{
    const struct checkpoint_name name = {.step = run->position.step,
                                         .generation = run->position.generation};
    struct train_tensors tensors = {0};
    struct metadata metadata = {0};
    struct safetensors_pair *pairs = NULL;
    int rc = -1;

    describe(&metadata, run);
    pairs = pairs_of(&metadata);
    if (lease_check(run->lease, last ? LEASE_WAIT_S : 0, err) < 0 ||
        copy_tensors(run, &tensors, err) < 0)
        err_wrap(err, "cannot save a checkpoint");
    else
        rc = checkpoint_save(run->options->checkpoint, name, tensors.entries, tensors.count, pairs,
                             metadata.count, run->options->keep, path, err);
    train_tensors_release(&tensors);
    free(pairs);
    buf_release(&metadata.text);
    return rc;
}

bool train_save_is_due(const struct train_run *run)
{
    const struct train_options *const o = run->options;
    const double since = clock_now_s() - run->saved_s;

    if (run->comm->rank != 0 || o->checkpoint == NULL ||
        (run->saved && run->saved_step == run->position.step))
        return false;
    if (o->checkpoint_steps > 0)
        return run->position.step >= run->saved_step + o->checkpoint_steps &&
               (!run->save_failed || since >= RETRY_AFTER_S);
    return since >= (run->save_failed ? fmin(o->checkpoint_s, RETRY_AFTER_S) : o->checkpoint_s);
}

int train_save(struct train_run *run, bool last, bool *saved, struct err *err)
{
    const double begun = clock_now_s();
    struct err failure = {0};
    char *path = NULL;

    *saved = false;
    if (train_check_finite(run, err) < 0)
        return -1;
    *saved = commit(run, last, &path, &failure) == 0;
    trace_put(&(struct trace_span){.category = "checkpoint",
                                   .name = "checkpoint",
                                   .begun_s = begun,
                                   .argument = "step",
                                   .value = (int64_t)run->position.step});
    run->saved = *saved;
    run->save_failed = !*saved;
    run->saved_s = clock_now_s();
    if (*saved) {
        run->saved_step = run->position.step;
        log_debug("checkpoint '%s' in %.2f s", path, run->saved_s - begun);
        report_metrics_write(&run->metrics, "checkpoint",
                             json_pack("{s:i, s:I, s:s, s:f}", "epoch", (int)run->position.epoch,
                                       "step", (json_int_t)run->position.step, "path", path,
                                       "checkpoint_s", run->saved_s - begun));
    } else if (!lease_lost(run->lease, NULL)) { /* else the ranks end with that, together */
        log_warn("%s%s", failure.msg, last ? "" : "; training goes on and tries again");
    }
    free(path);
    return 0;
}
