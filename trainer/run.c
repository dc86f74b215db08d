#include "trainer/run.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/trace.h"
#include "comm/exchange.h"
#include "trainer/checkpoint/lease.h"
#include "trainer/data/cache/cache.h"
#include "trainer/data/stream/stream.h"
#include "trainer/feature_cache.h"
#include "trainer/mark.h"
#include "trainer/model_dir.h"
#include "trainer/picture_cache.h"
#include "trainer/tally.h"

#define BATCHES_BETWEEN_LINES 20 /* as the built-in algorithm prints */

/* Also once in an epoch that has fewer: whoever charts the speed finds one. */
static bool is_time_for_a_line(const struct train_run *run)
{
    const uint64_t steps = data_order_steps(&run->order), done = run->position.epoch_step;

    return done % BATCHES_BETWEEN_LINES == 0 || (steps < BATCHES_BETWEEN_LINES && done == steps);
}

static void show_progress(struct train_run *run)
{
    const struct train_position *const p = &run->position;
    const struct report_sum sum = train_report_epoch(p);
    const uint64_t of = data_order_images(&run->order);

    report_progress_show(&run->progress,
                         &(struct report_place){.what = "training",
                                                .epoch = (int)p->epoch,
                                                .epochs = run->options->epochs,
                                                .done = (uint64_t)sum.images,
                                                .of = of,
                                                .all_done = p->samples,
                                                .all_of = of * (uint64_t)run->options->epochs,
                                                .scored = true,
                                                .loss = sum.loss,
                                                .accuracy = report_accuracy(&sum)});
    if (run->comm->rank == 0 && is_time_for_a_line(run))
        report_line_batch((int)p->epoch, p->epoch_step,
                          report_progress_speed(&run->progress, p->samples), &sum);
}

/* Rank 0 saves between two steps while the others wait in the next one. A weight that is not finite
 * ends all ranks. */
static int save_if(struct train_run *run, bool wanted, bool last, struct err *err)
{
    bool saved = false;

    if (run->comm->rank != 0 || run->options->checkpoint == NULL || !wanted)
        return 0;
    if (run->saved && run->saved_step == run->position.step)
        return 0;
    return train_save(run, last, &saved, err);
}

/* What a finished run leaves; also that of a run that was stopped, where a platform takes what is
 * in the model folder for the result. */
static int write_model(struct train_run *run, char hex[DIGEST_HEX_CHARS], struct err *err)
{
    const bool best = run->best.there, swap = best && !run->best.swapped;
    const double begun = trace_begin();
    int rc = 0;

    if (train_check_finite(run, err) < 0)
        return -1;
    if (swap)
        train_best_swap(&run->best, run->model);
    rc = train_model_dir_write(run->options, run->model, &run->dataset.train,
                               best ? run->position.best_step : run->position.step, hex, err);
    if (swap)
        train_best_swap(&run->best, run->model);
    trace_end("checkpoint", "model", begun);
    return rc;
}

static int write_model_on_stop(struct train_run *run, struct err *err)
{
    const char *const wanted = getenv("CONVOY_MODEL_ON_STOP");
    char hex[DIGEST_HEX_CHARS];

    if (wanted == NULL || strcmp(wanted, "1") != 0 || run->position.step == 0)
        return 0;
    if (write_model(run, hex, err) < 0)
        return -1;
    log_info("the model of step %" PRIu64 " is in '%s'",
             run->best.there ? run->position.best_step : run->position.step,
             run->options->model_dir);
    train_mark_make("CONVOY_MODEL_LEFT");
    return 0;
}

/* Rank 0, asked to stop: all that is to be kept of the last whole step. A checkpoint that cannot be
 * written is no reason to leave no model either, nor one for which S3 is silent until the platform
 * kills us: a folder takes its model first. */
static int keep_last_step(struct train_run *run, struct err *err)
{
    const bool trained = run->position.step > 0,
               far = strncmp(run->options->model_dir, "s3://", 5) == 0;
    struct err model = {0};

    if (lease_lost(run->lease, err))
        return -1;
    if (!far)
        write_model_on_stop(run, &model);
    if (save_if(run, trained, true, err) < 0 || lease_lost(run->lease, err))
        return -1;
    if (far)
        write_model_on_stop(run, &model);
    if (model.code != ERR_NONE) {
        *err = model;
        return -1;
    }
    if (run->options->checkpoint != NULL && trained && !run->saved)
        return err_set(err, ERR_IO,
                       "stopped at step %" PRIu64 ", and the checkpoint could not be written",
                       run->position.step);
    return 0;
}

/* The last whole step, before the run ends at a signal. */
static int save_and_stop(struct train_run *run, struct err *err)
{
    const int rc = run->comm->rank == 0 ? keep_last_step(run, err) : 0;

    if (train_share_outcome(run, rc, err) < 0)
        return -1;
    run->agreed = true;
    return err_set(err, ERR_STOPPED, "stopped at step %" PRIu64, run->position.step);
}

/* Rank 0 saves; the others go on to what comes next, and are told that it lives. */
static int save_between(struct train_run *run, struct err *err)
{
    int rc;

    if (train_update_settle(run, err) < 0)
        return -1;
    comm_exchange_elsewhere(run->exchange, true);
    rc = save_if(run, true, false, err);
    comm_exchange_elsewhere(run->exchange, false);
    return rc;
}

static bool steps_are_up(const struct train_run *run)
{
    return run->options->max_steps > 0 && run->position.step >= run->options->max_steps;
}

static int train_epoch(struct train_run *run, struct err *err)
{
    const uint64_t steps = data_order_steps(&run->order);

    if (run->feature_cache != NULL && run->position.epoch_step < steps &&
        train_feature_cache_prepare(run->feature_cache, run, err) < 0)
        return err->code == ERR_STOPPED ? save_and_stop(run, err) : -1;
    while (run->position.epoch_step < steps && !steps_are_up(run)) {
        bool dropped = false, stop = false;

        if (train_step(run, &dropped, &stop, err) < 0)
            return -1;
        if (stop)
            return train_update_settle(run, err) < 0 ? -1 : save_and_stop(run, err);
        show_progress(run);
        if (train_save_is_due(run) && save_between(run, err) < 0)
            return -1;
    }
    return train_update_settle(run, err);
}

static int tell_epoch(struct train_run *run, struct err *err)
{
    const struct train_position *const p = &run->position;
    const struct report_sum sum = train_report_epoch(p);
    json_t *cache = NULL;

    if (train_picture_cache_tell(run, &cache, err) < 0)
        return -1;
    report_progress_end(&run->progress);
    if (run->comm->rank == 0)
        report_line_train(run->comm->host, (int)p->epoch, &sum, p->epoch_s);
    report_metrics_write(&run->metrics, "epoch",
                         json_pack("{s:i, s:I, s:f, s:f, s:I, s:f, s:o*, s:o*}", "epoch",
                                   (int)p->epoch, "step", (json_int_t)p->step, "loss", sum.loss,
                                   "accuracy", report_accuracy(&sum), "images",
                                   (json_int_t)sum.images, "seconds", p->epoch_s, "slowest",
                                   train_straggler_json(run, run->epoch_busy_s), "cache", cache));
    return 0;
}

static int evaluate(struct train_run *run, const struct data_index *index, const char *what,
                    struct report_sum *sum, struct train_tally *tally, struct err *err)
{
    const double begun = clock_now_s();
    const bool cached = run->feature_cache != NULL && index == &run->dataset.val;
    struct nn_score score = {0};

    if ((cached ? train_feature_cache_validate(run->feature_cache, run, &score, tally, err)
                : train_evaluate(run, index, what, &score, tally, err)) < 0)
        return -1;
    report_progress_end(&run->progress);
    if (score.nonfinite == score.images) {
        run->agreed = true; /* every rank has the same sum */
        return err_set(err, ERR_INTERNAL,
                       "%s after step %" PRIu64 " (epoch %" PRIu32
                       "): not one picture has a finite loss: the rate (--lr) may be too high",
                       what, run->position.step, run->position.epoch);
    }
    if (score.nonfinite > 0)
        log_info("%" PRId64
                 " pictures have a loss that is not finite; they are left out of the mean",
                 score.nonfinite);
    *sum = train_report_sum(&score);
    report_metrics_write(
        &run->metrics, "eval",
        json_pack("{s:s, s:i, s:I, s:f, s:f, s:f, s:I, s:f}", "what", what, "epoch",
                  (int)run->position.epoch, "step", (json_int_t)run->position.step, "loss",
                  sum->loss, "accuracy", report_accuracy(sum), "accuracy5", report_accuracy5(sum),
                  "images", (json_int_t)sum->images, "seconds", clock_now_s() - begun));
    return 0;
}

/* Every rank found the same sum, so all do the same. The tables are of the weights that are kept.
 */
static int judge(struct train_run *run, const struct report_sum *sum, struct train_tally *tally,
                 struct err *err)
{
    struct train_position *const p = &run->position;
    const bool best = report_accuracy(sum) > p->best_accuracy;

    if (run->comm->rank == 0)
        report_line_validation(run->comm->host, (int)p->epoch, sum);
    if (train_early_stopping_improves(&run->options->early_stopping, report_accuracy(sum),
                                      p->best_accuracy))
        p->improved_epoch = p->epoch;
    if (best) {
        p->best_accuracy = report_accuracy(sum);
        p->best_epoch = p->epoch;
        p->best_step = p->step;
        train_best_take(&run->best, run->model);
    }
    return best || !run->options->keep_best ? train_tell_classes(run, tally, "validation", err) : 0;
}

static int validate(struct train_run *run, struct err *err)
{
    struct report_sum sum = {0};
    struct train_tally tally = {0};
    int rc = 0;

    if (!run->dataset.has_val)
        return 0;
    train_tally_init(&tally, run->dataset.train.classes);
    rc = evaluate(run, &run->dataset.val, "validating", &sum, &tally, err);
    if (rc == 0)
        rc = judge(run, &sum, &tally, err);
    train_tally_release(&tally);
    return rc;
}

static void next_epoch(struct train_run *run)
{
    struct train_position *const p = &run->position;

    p->epoch++;
    p->epoch_step = 0;
    p->epoch_s = 0;
    p->epoch_weight = 0;
    memset(run->epoch_busy_s, 0, (size_t)run->comm->size * sizeof *run->epoch_busy_s);
    memset(&p->epoch_score, 0, sizeof p->epoch_score);
}

/* An evaluation that a signal ended: nothing of it is kept, the epoch's last step is. */
static int stopped_evaluating(struct train_run *run, struct err *err)
{
    if (run->best.swapped)
        train_best_swap(&run->best, run->model);
    return err->code == ERR_STOPPED ? save_and_stop(run, err) : -1;
}

static bool ends_early(struct train_run *run)
{
    const struct train_position *const p = &run->position;

    run->ended_early =
        train_early_stopping_ends(&run->options->early_stopping, p->epoch, p->improved_epoch);
    if (run->ended_early)
        log_info("ends early, after epoch %" PRIu32
                 ": the validation accuracy has not improved for "
                 "%" PRIu32 " epochs; the best was %.6f in epoch %" PRIu32,
                 p->epoch, p->epoch - p->improved_epoch, p->best_accuracy, p->best_epoch);
    return run->ended_early;
}

static int train_epochs(struct train_run *run, struct err *err)
{
    while (run->position.epoch < (uint32_t)run->options->epochs) {
        const uint64_t begun = run->position.step;

        if (train_epoch(run, err) < 0)
            return -1;
        if (run->position.step > begun && run->position.epoch_score.images == 0) {
            train_note_odd(run, run->stream);
            return train_no_picture(run, &run->dataset.train, err);
        }
        if (run->position.step > begun && /* else it was told before the run was resumed */
            tell_epoch(run, err) < 0)
            return -1;
        if (save_between(run, err) < 0)
            return -1;
        if (validate(run, err) < 0)
            return stopped_evaluating(run, err);
        if (steps_are_up(run) || ends_early(run))
            return 0;
        next_epoch(run);
    }
    return 0;
}

/* The run's last event, "finished" or "stopped". Collective. */
static int tell_end(struct train_run *run, const char *how, const char *hex, struct err *err)
{
    int64_t truncated = 0, left_out = 0;
    json_t *cache = NULL;

    train_note_odd(run, run->stream);
    if (train_tell_odd(run, &truncated, &left_out, err) < 0 ||
        train_picture_cache_tell(run, &cache, err) < 0)
        return -1;
    train_picture_cache_log(run, cache);
    report_metrics_write(
        &run->metrics, "end",
        json_pack("{s:s, s:s*, s:I, s:I, s:I, s:I, s:s*, s:f, s:o*}", "how", how, "why",
                  run->ended_early ? "early stopping" : NULL, "step",
                  (json_int_t)run->position.step, "images", (json_int_t)run->position.samples,
                  "truncated", (json_int_t)truncated, "left_out", (json_int_t)left_out, "sha256",
                  hex, "seconds", clock_now_s() - run->began_s, "cache", cache));
    return 0;
}

static int test(struct train_run *run, struct err *err)
{
    struct report_sum sum = {0};
    struct train_tally tally = {0};
    int rc = 0;

    if (!run->dataset.has_test)
        return 0;
    train_tally_init(&tally, run->dataset.train.classes);
    rc = evaluate(run, &run->dataset.test, "testing", &sum, &tally, err);
    if (rc == 0 && run->comm->rank == 0)
        report_line_test(&sum);
    if (rc == 0)
        rc = train_tell_classes(run, &tally, "test", err);
    train_tally_release(&tally);
    return rc;
}

/* What is tested is what is written. */
static int use_best(struct train_run *run, struct err *err)
{
    if (!run->options->keep_best || run->position.best_step == 0)
        return 0;
    log_info("the model is that of epoch %" PRIu32 ", step %" PRIu64 ": validation accuracy %.6f",
             run->position.best_epoch, run->position.best_step, run->position.best_accuracy);
    train_best_swap(&run->best, run->model);
    return train_share_model(run, err);
}

static int finish(struct train_run *run, struct err *err)
{
    char hex[DIGEST_HEX_CHARS] = "", heading[64] = "validation";
    int rc = 0;

    if (run->options->keep_best)
        snprintf(heading, sizeof heading, "validation, best in epoch %" PRIu32,
                 run->position.best_epoch);
    train_tell_worst(run, heading);
    if (use_best(run, err) < 0)
        return -1;
    if (test(run, err) < 0)
        return stopped_evaluating(run, err);
    train_tell_worst(run, "test");
    if (run->comm->rank == 0) {
        rc = lease_lost(run->lease, err) ? -1 : write_model(run, hex, err);
        if (rc == 0)
            report_line_weights(hex);
    }
    if (train_share_outcome(run, rc, err) < 0 || train_audit_finish(run, err) < 0)
        return -1;
    return tell_end(run, "finished", hex, err);
}

static void release(struct train_run *run)
{
    data_stream_free(run->stream);
    train_feature_cache_free(run->feature_cache);
    data_cache_free(run->cache);
    train_step_release(run);
    nn_model_free(run->model);
    optim_state_release(&run->state);
    train_class_weights_release(&run->class_weights);
    train_best_release(&run->best);
    train_audit_release(run);
    train_dataset_release(&run->dataset);
    free(run->parts);
    report_metrics_close(&run->metrics);
    lease_release(run->lease);
    buf_release(&run->worst);
}

static int run_all(struct train_run *run, struct err *err)
{
    double begun;

    if (train_trace_begin(run, err) < 0)
        return -1;
    begun = trace_begin();
    if (train_prepare(run, err) < 0)
        return -1;
    trace_end("run", "prepare", begun);
    run->prepared = true;
    report_progress_init(&run->progress, run->comm->rank != 0, run->position.samples);
    run->saved_s = clock_now_s();
    /* What --resume PATH named may lie elsewhere than where --resume auto would look for it. */
    run->saved = run->resumed && strcmp(run->options->resume, "auto") == 0;
    run->saved_step = run->position.step;
    if (train_epochs(run, err) < 0)
        return -1;
    return finish(run, err);
}

int train_run(struct train_options *options, struct comm *comm, bool *agreed, struct err *err)
{
    struct train_run *const run = calloc(1, sizeof *run);
    int rc;

    if (run == NULL)
        abort();
    *run = (struct train_run){
        .options = options, .comm = comm, .metrics.fd = -1, .began_s = clock_now_s()};
    rc = run_all(run, err);
    report_progress_end(&run->progress);
    if (rc < 0 && err->code == ERR_PEER && !run->agreed)
        return rc; /* to be told at once; its threads use the run until the process ends */
    if (rc < 0)
        train_audit_close(run, err);
    if (rc < 0 && err->code == ERR_STOPPED) {
        if (comm->rank == 0)
            report_line_stopped((int)run->position.epoch, options->epochs);
        if (run->prepared)
            (void)tell_end(run, "stopped", NULL, NULL);
    }
    release(run);
    rc = train_trace_end(run, rc, err);
    *agreed = run->agreed;
    free(run);
    return rc;
}
