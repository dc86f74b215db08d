/*
 * trainer/run.h -- one training run: all that its parts share, and the parts' functions.
 *
 * The way of a step: train_run() -> train_step() -> nn_model_forward(), nn_model_backward() per
 * micro-batch -> comm_exchange_ready() as gradients become final -> in the next step's forward
 * train_update_from() -> comm_exchange_wait(), optim_optimizer_step(), layer by layer.
 */
#ifndef TRAIN_RUN_H
#define TRAIN_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "comm/comm.h"
#include "comm/tree.h"
#include "trainer/audit.h"
#include "trainer/best.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/class_weights.h"
#include "trainer/data/index/order.h"
#include "trainer/dataset.h"
#include "trainer/nn/model.h"
#include "trainer/noted.h"
#include "trainer/optim/schedule.h"
#include "trainer/options.h"
#include "trainer/pace.h"
#include "trainer/report/lines.h"
#include "trainer/report/metrics.h"
#include "trainer/report/progress.h"
#include "trainer/trace.h"

struct comm_exchange;
struct data_cache;
struct data_batch;
struct data_stream;
struct buf;
struct err;
struct lease;
struct train_agreement;
struct train_tally;

/* Where a run stands: what a checkpoint holds besides tensors. */
struct train_position {
    uint64_t step;               /* optimizer steps done */
    uint32_t epoch;              /* the epoch in work, from 0 */
    uint64_t epoch_step;         /* steps of it that are done */
    uint64_t samples;            /* images trained, without those left out */
    struct nn_score epoch_score; /* of the steps done in this epoch */
    double
        epoch_weight; /* sum of their labels' weights: images, where all classes count the same */
    double epoch_s;   /* seconds spent on them */
    int generation;   /* 1 for the first launch */
    unsigned char launch[AUDIT_LAUNCH_BYTES]; /* a random id of the launch that trained the last
                                                 step; zeros: none, or not known */
    double best_accuracy;                     /* of validation; below 0: none yet */
    uint32_t best_epoch;
    uint64_t best_step;      /* steps done then */
    uint32_t improved_epoch; /* the last that improved as early stopping sees it */
};

/* Where a rank's time went. */
struct train_times {
    double input_s, compute_s; /* waiting for pictures; network */
    double ranks_s;            /* waiting for other ranks' answers: for the slowest, and the wire */
    double exchange_s;         /* waiting for sums that are not there yet */
};

/* A step whose sums are on their way: its new weights are made as the next forward asks for them.
 */
struct train_update {
    bool pending;
    uint64_t t;      /* the step's number, from 1 */
    uint32_t leaves; /* with statistics */
    double lr;
    size_t from;           /* the weights [from, trained) are new */
    const float *gradient; /* the sum of all leaves, or what clipping made of it; NULL: not yet */
    float *clipped;        /* (trained), with --clip-norm */
    float *averages;       /* (measured) */
    double waited_s;       /* for sums, since the beginning */
};

struct train_run {
    struct train_options *options;
    struct comm *comm;
    struct train_dataset dataset;
    struct data_order order;
    struct data_order_part *parts; /* (hosts) with --host-data; NULL: none */
    struct train_class_weights class_weights;
    struct optim_schedule schedule;
    struct nn_model *model;
    struct optim_state state; /* the optimizer's, of the weights that are trained */
    struct train_best best;   /* rank 0's, with --keep-model best */
    struct train_position position;
    bool resumed;
    bool prepared;    /* all is there: a run that ends has something to tell */
    bool ended_early; /* no epoch improved for long enough */

    struct data_cache *cache;   /* of S3's pictures; NULL: none */
    struct data_stream *stream; /* NULL with a feature cache */
    struct train_feature_cache *feature_cache;
    const struct data_batch *same_batch; /* not NULL: every micro-batch is made of these pictures,
                                            and there is no stream */
    uint64_t memory_left;                /* of this host, by the plan of its ranks */
    struct train_times times;            /* of all steps of this rank */
    struct train_pace pace;              /* of the slowest rank's micro-batches */
    double *step_busy_s, *epoch_busy_s;  /* (ranks) each rank's input and compute */
    struct comm_exchange *exchange;
    struct train_update update;
    struct comm_leaves lanes;        /* this rank's */
    float *statistics;               /* (measured) of the micro-batch in work */
    struct train_agreement *answers; /* (ranks) what step.c's ranks told each other last */
    struct train_noted truncated;    /* this rank's: data ended early, decoded as far as they go */
    struct train_noted left_out;     /* this rank's: could not be decoded at all */
    struct lease *lease; /* rank 0's, of a checkpoint prefix in S3; NULL: a folder, or none */
    struct report_metrics metrics;
    struct report_progress progress;
    struct train_trace trace;
    struct train_audit audit;
    struct buf worst;    /* rank 0's: lines of the classes known least */
    double began_s;      /* when this process began */
    double saved_s;      /* when the last save ended or failed */
    uint64_t saved_step; /* what it holds */
    bool saved;          /* whether there is one */
    bool save_failed;    /* the last try */
    bool agreed; /* the error at hand is known to every rank: rank 0 tells it, nobody is waiting */
};

/**
 * Train as the options say, from the newest checkpoint or from the start, to the end or until asked
 * to stop. Collective. Results go to stdout, the model folder, the checkpoint folder and the
 * report.
 *
 * Returns 0 at the end; -1 with err: ERR_STOPPED when asked to stop (the last whole step is
 * committed, where a folder for it is given; with CONVOY_MODEL_ON_STOP=1 in the environment the
 * model of that step is written too, once a step was trained). run->agreed tells whether all ranks
 * returned with the same error.
 */
int train_run(struct train_options *options, struct comm *comm, bool *agreed, struct err *err);

/* --- parts (each collective unless said otherwise) --- */

/* Micro-batches decoded ahead: of training, and of an evaluation beside it. */
#define TRAIN_BATCHES_AHEAD            3
#define TRAIN_BATCHES_AHEAD_EVALUATION 2

/* How --prefetch-bytes falls to the two streams that a rank has during an evaluation. */
#define TRAIN_PREFETCH_EVALUATION 4 /* a 4th part; the rest is the training stream's */

/** share.c: hand rank 0's outcome to every rank: the same return value and err everywhere, and
 * run->agreed when it is a failure. */
int train_share_outcome(struct train_run *run, int rc, struct err *err);

/** share.c: where some rank failed and all know it: -1, run->agreed, and the error of the first
 * that did on every rank, with that rank's name unless it is rank 0's. */
int train_share_failure(struct train_run *run, int rc, struct err *err);

/** share.c: what is rank 0's becomes every rank's: bytes (the others' are empty before), floats,
 * weights and running statistics, run->dataset or the failure to read it (rc). */
int train_share_bytes(struct train_run *run, struct buf *bytes, struct err *err);
int train_share_floats(struct train_run *run, float *x, size_t count, struct err *err);
int train_share_model(struct train_run *run, struct err *err);
int train_share_dataset(struct train_run *run, int rc, struct err *err);

/** prepare.c: all that comes before the first step: agree on the arithmetic, choose a checkpoint,
 * read the indices, make model and buffers, fill them, say what was taken from where. */
int train_prepare(struct train_run *run, struct err *err);

/** prepare.c: what comes before an evaluation alone: the launcher is told that signals are handled,
 * the arithmetic is agreed on, threads are chosen. Nothing is read. */
int train_prepare_evaluation(struct train_run *run, struct err *err);

/** prepare.c: what train_prepare does for steps that are timed, but for train_step_init, and
 * nothing is written. With options->bench_data dataset, order (of full steps) and stream too; else
 * order and dataset.train.classes are the caller's. */
int train_prepare_bench(struct train_run *run, struct err *err);

/** resume.c. find: choose the checkpoint (rank 0 opens it, *path is heap; both are the caller's to
 * release), take its options and position on every rank; returns 1 and sets run->resumed, or 0
 * where there is nothing to resume. check_data: the pictures are those of the checkpoint. load:
 * fill model and optimizer state of every rank. */
int train_resume_find(struct train_run *run, struct safetensors *file, char **path,
                      struct err *err);
int train_resume_check_data(struct train_run *run, const struct safetensors *file, const char *path,
                            struct err *err);
int train_resume_load(struct train_run *run, struct safetensors *file, char **path,
                      struct err *err);

/** save.c, rank 0 only: commit a checkpoint of the last whole step. A failure is warned about;
 * ERR_INTERNAL only where the weights are not finite (then nothing is written). *saved tells
 * whether it is there. last: no later try will come, so a lease that could not be renewed just now
 * is waited for. */
int train_save(struct train_run *run, bool last, bool *saved, struct err *err);
/** Weights, optimizer state and running statistics are finite numbers; else ERR_INTERNAL, naming
 * the step.
 */
int train_check_finite(const struct train_run *run, struct err *err);
/** Rank 0 only: whether the interval since the last save is over. */
bool train_save_is_due(const struct train_run *run);

/** host_data.c: with --host-data, what train_dataset_open and train_share_dataset do. Collective;
 * agreed, or not as these are. */
int train_host_data_open(struct train_run *run, struct err *err);
/** Which lanes read which host's samples, into run->order; nothing where each host has all.
 * ERR_USAGE, agreed: a host with samples has no lane. */
int train_host_data_parts(struct train_run *run, struct err *err);
/** How many lanes each host has, "3,2"; nothing where each host has all samples. */
void train_host_data_lanes(const struct train_run *run, struct buf *text);

/** step.c: buffers of the step, and one step at run->position; its sums may be on their way still.
 * *dropped: asked to stop in the middle, nothing changed. *stop: some rank was asked to stop. A
 * lease that rank 0 lost is every rank's ERR_PEER. */
int train_step_init(struct train_run *run, struct err *err);
void train_step_release(struct train_run *run);
int train_step(struct train_run *run, bool *dropped, bool *stop, struct err *err);

/** update.c: what follows a step's sums. plan: this step's weights are to be made at this rate,
 * with statistics of so many leaves. from: make the weights [begin, trained) new. settle: all of
 * them and the running statistics, and nothing is under way any more: before anything but the next
 * step. Each blocks until the sums are there; ERR_PEER. Not collective. */
int train_update_init(struct train_run *run, struct err *err);
void train_update_release(struct train_run *run);
void train_update_plan(struct train_run *run, uint32_t leaves, double lr);
int train_update_from(struct train_run *run, size_t begin, struct err *err);
int train_update_settle(struct train_run *run, struct err *err);

/* Work that all ranks do side by side in rounds, of which a rank may have nothing in some. They
 * look up together after each, so that all leave when one was asked to stop or failed. A look costs
 * less than a millisecond, a round seconds where the network is large. */
struct train_rounds {
    const char *what;             /* is being done: "validating" */
    uint64_t count;               /* the same on every rank */
    uint64_t of;                  /* this rank's pictures, for who watches */
    const struct nn_score *score; /* shown as it grows; NULL: none */
    /* Adds to *done. Returns 0, 1 when it was cancelled, -1. */
    int (*take)(void *context, uint64_t round, uint64_t *done, struct err *err);
    void *context;
};

/** walk.c. ERR_STOPPED, agreed, when some rank was asked to stop; the error of the first rank that
 * failed, agreed. */
int train_take_rounds(struct train_run *run, const struct train_rounds *rounds, struct err *err);

/* A rank's part of count things in micro-batches, and the rounds that the largest part takes. */
struct train_share {
    uint64_t begin, end, rounds;
};

/** walk.c: another rank's share (without its rounds) where each host has all. */
struct train_share train_share_of_rank(uint64_t count, int rank, int ranks);
/** This rank's. Where hosts have samples of their own, those of this rank's host are shared out
 * among its ranks. Not collective. */
struct train_share train_share_of(const struct train_run *run, const struct data_index *index);

/* A pass over an index: each rank takes a share of it, in micro-batches, in index order. */
struct train_walk {
    const struct data_index *index;
    const struct data_transform *transform;
    uint32_t epoch;               /* whose view of the pictures */
    const char *what;             /* is being done: "validating" */
    const struct nn_score *score; /* shown as it grows; NULL: none */
    /* Called with each micro-batch that has pictures. Returns 0, 1 when it was cancelled, -1. */
    int (*each)(void *context, const struct data_batch *batch, struct err *err);
    void *context;
};

/** walk.c: as train_take_rounds. */
int train_walk(struct train_run *run, const struct train_walk *walk, struct err *err);

/** evaluate.c: score an index with the current weights, exactly, and add this rank's pictures to
 * the tally. ERR_STOPPED when asked to stop. */
int train_evaluate(struct train_run *run, const struct data_index *index, const char *what,
                   struct nn_score *score, struct train_tally *tally, struct err *err);

/** tell.c: sum a tally over all ranks and write its tables to REPORT/SPLIT ("validation", "test"; a
 * failure is warned about); the classes known least go to run->worst. Collective. */
int train_tell_classes(struct train_run *run, struct train_tally *tally, const char *split,
                       struct err *err);
/** tell.c: the slowest rank, for the report, and by how much; NULL where there is only one. busy_s:
 * (ranks). Not collective. */
json_t *train_straggler_json(const struct train_run *run, const double *busy_s);

/** tell.c: log run->worst under a heading, and empty it. */
void train_tell_worst(struct train_run *run, const char *heading);
#define TRAIN_WORST_LINES 5

/** evaluate.c: the error of every rank where not one picture of an index could be decoded. */
int train_no_picture(struct train_run *run, const struct data_index *index, struct err *err);

/** evaluate.c: a score of an index becomes the sum over all ranks. ERR_INPUT, agreed, where it has
 * no picture. Those without a finite loss are the caller's to judge. */
int train_score_sum(struct train_run *run, const struct data_index *index, struct nn_score *score,
                    struct err *err);

/** evaluate.c: room for a micro-batch's logits; the caller frees it. NULL: ERR_MEMORY. Not
 * collective. */
float *train_logits_new(const struct train_run *run, struct err *err);

/** tell.c: a score as the report wants it: the loss is the mean over pictures that have a finite
 * one. */
struct report_sum train_report_sum(const struct nn_score *score);
/** The same of an epoch's steps so far: the loss is the mean that is trained, by class weights. */
struct report_sum train_report_epoch(const struct train_position *position);

#endif
