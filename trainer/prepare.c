#include "trainer/picture_cache.h"
#include "trainer/run.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "trainer/checkpoint/lease.h"
#include "trainer/checkpoint/place.h"
#include "trainer/data/stream/stream.h"
#include "trainer/feature_cache.h"
#include "trainer/host_memory.h"
#include "trainer/mark.h"
#include "trainer/memory.h"
#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/pretrained.h"
#include "trainer/stop.h"
#include "trainer/threads.h"

static void choose_threads(struct train_run *run)
{
    struct train_options *const o = run->options;

    if (o->threads == 0)
        o->threads = train_threads(run->comm->local_size);
    o->decode_threads =
        train_decode_threads(o->decode_threads, train_threads(run->comm->local_size), o->threads);
    nn_threads_init(o->threads);
}

/* Of CPUs that differ all use what the least of them has. */
static int agree_on_kernels(struct train_run *run, struct err *err)
{
    const int mine = nn_kernels_level();
    int *const all = calloc((size_t)run->comm->size, sizeof(int));
    int lowest = mine, rc;

    if (all == NULL)
        abort();
    rc = comm_gather(run->comm, &mine, sizeof mine, all, err);
    for (int r = 0; r < run->comm->size && rc == 0; r++)
        lowest = all[r] < lowest ? all[r] : lowest;
    free(all);
    if (rc == 0)
        nn_kernels_lower(lowest);
    return rc;
}

/* Other arithmetic on one of the ranks would break "same bits" without a word. */
static int agree_on_numerics(struct train_run *run, struct err *err)
{
    enum { BYTES = 512 };
    char mine[BYTES] = {0};
    char *const all = calloc((size_t)run->comm->size, BYTES);
    int rc = 0;

    if (all == NULL)
        abort();
    if (agree_on_kernels(run, err) < 0) {
        free(all);
        return -1;
    }
    snprintf(mine, sizeof mine, "%s", nn_numerics_id());
    rc = comm_gather(run->comm, mine, BYTES, all, err);
    for (int r = 1; r < run->comm->size && rc == 0; r++)
        if (memcmp(all, all + (size_t)r * BYTES, BYTES) != 0) {
            run->agreed = true;
            rc = err_set(err, ERR_USAGE,
                         "rank %d computes with '%s', rank 0 with '%s': use one build on hosts of "
                         "one CPU type, and the same CONVOY_CONV",
                         r, all + (size_t)r * BYTES, all);
        }
    free(all);
    return rc;
}

/* Rank 0 lists the folders. */
static int open_dataset(struct train_run *run, struct err *err)
{
    const bool first = run->comm->rank == 0;

    if (run->options->host_data != 0)
        return train_host_data_open(run, err);
    return train_share_dataset(
        run, first ? train_dataset_open(&run->dataset, run->options, err) : 0, err);
}

/* For a checkpoint prefix in S3 the lease has shown it. */
static int check_place(const char *option, const char *text, struct err *err)
{
    struct place place = {0};
    int rc = 0;

    if (text != NULL)
        rc = place_open(&place, text, err) < 0 ? -1 : place_check_writable(&place, err);
    place_release(&place);
    if (rc == 0)
        return 0;
    if (err->code == ERR_IO)
        err->code = ERR_USAGE;
    return err_wrap(err, "%s", option);
}

static int open_metrics(struct train_run *run, struct err *err)
{
    if (report_metrics_open(&run->metrics, run->options->report, err) == 0)
        return 0;
    err->code = ERR_USAGE;
    return err_wrap(err, "--report");
}

/* Rank 0: a prefix in S3 is one job's at a time. It is ours before its newest checkpoint is looked
 * for, so that none is added behind our back. */
static int take_lease(struct train_run *run, struct err *err)
{
    const char *const where = run->options->checkpoint;
    struct lease_options options = {
        .place = where, .host = run->comm->host, .cancel = &train_stop_asked};
    char job[LEASE_JOB_CHARS];

    if (where == NULL || !place_is_s3(where))
        return 0;
    lease_job(job);
    options.job = job;
    if (checkpoint_last_generation(where, &options.generation, err) == 0 &&
        lease_take(&run->lease, &options, err) >= 0)
        return 0;
    return err_wrap(err, "--checkpoint");
}

/* A launch is a new generation, whatever it starts from: its checkpoints are newer than all that
 * are there. */
static int begin_generation(struct train_run *run, struct err *err)
{
    const char *const where = run->options->checkpoint;
    int last = 0;

    if (where != NULL && run->lease == NULL && checkpoint_last_generation(where, &last, err) < 0)
        return -1;
    if (run->lease != NULL)
        last = lease_generation(run->lease) - 1;
    if (where != NULL)
        checkpoint_clean(where);
    if (last < run->position.generation)
        last = run->position.generation;
    if (last >= CHECKPOINT_GENERATION_MAX)
        return err_set(err, ERR_INPUT, "--checkpoint: '%s' has had %d generations: give another",
                       where == NULL ? "" : where, last);
    run->position.generation = last + 1;
    if (run->lease != NULL)
        lease_raise(run->lease, run->position.generation);
    return 0;
}

/* Before hours of work: can its results be written? */
static int open_outputs(struct train_run *run, struct err *err)
{
    const struct train_options *const o = run->options;
    int rc = 0;

    if (run->comm->rank == 0)
        rc = check_place("--model-dir", o->model_dir, err) < 0 ||
                     check_place("--report", o->report, err) < 0 ||
                     check_place("--checkpoint", run->lease == NULL ? o->checkpoint : NULL, err) <
                         0 ||
                     open_metrics(run, err) < 0 || begin_generation(run, err) < 0
                 ? -1
                 : 0;
    if (train_share_outcome(run, rc, err) < 0)
        return -1;
    return comm_broadcast(run->comm, &run->position.generation, sizeof(int), 0, err);
}

static int plan(struct train_run *run, struct err *err)
{
    const struct train_options *const o = run->options;
    double of_epoch = 0;

    run->order = (struct data_order){.samples = run->dataset.train.count,
                                     .chunk_samples = data_index_chunk_samples(&run->dataset.train),
                                     .seed = o->seed,
                                     .batch = (uint32_t)o->global_batch,
                                     .lanes = (uint32_t)o->lanes,
                                     .drop_last = o->drop_last};
    if (train_host_data_parts(run, err) < 0)
        return -1;
    of_epoch = (double)data_order_images(&run->order);
    run->schedule =
        (struct optim_schedule){.kind = strcmp(o->lr_schedule, "cosine") == 0 ? OPTIM_COSINE
                                        : strcmp(o->lr_schedule, "step") == 0 ? OPTIM_STEP
                                                                              : OPTIM_CONSTANT,
                                .lr = o->lr,
                                .warmup_samples = o->warmup_epochs * of_epoch,
                                .total_samples = o->epochs * of_epoch,
                                .gamma = o->lr_factor,
                                .step_count = o->lr_step_count};
    for (int i = 0; i < o->lr_step_count; i++)
        run->schedule.step_samples[i] = o->lr_steps[i] * of_epoch;
    return 0;
}

/* Before memory is taken: a host that runs out of it ends some process, and not with a line. */
static int check_memory(struct train_run *run, struct err *err)
{
    const struct train_memory_job job = {.options = run->options,
                                         .micro_batch = run->options->micro_batch,
                                         .classes = run->dataset.train.classes,
                                         .threads = run->options->threads,
                                         .ranks = run->comm->size,
                                         .ranks_of_host = run->comm->local_size,
                                         .resumed = run->resumed};
    uint64_t available = 0;
    int rc = train_host_memory(&available, err);
    int64_t failed;

    if (rc == 0)
        rc = train_memory_check(&job, available, err);
    run->memory_left = train_memory_left(&job, available);
    failed = rc < 0;
    if (comm_sum_integers(run->comm, &failed, 1, err) < 0)
        return -1;
    return failed > 0 ? train_share_failure(run, rc, err) : 0;
}

/* As ERR_MEMORY or ERR_USAGE may come on one rank only, these are not agreed: the caller ends all
 * ranks. */
static int make_model(struct train_run *run, struct err *err)
{
    const struct train_options *const o = run->options;
    const struct nn_model_options options = {.name = o->model,
                                             .classes = run->dataset.train.classes,
                                             .image_size = o->image_size,
                                             .micro_batch_max = o->micro_batch,
                                             .training = true,
                                             .tuning = o->tuning};

    if (check_memory(run, err) < 0)
        return -1;
    run->model = nn_model_new(&options, err);
    if (run->model == NULL) {
        run->agreed = err->code == ERR_USAGE; /* the same options fail alike everywhere */
        return -1;
    }
    if (optim_state_init(&run->state, o->optimizer.kind, nn_model_trained_count(run->model), err) <
        0)
        return -1;
    if (o->keep_best && o->bench_steps == 0 && run->comm->rank == 0 &&
        train_best_init(&run->best, run->model, run->state.count, err) < 0)
        return -1;
    return 0;
}

static struct data_stream *open_stream(const struct train_run *run, struct err *err)
{
    const struct train_options *const o = run->options;
    const struct data_stream_options options = {
        .index = &run->dataset.train,
        .transform = o->training,
        .order = &run->order,
        .lane_begin = run->lanes.begin,
        .lane_end = run->lanes.end,
        .epoch = run->position.epoch,
        .epoch_end = (uint32_t)o->epochs,
        .step = run->position.epoch_step,
        .micro_batch = o->micro_batch,
        .threads = o->decode_threads,
        .depth = TRAIN_BATCHES_AHEAD,
        .fetch_bytes = o->prefetch_bytes - o->prefetch_bytes / TRAIN_PREFETCH_EVALUATION,
        .fetch_threads = o->fetch_threads,
        .cache = run->cache,
        .stop_at_bad = o->stop_at_bad};

    return data_stream_new(&options, err);
}

/* What is given for one optimizer says nothing to another. */
static void warn_of_idle_options(const struct train_run *run)
{
    static const struct {
        const char *name;
        enum optim_kind of;
    } options[] = {{"momentum", OPTIM_SGD},
                   {"nesterov", OPTIM_SGD},
                   {"beta1", OPTIM_ADAM},
                   {"beta2", OPTIM_ADAM},
                   {"eps", OPTIM_ADAM}};
    const struct train_options *const o = run->options;

    for (size_t i = 0; run->comm->rank == 0 && i < sizeof options / sizeof options[0]; i++)
        if (options[i].of != o->optimizer.kind &&
            option_source(&o->set, options[i].name) > OPTION_CHECKPOINT)
            log_warn("--%s has no effect with --optimizer %s", options[i].name,
                     train_options_optimizer(o));
}

/* What was taken, and from where: on stderr for people, as an event for programs. */
static void tell_options(struct train_run *run)
{
    const struct option_set *const set = &run->options->set;
    json_t *const options = json_object();

    if (run->comm->rank == 0)
        train_hyperparameters_warn(set);
    warn_of_idle_options(run);
    for (size_t i = 0; i < set->count; i++) {
        struct buf text = {0};

        train_options_resolved(run->options, i, &text);
        json_object_set_new(options, set->specs[i].name, json_string(buf_text(&text)));
        if (set->values[i].origin != NULL)
            log_info("--%s %s (from %s)", set->specs[i].name, set->values[i].text,
                     option_origin(set, i));
        buf_release(&text);
    }
    log_info("%s, %d classes, %d ranks x %d threads, %d micro-batches of up to %d images a step",
             run->options->model, run->dataset.train.classes, run->comm->size,
             run->options->threads, run->options->lanes, run->options->micro_batch);
    report_metrics_write(&run->metrics, "run",
                         json_pack("{s:i, s:i, s:s, s:I, s:I, s:o}", "ranks", run->comm->size,
                                   "threads", run->options->threads, "numerics", nn_numerics_id(),
                                   "train_images", (json_int_t)run->dataset.train.count,
                                   "val_images", (json_int_t)run->dataset.val.count, "options",
                                   options));
    report_metrics_write(&run->metrics, "generation",
                         json_pack("{s:i, s:i, s:I, s:b}", "generation", run->position.generation,
                                   "epoch", (int)run->position.epoch, "step",
                                   (json_int_t)run->position.step, "resumed", (int)run->resumed));
}

static int check_ranks(struct train_run *run, struct err *err)
{
    if (run->resumed) {
        if (run->position.epoch >= (uint32_t)run->options->epochs && run->comm->rank == 0)
            log_warn("the checkpoint is at the end of epoch %u, and --epochs is %d: nothing is "
                     "left to train",
                     run->position.epoch, run->options->epochs);
        if (run->comm->size > run->options->lanes && run->comm->rank == 0)
            log_warn("%d ranks, but a step has %d micro-batches: %d ranks have nothing to do",
                     run->comm->size, run->options->lanes, run->comm->size - run->options->lanes);
        return 0;
    }
    run->agreed = true; /* every rank finds the same */
    if (train_options_check_ranks(run->options, run->comm->size, err) < 0)
        return -1;
    run->agreed = false;
    return 0;
}

static int check_steps(struct train_run *run, struct err *err)
{
    if (data_order_steps(&run->order) > 0)
        return 0;
    run->agreed = true;
    return err_set(err, ERR_USAGE,
                   "--last-batch drop leaves nothing of %zu pictures with --global-batch %d",
                   run->dataset.train.count, run->options->global_batch);
}

/* What only a validation can tell. */
static int check_validation(struct train_run *run, struct err *err)
{
    if (run->dataset.has_val)
        return 0;
    if (run->options->keep_best && run->comm->rank == 0)
        log_warn(
            "--keep-model best: there are no validation pictures to tell which is the best, so "
            "the last weights are kept");
    if (!run->options->early_stopping.on)
        return 0;
    run->agreed = true;
    return err_set(err, ERR_USAGE,
                   "--early-stopping needs validation pictures: give --val, or --val-split");
}

/* Rank 0: what --class-weights names is looked at where it is, once; a checkpoint's option is
 * compared with it. */
static int read_class_weights(struct train_run *run, struct err *err)
{
    const int rc = run->comm->rank == 0 ? train_options_read_class_weights(run->options, err) : 0;

    return train_share_outcome(run, rc, err);
}

/* Rank 0's text is everybody's. */
static int weigh_classes(struct train_run *run, struct err *err)
{
    struct train_options *const o = run->options;
    struct buf text = {0};
    int rc = 0;

    if (run->comm->rank == 0)
        buf_printf(&text, "%s", o->class_weights);
    rc = train_share_bytes(run, &text, err);
    if (rc == 0 && run->comm->rank != 0) {
        free(o->class_weights);
        if ((o->class_weights = strdup(buf_text(&text))) == NULL)
            abort();
    }
    buf_release(&text);
    if (rc < 0)
        return -1;
    rc = train_class_weights_init(&run->class_weights, o->class_weights, &run->dataset.train, err);
    run->agreed = rc < 0; /* every rank finds the same */
    return rc;
}

/* The weights of step 0; a checkpoint's come later. */
static int begin_weights(struct train_run *run, struct err *err)
{
    const struct train_options *const o = run->options;
    int rc = 0;

    if (run->resumed)
        return 0;
    if (o->pretrained == NULL) {
        if (o->tuning.frozen > 0 && run->comm->rank == 0)
            log_warn("--train-layers %s without --pretrained: the frozen layers stay as the seed "
                     "drew them",
                     option_text(&o->set, "train-layers"));
        nn_model_init(run->model, o->seed);
        return 0;
    }
    if (run->comm->rank == 0)
        rc = train_pretrained_load(run->model, o->pretrained, o->pretrained_head, o->seed, err);
    if (train_share_outcome(run, rc, err) < 0)
        return -1;
    return train_share_model(run, err);
}

static int load(struct train_run *run, struct safetensors *file, char **path, struct err *err)
{
    if (agree_on_numerics(run, err) < 0)
        return -1;
    if (train_share_outcome(run, run->comm->rank == 0 ? take_lease(run, err) : 0, err) < 0)
        return -1;
    if (read_class_weights(run, err) < 0 || train_resume_find(run, file, path, err) < 0 ||
        check_ranks(run, err) < 0)
        return -1;
    choose_threads(run); /* after a checkpoint's options are in: they are filled in anew */
    if (open_dataset(run, err) < 0 || train_resume_check_data(run, file, *path, err) < 0)
        return -1;
    if (plan(run, err) < 0 || check_validation(run, err) < 0 || weigh_classes(run, err) < 0 ||
        check_steps(run, err) < 0 || make_model(run, err) < 0 || begin_weights(run, err) < 0 ||
        open_outputs(run, err) < 0)
        return -1;
    if (run->resumed && train_resume_load(run, file, path, err) < 0)
        return -1;
    if (!run->resumed)
        run->position.best_accuracy = -1;
    if (train_step_init(run, err) < 0 || train_audit_begin(run, err) < 0)
        return -1;
    if (train_picture_cache_open(run, err) < 0 ||
        train_feature_cache_new(&run->feature_cache, run, err) < 0)
        return -1;
    if (run->feature_cache == NULL && (run->stream = open_stream(run, err)) == NULL)
        return -1;
    return 0;
}

/* The launcher holds signals back until every rank can take them: it waits for this file. */
static int tell_ready(struct comm *comm, struct err *err)
{
    if (comm_barrier(comm, err) < 0)
        return -1;
    if (comm->rank == 0)
        train_mark_make("CONVOY_READY");
    return 0;
}

int train_prepare(struct train_run *run, struct err *err)
{
    struct safetensors file = {0};
    char *path = NULL;
    int rc = -1;

    if (tell_ready(run->comm, err) < 0)
        return -1;
    train_stop_after(run->options->max_run_s);
    if (load(run, &file, &path, err) == 0) {
        tell_options(run);
        rc = 0;
    }
    safetensors_close(&file);
    free(path);
    return rc;
}

/* Full steps only: a shorter one would be another measure. */
static int open_bench_dataset(struct train_run *run, struct err *err)
{
    const struct train_options *const o = run->options;

    if (open_dataset(run, err) < 0 || plan(run, err) < 0)
        return -1;
    run->order.drop_last = true;
    if (data_order_steps(&run->order) > 0)
        return 0;
    run->agreed = true;
    return err_set(err, ERR_USAGE,
                   "%zu training pictures do not fill one step of %d (--global-batch)",
                   run->dataset.train.count, o->global_batch);
}

int train_prepare_bench(struct train_run *run, struct err *err)
{
    const struct train_options *const o = run->options;

    if (tell_ready(run->comm, err) < 0 || agree_on_numerics(run, err) < 0 ||
        check_ranks(run, err) < 0)
        return -1;
    choose_threads(run);
    if (o->bench_data && open_bench_dataset(run, err) < 0)
        return -1;
    if (make_model(run, err) < 0)
        return -1;
    nn_model_init(run->model, o->seed);
    run->lanes = comm_tree_share((uint32_t)o->lanes, run->comm->rank, run->comm->size);
    if (o->bench_data && train_picture_cache_open(run, err) < 0)
        return -1;
    if (o->bench_data && (run->stream = open_stream(run, err)) == NULL)
        return -1;
    return 0;
}

int train_prepare_evaluation(struct train_run *run, struct err *err)
{
    if (tell_ready(run->comm, err) < 0 || agree_on_numerics(run, err) < 0)
        return -1;
    choose_threads(run);
    return 0;
}
