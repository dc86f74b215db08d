/*
 * trainer/options.h -- the options of a training run: the table, and the values in the types that
 * the run needs.
 *
 * Values come from the command line, else the environment (SM_HP_*, SM_CHANNEL_*, SM_MODEL_DIR,
 * SM_OUTPUT_DATA_DIR), else the checkpoint that the run resumes, else the default.
 */
#ifndef TRAIN_OPTIONS_H
#define TRAIN_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/option.h"
#include "comm/wire.h"
#include "trainer/data/picture/transform.h"
#include "trainer/early_stopping.h"
#include "trainer/hyperparameters.h"
#include "trainer/nn/tuning.h"
#include "trainer/optim/optimizer.h"
#include "trainer/optim/schedule.h"
#include "trainer/pretrained.h"

struct buf;
struct err;

/* Flags of the table's entries. */
#define TRAIN_OPTION_FIXED 1u /* part of what a run computes: a resumed run must not differ */
#define TRAIN_OPTION_SCHEDULE                                                                      \
    2u /* comes from the checkpoint too, but may be given anew: then said so */

enum { TRAIN_HOST_TRAIN = 1, TRAIN_HOST_VAL = 2, TRAIN_HOST_TEST = 4 };

struct train_options {
    struct option_set set; /* where the texts live */

    const char *data, *train, *val, *test; /* NULL: not given */
    double val_split;                      /* 0: none */
    unsigned host_data; /* TRAIN_HOST_...: of which each host has its own share */
    const char *model;
    const char *pretrained; /* NULL: none */
    enum train_pretrained_head pretrained_head;
    struct nn_tuning tuning;                    /* what is trained, and the head */
    struct data_transform training, evaluation; /* of pictures */
    int image_size, epochs, global_batch, micro_batch,
        lanes; /* lanes V = ceil(global_batch / micro_batch) */
    double lr, warmup_epochs, clip_norm, label_smoothing, lr_factor; /* clip_norm 0: none */
    struct optim_optimizer optimizer;
    char *
        class_weights; /* as class_weights.h keeps it; ours. NULL: in a file that is not read yet */
    bool drop_last;
    bool stop_at_bad; /* picture, instead of leaving it out */
    const char *lr_schedule;
    double lr_steps[OPTIM_SCHEDULE_STEPS_MAX]; /* epochs, ascending */
    int lr_step_count;
    uint64_t seed;

    const char *checkpoint;    /* NULL: none */
    uint64_t checkpoint_steps; /* save every so many steps; 0: by time */
    double checkpoint_s;       /* save every so many seconds; 0: by steps */
    int keep;
    const char *resume; /* "auto", "never" or a path */
    const char *model_dir, *report;
    const char *trace;  /* NULL: none */
    const char *audit;  /* NULL: none */
    bool keep_best;     /* in model_dir; else the last */
    uint64_t max_steps; /* 0: no limit */
    struct train_early_stopping early_stopping;
    double max_run_s;      /* 0: no limit */
    double step_timeout_s; /* 0: by what a micro-batch takes */

    int threads, decode_threads;                  /* 0: to be chosen */
    uint64_t prefetch_bytes, feature_cache_bytes; /* the latter 0: none */
    int fetch_threads;
    const char *cache;    /* NULL: none */
    uint64_t cache_bytes; /* 0: what its disk can spare */
    size_t bucket_bytes;
    enum comm_wire wire;
    bool memory; /* print the plan and end */
    bool check_options;
    int bench_steps;                /* 0: train */
    bool bench_data;                /* with it: the pictures of data or train; else made up */
    bool no_exchange;               /* with it: the ranks side by side, each alone */
    const char *bench_comm;         /* sizes of sums to measure; NULL: train */
    int bench_rounds;               /* with it */
    struct train_expected expected; /* what hyperparameters say of the data */
};

/** The table and its defaults. Release accepts all-zero. */
void train_options_init(struct train_options *options);
void train_options_release(struct train_options *options);

/** Read command line (after the verb) and environment, check, and fill the fields. ERR_USAGE names
 * the option. */
int train_options_read(struct train_options *options, int argc, char *const *argv, struct err *err);

/** Fill the fields again from the set's texts (after values of a checkpoint were assigned). */
int train_options_fill(struct train_options *options, struct err *err);

/** Read class_weights, out of a file where --class-weights names one. ERR_USAGE, ERR_INPUT. */
int train_options_read_class_weights(struct train_options *options, struct err *err);

/** The value of entry i as it is kept in checkpoints and config.json ("auto" values resolved),
 * appended to out. */
void train_options_resolved(const struct train_options *options, size_t i, struct buf *out);
/** Whether text, as it is kept, says of entry i what these options do; it need not be written the
 * same. */
bool train_options_means(const struct train_options *options, size_t i, const char *text);

/** All of --help for `train`. */
void train_options_help(FILE *out);

/** The optimizer as --optimizer names it. */
const char *train_options_optimizer(const struct train_options *options);

/** ERR_USAGE, naming the largest micro-batch that would do, if there are more ranks than
 * micro-batches. */
int train_options_check_ranks(const struct train_options *options, int ranks, struct err *err);

#endif
