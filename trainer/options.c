#include "trainer/options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/uri.h"
#include "trainer/channels.h"
#include "trainer/class_weights.h"
#include "trainer/data/picture/transform_text.h"
#include "trainer/nn/model.h"
#include "trainer/option_table.h"
#include "trainer/threads.h"
#include "trainer/vector_sizes.h"

void train_options_init(struct train_options *options)
{
    memset(options, 0, sizeof *options);
    option_set_init(&options->set, train_option_table, train_option_count);
}

void train_options_release(struct train_options *options)
{
    option_set_release(&options->set);
    free(options->class_weights);
    memset(options, 0, sizeof *options);
}

void train_options_help(FILE *out)
{
    struct option_set set = {0};

    option_set_init(&set, train_option_table, train_option_count);
    option_set_help(&set, out);
    option_set_release(&set);
}

/* How errors call an option: as the place that gave its value does. The word is "--NAME". */
static const char *called(const struct train_options *o, const char *word)
{
    for (size_t i = 0; i < o->set.count; i++)
        if (strcmp(o->set.specs[i].name, word + 2) == 0 &&
            o->set.values[i].source == OPTION_ENVIRONMENT)
            return option_origin(&o->set, i);
    return word;
}

/* "30s", "5m", "8h" to seconds; false if it is none. */
static bool parse_duration(const char *text, double *seconds)
{
    char *end = NULL;
    const double value = strtod(text, &end);
    const char *const unit = end;
    const double factor = strcmp(unit, "s") == 0   ? 1
                          : strcmp(unit, "m") == 0 ? 60
                          : strcmp(unit, "h") == 0 ? 3600
                                                   : 0;

    *seconds = value * factor;
    return end != text && factor > 0 && value > 0 && isfinite(*seconds) && *seconds <= 1e9;
}

static int fill_checkpoint_every(struct train_options *o, struct err *err)
{
    const char *const text = option_text(&o->set, "checkpoint-every");
    char *end = NULL;
    const double steps = strtod(text, &end);

    o->checkpoint_steps = 0;
    o->checkpoint_s = 0;
    if (parse_duration(text, &o->checkpoint_s))
        return 0;
    o->checkpoint_s = 0;
    if (end == text || *end != '\0' || steps < 1 || steps > 9e15 || steps != floor(steps))
        return err_set(err, ERR_USAGE,
                       "%s: '%s' is neither a number of steps nor a time like 30s, 5m or 1h",
                       called(o, "--checkpoint-every"), text);
    o->checkpoint_steps = (uint64_t)steps;
    return 0;
}

/* A time that an option may give; else 0. word: "--max-run". */
static int fill_duration(const struct train_options *o, const char *word, double *seconds,
                         struct err *err)
{
    const char *const text = option_text(&o->set, word + 2);

    *seconds = 0;
    if (text != NULL && !parse_duration(text, seconds))
        return err_set(err, ERR_USAGE, "%s: '%s' is no time like 90s, 30m or 8h", called(o, word),
                       text);
    return 0;
}

static int fill_durations(struct train_options *o, struct err *err)
{
    if (fill_checkpoint_every(o, err) < 0 ||
        fill_duration(o, "--max-run", &o->max_run_s, err) < 0 ||
        fill_duration(o, "--step-timeout", &o->step_timeout_s, err) < 0)
        return -1;
    if (o->step_timeout_s > 0 && o->step_timeout_s < 1)
        return err_set(err, ERR_USAGE, "%s: at least 1s", called(o, "--step-timeout"));
    return 0;
}

/* "30,60,80" or "[30, 60]", ascending. */
static int fill_lr_steps(struct train_options *o, struct err *err)
{
    const char *const text = option_text(&o->set, "lr-steps"), *at = text + (*text == '[');
    bool good = true;

    o->lr_step_count = 0;
    while (good && *at != '\0' && *at != ']') {
        char *end = NULL;
        const double epoch = strtod(at, &end);

        good = end != at && epoch > 0 && epoch <= 1e6 &&
               o->lr_step_count < OPTIM_SCHEDULE_STEPS_MAX &&
               (o->lr_step_count == 0 || epoch > o->lr_steps[o->lr_step_count - 1]);
        if (good)
            o->lr_steps[o->lr_step_count++] = epoch;
        at = end + strspn(end, ", ");
    }
    if (good && o->lr_step_count > 0 && strcmp(at, *text == '[' ? "]" : "") == 0)
        return 0;
    return err_set(err, ERR_USAGE, "%s: '%s' is no list of 1 to %d ascending epochs like 30,60,80",
                   called(o, "--lr-steps"), text, OPTIM_SCHEDULE_STEPS_MAX);
}

/* Local paths, and s3://BUCKET[/PREFIX] where there is one: a bucket's root is a prefix too. The
 * report is appended to line by line, which S3 cannot do. */
static int check_paths(const struct train_options *o, struct err *err)
{
    static const struct {
        const char *name;
        bool s3;
    } paths[] = {{"data", true},       {"train", true},      {"val", true},       {"test", true},
                 {"pretrained", true}, {"checkpoint", true}, {"model-dir", true}, {"report", false},
                 {"trace", false},     {"audit", false},     {"cache", false},    {"resume", true}};

    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        const char *text = option_text(&o->set, paths[i].name);
        struct uri uri = {0};
        int rc = 0;

        if (text == NULL)
            continue;
        rc = uri_parse(&uri, text, err);
        if (rc == 0 && uri.scheme == URI_S3 && !paths[i].s3)
            rc = err_set(err, ERR_USAGE, "'%s': only a local path will do here", text);
        uri_release(&uri);
        if (rc < 0)
            return err_wrap(err, "--%s", paths[i].name);
    }
    return 0;
}

/* A path option's text; "file://" is taken off. What the environment names as a channel gives way
 * to
 * --data on the command line. */
static const char *path_option(const struct train_options *o, const char *name)
{
    const bool channel =
        strcmp(name, "train") == 0 || strcmp(name, "val") == 0 || strcmp(name, "test") == 0;
    const char *const text = option_text(&o->set, name);

    if (channel && option_source(&o->set, name) < option_source(&o->set, "data"))
        return NULL;
    return text != NULL && strncmp(text, "file://", 7) == 0 ? text + 7 : text;
}

static void fill_texts(struct train_options *o)
{
    o->data = path_option(o, "data");
    o->train = path_option(o, "train");
    o->val = path_option(o, "val");
    o->test = path_option(o, "test");
    o->pretrained = path_option(o, "pretrained");
    o->checkpoint = path_option(o, "checkpoint");
    o->resume = path_option(o, "resume");
    o->model_dir = path_option(o, "model-dir");
    o->report = path_option(o, "report");
    o->trace = path_option(o, "trace");
    o->audit = path_option(o, "audit");
    o->cache = path_option(o, "cache");
    o->model = option_text(&o->set, "model");
    o->lr_schedule = option_text(&o->set, "lr-schedule");
}

static enum train_pretrained_head pretrained_head(const struct option_set *set)
{
    const char *const text = option_text(set, "pretrained-head");

    return strcmp(text, "new") == 0    ? TRAIN_HEAD_NEW
           : strcmp(text, "keep") == 0 ? TRAIN_HEAD_KEEP
                                       : TRAIN_HEAD_AUTO;
}

static int integer_or(const struct option_set *set, const char *name, int otherwise)
{
    return option_text(set, name) != NULL ? (int)option_integer(set, name) : otherwise;
}

static int fill_batches(struct train_options *o, struct err *err)
{
    o->global_batch = (int)option_integer(&o->set, "global-batch");
    o->micro_batch =
        integer_or(&o->set, "micro-batch", o->global_batch < 32 ? o->global_batch : 32);
    if (o->micro_batch > o->global_batch)
        return err_set(err, ERR_USAGE, "--micro-batch %d is larger than --global-batch %d",
                       o->micro_batch, o->global_batch);
    o->lanes = (o->global_batch + o->micro_batch - 1) / o->micro_batch;
    return 0;
}

/* A rate that is not given: for stochastic gradient descent Goyal et al.'s, which grows with the
 * batch; for Adam its authors' and PyTorch's. The decays are PyTorch's, but that of sgd, which is
 * the built-in algorithm's. */
static const struct {
    const char *name;
    enum optim_kind kind;
    bool nesterov, decoupled;
    double lr_of_256, lr, weight_decay;
} optimizers[] = {
    {"sgd", OPTIM_SGD, false, false, 0.1, 0, 1e-4},
    {"nag", OPTIM_SGD, true, false, 0.1, 0, 1e-4},
    {"adam", OPTIM_ADAM, false, false, 0, 1e-3, 0},
    {"adamw", OPTIM_ADAM, false, true, 0, 1e-3, 0.01},
};
#define OPTIMIZERS (sizeof optimizers / sizeof optimizers[0])

/* In any case of letters, as the built-in algorithm takes it. OPTIMIZERS: there is none. */
static size_t optimizer_of(const struct train_options *o)
{
    size_t i = 0;

    while (i < OPTIMIZERS && strcasecmp(optimizers[i].name, option_text(&o->set, "optimizer")) != 0)
        i++;
    return i;
}

const char *train_options_optimizer(const struct train_options *o)
{
    return optimizers[optimizer_of(o)].name;
}

static double number_or(const struct option_set *set, const char *name, double otherwise)
{
    return option_text(set, name) != NULL ? option_number(set, name) : otherwise;
}

static int fill_optimizer(struct train_options *o, struct err *err)
{
    const struct option_set *const set = &o->set;
    const size_t i = optimizer_of(o);
    double decay = 0;

    if (i == OPTIMIZERS)
        return err_set(err, ERR_USAGE, "%s: '%s' is not one of sgd, nag, adam, adamw",
                       called(o, "--optimizer"), option_text(set, "optimizer"));
    decay = number_or(set, "weight-decay", optimizers[i].weight_decay);
    o->lr =
        number_or(set, "lr", optimizers[i].lr + optimizers[i].lr_of_256 * o->global_batch / 256);
    o->optimizer = (struct optim_optimizer){
        .kind = optimizers[i].kind,
        .sgd = {.momentum = (float)option_number(set, "momentum"),
                .weight_decay = (float)decay,
                .nesterov = optimizers[i].nesterov || option_flag(set, "nesterov")},
        .adam = {.beta1 = option_number(set, "beta1"),
                 .beta2 = option_number(set, "beta2"),
                 .eps = option_number(set, "eps"),
                 .weight_decay = decay,
                 .decoupled = optimizers[i].decoupled}};
    return 0;
}

static int fill_model(struct train_options *o, struct err *err)
{
    const int size = nn_model_default_image_size(o->model);

    if (size == 0)
        return err_set(err, ERR_USAGE, "%s: '%s' is not one of %s", called(o, "--model"), o->model,
                       nn_model_names());
    o->image_size = integer_or(&o->set, "image-size", size);
    return 0;
}

static int fill_tuning(struct train_options *o, struct err *err)
{
    const struct option_set *const set = &o->set;

    if (nn_tuning_parse_layers(&o->tuning, o->model, option_text(set, "train-layers"), err) < 0)
        return err_wrap(err, "%s", called(o, "--train-layers"));
    if (nn_tuning_parse_head(&o->tuning, o->model, option_text(set, "head"), err) < 0)
        return err_wrap(err, "%s", called(o, "--head"));
    o->tuning.frozen_batch = strcmp(option_text(set, "batch-norm"), "batch") == 0;
    return 0;
}

/* off or on; the built-in algorithm has false and true. */
static int fill_early_stopping(struct train_options *o, struct err *err)
{
    const char *const text = option_text(&o->set, "early-stopping");
    bool on = strcasecmp(text, "on") == 0;

    if (!on && strcasecmp(text, "off") != 0 && !option_parse_flag(text, &on))
        return err_set(err, ERR_USAGE, "%s: '%s' is neither off nor on",
                       called(o, "--early-stopping"), text);
    o->early_stopping = (struct train_early_stopping){
        .on = on,
        .patience = (uint32_t)option_integer(&o->set, "early-stopping-patience"),
        .min_epochs = (uint32_t)option_integer(&o->set, "early-stopping-min-epochs"),
        .tolerance = option_number(&o->set, "early-stopping-tolerance")};
    return 0;
}

int train_options_read_class_weights(struct train_options *o, struct err *err)
{
    char *const text = train_class_weights_text(option_text(&o->set, "class-weights"), err);

    if (text == NULL)
        return -1;
    free(o->class_weights);
    o->class_weights = text;
    return 0;
}

/* A file is on rank 0's host: it is read when there are ranks. */
static int fill_class_weights(struct train_options *o, struct err *err)
{
    if (train_class_weights_is_file(option_text(&o->set, "class-weights")))
        return 0;
    return train_options_read_class_weights(o, err);
}

/* Training without augmentation sees pictures as evaluation does. */
static int fill_transforms(struct train_options *o, struct err *err)
{
    const bool small = nn_model_default_image_size(o->model) == 32;
    const char *const kind = option_text(&o->set, "eval-transform");
    struct data_transform *const evaluation = &o->evaluation;

    *evaluation = (struct data_transform){.size = o->image_size, .seed = o->seed};
    data_transform_set_eval(evaluation, kind != NULL ? kind : small ? "resize" : "center");
    if (data_transform_set_normalize(evaluation, option_text(&o->set, "normalize"), err) < 0)
        return err_wrap(err, "%s", called(o, "--normalize"));
    o->training = *evaluation;
    o->training.views = (uint32_t)option_integer(&o->set, "augment-views");
    if (strcmp(option_text(&o->set, "augment"), "standard") == 0)
        o->training.kind = small ? DATA_TRANSFORM_PAD_CROP : DATA_TRANSFORM_RESIZED_CROP;
    else if (o->training.views > 0)
        return err_set(err, ERR_USAGE,
                       "%s: there is one view of each picture only, with --augment none",
                       called(o, "--augment-views"));
    return 0;
}

/* Names as a list has them, in any case. */
static const struct {
    const char *name;
    unsigned which;
} host_data_names[] = {{"train", TRAIN_HOST_TRAIN},    {"val", TRAIN_HOST_VAL},
                       {"test", TRAIN_HOST_TEST},      {"training", TRAIN_HOST_TRAIN},
                       {"validation", TRAIN_HOST_VAL}, {"valid", TRAIN_HOST_VAL}};
#define HOST_DATA_NAMES (sizeof host_data_names / sizeof host_data_names[0])
#define HOST_DATA_KINDS 3 /* the first of them, as they are written */

/* 0: none of them. */
static unsigned host_data_name(const char *name, size_t bytes)
{
    for (size_t i = 0; i < HOST_DATA_NAMES; i++)
        if (strlen(host_data_names[i].name) == bytes &&
            strncasecmp(host_data_names[i].name, name, bytes) == 0)
            return host_data_names[i].which;
    return 0;
}

/* Paths that differ by slashes at their end are one. */
static bool same_place(const char *a, const char *b)
{
    size_t bytes = strlen(a), others = b != NULL ? strlen(b) : 0;

    while (bytes > 1 && a[bytes - 1] == '/')
        bytes--;
    while (others > 1 && b[others - 1] == '/')
        others--;
    return bytes == others && strncmp(a, b, bytes) == 0;
}

/* The pictures that a channel holds, by what the options read; 0: none. */
static unsigned read_from(const struct train_options *o, const char *place)
{
    return (same_place(place, o->train) || same_place(place, o->data) ? TRAIN_HOST_TRAIN : 0) |
           (same_place(place, o->val) ? TRAIN_HOST_VAL : 0) |
           (same_place(place, o->test) ? TRAIN_HOST_TEST : 0);
}

/* The launcher names channels: one of another name is what the options read from it, or not read as
 * pictures. A checkpoint from before names were written as ours has that of the channel that
 * trained (saved). */
static int read_host_data_name(const struct train_options *o, const char *name, bool saved,
                               unsigned *which, struct err *err)
{
    const size_t bytes = strcspn(name, ",");
    const char *const word = called(o, "--host-data");
    const bool channels = strncmp(word, "CONVOY_", strlen("CONVOY_")) == 0;
    const char *const place = channels ? train_channels_value(name, bytes) : NULL;

    *which = host_data_name(name, bytes);
    if (*which != 0)
        return 0;
    if (saved)
        *which = TRAIN_HOST_TRAIN;
    else if (place != NULL)
        *which = read_from(o, place);
    else
        return err_set(err, ERR_USAGE, "%s: '%.*s' is not train, val or test%s", word, (int)bytes,
                       name, channels ? ", and there is no channel of this name" : "");
    return 0;
}

/* *named: the first of the names that counts. */
static int read_host_data(const struct train_options *o, const char *text, bool saved,
                          unsigned *which, const char **named, struct err *err)
{
    unsigned one = 0;

    *which = 0;
    *named = NULL;
    for (const char *at = text; at != NULL && *at != '\0';) {
        if (read_host_data_name(o, at, saved, &one, err) < 0)
            return -1;
        if (one != 0 && *named == NULL)
            *named = at;
        *which |= one;
        at += strcspn(at, ",");
        at += *at == ',';
    }
    return 0;
}

static int fill_host_data(struct train_options *o, struct err *err)
{
    const bool saved = option_source(&o->set, "host-data") == OPTION_CHECKPOINT;
    const char *named = NULL;

    if (read_host_data(o, option_text(&o->set, "host-data"), saved, &o->host_data, &named, err) < 0)
        return -1;
    if (o->host_data == 0 || (o->host_data & TRAIN_HOST_TRAIN) != 0)
        return 0;
    return err_set(
        err, ERR_USAGE,
        "%s: each host has a share of its own of '%.*s' (on SageMaker S3DistributionType "
        "ShardedByS3Key), but all of the training pictures: make it FullyReplicated, or "
        "shard the training channel too",
        called(o, "--host-data"), (int)strcspn(named, ","), named);
}

static void put_host_data(unsigned which, struct buf *out)
{
    const char *between = "";

    for (size_t i = 0; i < HOST_DATA_KINDS; i++)
        if ((which & host_data_names[i].which) != 0) {
            buf_printf(out, "%s%s", between, host_data_names[i].name);
            between = ",";
        }
}

int train_options_fill(struct train_options *o, struct err *err)
{
    const struct option_set *const set = &o->set;

    fill_texts(o);
    o->pretrained_head = pretrained_head(set);
    o->val_split = option_number(set, "val-split");
    o->epochs = (int)option_integer(set, "epochs");
    o->warmup_epochs = option_number(set, "warmup-epochs");
    o->clip_norm = option_number(set, "clip-norm");
    o->label_smoothing = option_number(set, "label-smoothing");
    o->lr_factor = option_number(set, "lr-factor");
    o->drop_last = strcmp(option_text(set, "last-batch"), "drop") == 0;
    o->stop_at_bad = strcmp(option_text(set, "bad-images"), "stop") == 0;
    o->seed = (uint64_t)option_integer(set, "seed");
    o->keep = (int)option_integer(set, "keep");
    o->keep_best = strcmp(option_text(set, "keep-model"), "best") == 0;
    o->max_steps = (uint64_t)option_integer(set, "max-steps");
    o->threads = integer_or(set, "threads", 0);
    o->prefetch_bytes = (uint64_t)option_integer(set, "prefetch-bytes");
    o->cache_bytes =
        option_text(set, "cache-bytes") != NULL ? (uint64_t)option_integer(set, "cache-bytes") : 0;
    o->feature_cache_bytes = (uint64_t)option_integer(set, "feature-cache");
    o->fetch_threads = (int)option_integer(set, "fetch-threads");
    o->wire = strcmp(option_text(set, "wire-dtype"), "bf16") == 0 ? COMM_WIRE_BF16 : COMM_WIRE_FP32;
    o->bucket_bytes = (size_t)option_integer(set, "bucket-bytes") & ~(size_t)3; /* whole floats */
    o->memory = option_flag(set, "memory");
    o->check_options = option_flag(set, "check-options");
    o->bench_steps = integer_or(set, "bench-steps", 0);
    o->bench_data = o->bench_steps > 0 && (option_source(set, "data") == OPTION_COMMAND_LINE ||
                                           option_source(set, "train") == OPTION_COMMAND_LINE);
    o->no_exchange = option_flag(set, "no-exchange");
    o->bench_comm = option_text(set, "bench-comm");
    o->bench_rounds = (int)option_integer(set, "bench-rounds");
    if (fill_model(o, err) < 0 || fill_tuning(o, err) < 0 || fill_transforms(o, err) < 0 ||
        fill_batches(o, err) < 0 || fill_optimizer(o, err) < 0 || fill_class_weights(o, err) < 0 ||
        fill_early_stopping(o, err) < 0 || fill_lr_steps(o, err) < 0 || fill_host_data(o, err) < 0)
        return -1;
    if (train_decode_threads_read(option_text(set, "decode-threads"), &o->decode_threads, err) < 0)
        return err_wrap(err, "%s", called(o, "--decode-threads"));
    return fill_durations(o, err);
}

/* A hyperparameter that nothing takes is most often a mistake in its name. */
static int check_unknown(const struct train_options *o, struct err *err)
{
    size_t at = 0;
    const char *const name = train_hyperparameters_unknown(&o->set, &at);

    if (name == NULL || !option_flag(&o->set, "strict"))
        return 0;
    return err_set(err, ERR_USAGE,
                   "%.*s in the environment is no hyperparameter that we know (--strict)",
                   (int)strcspn(name, "="), name);
}

/* The shorter side of a picture before evaluation crops it, as trainer/data/picture/transform.h
 * says. */
static int check_resize(const struct train_options *o, struct err *err)
{
    const bool center = o->evaluation.kind == DATA_TRANSFORM_CENTER;

    return train_hyperparameters_check_resize(center ? o->image_size * 256 / 224 : o->image_size,
                                              err);
}

static int check_data_given(const struct train_options *o, struct err *err)
{
    struct buf channels = {0};

    if (o->data != NULL || o->train != NULL || o->bench_steps > 0 || o->bench_comm != NULL ||
        o->memory)
        return 0;
    train_channels_names(&channels);
    err_set(err, ERR_USAGE,
            "no training pictures: give --data DIR or --train DIR, or a channel 'training'%s%.300s",
            channels.bytes > 0 ? "; the channels there are: " : " (SM_CHANNEL_TRAINING)",
            buf_text(&channels));
    buf_release(&channels);
    return -1;
}

/* Ranks that do not exchange their gradients learn as many networks as there are ranks. */
static int check_exchange(const struct train_options *o, struct err *err)
{
    if (!o->no_exchange || o->bench_steps > 0)
        return 0;
    return err_set(err, ERR_USAGE,
                   "%s is for measuring, with --bench-steps (convoy bench scaling gives both): a "
                   "training needs the exchange",
                   called(o, "--no-exchange"));
}

static int check_cache(const struct train_options *o, struct err *err)
{
    if (o->cache != NULL || option_text(&o->set, "cache-bytes") == NULL)
        return 0;
    return err_set(err, ERR_USAGE, "%s: there is no cache without --cache DIR",
                   called(o, "--cache-bytes"));
}

static int check_bench_comm(const struct train_options *o, struct err *err)
{
    struct train_vector_sizes sizes;

    if (o->bench_comm == NULL)
        return 0;
    if (o->bench_steps > 0)
        return err_set(err, ERR_USAGE, "%s and %s measure different things: give one of them",
                       called(o, "--bench-comm"), called(o, "--bench-steps"));
    if (train_vector_sizes_read(o->bench_comm, &sizes, err) < 0)
        return err_wrap(err, "%s", called(o, "--bench-comm"));
    return 0;
}

int train_options_read(struct train_options *o, int argc, char *const *argv, struct err *err)
{
    if (option_set_parse(&o->set, argc, argv, err) < 0 ||
        option_set_environment(&o->set, TRAIN_HP_PREFIX, err) < 0 ||
        train_hyperparameters_read(&o->set, &o->expected, err) < 0 ||
        train_channels_assign(&o->set, err) < 0)
        return -1;
    if (check_unknown(o, err) < 0 || check_paths(o, err) < 0 || train_options_fill(o, err) < 0 ||
        check_exchange(o, err) < 0 || check_bench_comm(o, err) < 0 || check_cache(o, err) < 0 ||
        check_resize(o, err) < 0 || check_data_given(o, err) < 0)
        return -1;
    if (o->val_split > 0 && o->val != NULL)
        return err_set(err, ERR_USAGE, "--val-split and --val exclude each other");
    return 0;
}

void train_options_resolved(const struct train_options *o, size_t i, struct buf *out)
{
    const char *const name = train_option_table[i].name, *const text = o->set.values[i].text;

    if (strcmp(name, "optimizer") == 0)
        buf_printf(out, "%s", train_options_optimizer(o));
    else if (strcmp(name, "early-stopping") == 0)
        buf_printf(out, "%s", o->early_stopping.on ? "on" : "off");
    else if (strcmp(name, "class-weights") == 0 && o->class_weights != NULL)
        buf_printf(out, "%s", o->class_weights);
    else if (strcmp(name, "host-data") == 0)
        put_host_data(o->host_data, out);
    else if (text != NULL)
        buf_printf(out, "%s", text);
    else if (strcmp(name, "image-size") == 0)
        buf_printf(out, "%d", o->image_size);
    else if (strcmp(name, "micro-batch") == 0)
        buf_printf(out, "%d", o->micro_batch);
    else if (strcmp(name, "lr") == 0)
        buf_printf(out, "%.17g", o->lr);
    else if (strcmp(name, "weight-decay") == 0)
        buf_printf(out, "%.17g", o->optimizer.adam.weight_decay);
    else if (strcmp(name, "eval-transform") == 0)
        buf_printf(out, "%s", data_transform_eval_name(o->evaluation.kind));
}

/* Numbers need not be written the same: "1e-4" and "0.0001". */
static bool same_value(const char *a, const char *b)
{
    char *a_end = NULL, *b_end = NULL;
    const double x = strtod(a, &a_end), y = strtod(b, &b_end);

    if (a_end != a && *a_end == '\0' && b_end != b && *b_end == '\0')
        return x == y;
    return strcmp(a, b) == 0;
}

bool train_options_means(const struct train_options *o, size_t i, const char *text)
{
    const char *named = NULL;
    struct buf now = {0};
    unsigned which = 0;
    bool same = false;

    if (strcmp(train_option_table[i].name, "host-data") == 0)
        return read_host_data(o, text, true, &which, &named, NULL) == 0 && which == o->host_data;
    train_options_resolved(o, i, &now);
    same = same_value(buf_text(&now), text);
    buf_release(&now);
    return same;
}

int train_options_check_ranks(const struct train_options *o, int ranks, struct err *err)
{
    if (ranks <= o->lanes)
        return 0;
    if (ranks > o->global_batch)
        return err_set(err, ERR_USAGE,
                       "%d ranks, but --global-batch has %d images: a rank needs at least one",
                       ranks, o->global_batch);
    /* ceil(B / b) >= P exactly when b < B / (P - 1) */
    return err_set(err, ERR_USAGE,
                   "%d ranks, but a step has %d micro-batches (--global-batch %d, --micro-batch "
                   "%d): give --micro-batch %d or "
                   "less, or fewer ranks",
                   ranks, o->lanes, o->global_batch, o->micro_batch,
                   (o->global_batch + ranks - 2) / (ranks - 1) - 1);
}
