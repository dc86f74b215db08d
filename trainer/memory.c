#include "trainer/memory.h"

#include <stdbool.h>

#include "base/err.h"
#include "comm/exchange.h"
#include "trainer/data/index/place.h"
#include "trainer/data/set/manifest.h"
#include "trainer/feature_cache.h"
#include "trainer/host_memory.h"
#include "trainer/nn/model.h"
#include "trainer/options.h"
#include "trainer/run.h"
#include "trainer/threads.h"
#include "trainer/trace.h"

/* Code, libraries, MPI and the decoders' buffers. A rank that trains was seen to have 20 to 30 MiB
 * beside what is counted (VmHWM; resnet20 and resnet50 with their usual classes, 1 and 4 threads, 1
 * and 2 ranks). */
#define PROCESS_BYTES (64u << 20)

static bool is_made_up(const struct train_options *o)
{
    return o->bench_steps > 0 && !o->bench_data;
}

/* What a manifest names is in S3, wherever it is itself. */
static bool is_remote(const char *data)
{
    return data != NULL && (data_place_is_remote(data) || data_manifest_is(data));
}

/* A run whose pictures are here may have those of an evaluation in S3. */
static size_t fetched_by(const struct train_options *o)
{
    if (is_made_up(o))
        return 0;
    if (is_remote(o->data) || is_remote(o->train))
        return o->prefetch_bytes;
    return is_remote(o->val) || is_remote(o->test) ? o->prefetch_bytes / TRAIN_PREFETCH_EVALUATION
                                                   : 0;
}

/* A benchmark without pictures of its own makes one micro-batch up. */
static size_t pictures_of(const struct train_memory_job *job)
{
    const size_t picture =
        (size_t)job->options->image_size * (size_t)job->options->image_size * 3 * sizeof(float);
    const size_t batches =
        is_made_up(job->options) ? 1 : TRAIN_BATCHES_AHEAD + TRAIN_BATCHES_AHEAD_EVALUATION;

    return batches * (size_t)job->micro_batch * picture;
}

/* Of an evaluation's micro-batch, beside the network's own. */
static size_t logits_of(const struct train_memory_job *job)
{
    return (size_t)job->micro_batch * (size_t)job->classes * sizeof(float);
}

static size_t trace_of(const struct train_memory_job *job)
{
    if (job->options->trace == NULL)
        return 0;
    return train_trace_bytes(train_decode_threads(job->options->decode_threads,
                                                  train_threads(job->ranks_of_host), job->threads));
}

static uint32_t lanes_of(const struct train_memory_job *job)
{
    return (uint32_t)((job->options->global_batch + job->micro_batch - 1) / job->micro_batch);
}

int train_memory_plan(const struct train_memory_job *job, struct train_memory *memory,
                      struct err *err)
{
    const struct train_options *const o = job->options;
    const struct nn_model_options options = {.name = o->model,
                                             .classes = job->classes,
                                             .image_size = o->image_size,
                                             .micro_batch_max = job->micro_batch,
                                             .training = true,
                                             .tuning = o->tuning};
    const size_t vectors = (size_t)optim_vectors(o->optimizer.kind),
                 best = o->keep_best && o->bench_steps == 0;
    struct comm_exchange_memory exchange;
    struct nn_model_memory model;

    if (nn_model_memory(&options, &model, err) < 0)
        return -1;
    exchange = comm_exchange_memory(
        &(struct comm_exchange_options){.lanes = lanes_of(job),
                                        .count = model.gradient / sizeof(float),
                                        .bucket_bytes = o->bucket_bytes,
                                        .wire = o->wire,
                                        .exact = (model.gradient - model.trained) / sizeof(float)},
        job->ranks, job->ranks_of_host);
    *memory = (struct train_memory){
        .weights = model.weights,
        .best = best * model.weights,
        .state = vectors * model.trained,
        .gradients = exchange.vectors + (o->clip_norm > 0 ? model.trained : 0),
        .exchange = exchange.buffers,
        .values = model.values + logits_of(job),
        .working = model.working + (size_t)job->threads * model.working_of_thread,
        .save = o->bench_steps > 0 ? 0 : (1 + best) * model.weights + vectors * model.trained,
        .pictures = pictures_of(job),
        .fetched = fetched_by(o),
        .features = train_feature_cache_buffer(o, model.features, job->micro_batch),
        .trace = trace_of(job),
    };
    memory->total = PROCESS_BYTES + memory->weights + memory->best + memory->state +
                    memory->gradients + memory->exchange + memory->values + memory->working +
                    memory->save + memory->pictures + memory->fetched + memory->features +
                    memory->trace;
    return 0;
}

/* Of all ranks of this host. Rank 0 alone saves. */
static uint64_t needed_on_host(const struct train_memory_job *job,
                               const struct train_memory *memory)
{
    return (uint64_t)job->ranks_of_host * (memory->total - memory->save - memory->best) +
           memory->save + memory->best;
}

static bool fits(const struct train_memory_job *job, int micro_batch, uint64_t available)
{
    struct train_memory_job other = *job;
    struct train_memory memory;
    struct err ignored = {0};

    other.micro_batch = micro_batch;
    return train_memory_plan(&other, &memory, &ignored) == 0 &&
           needed_on_host(&other, &memory) <= available;
}

/* The largest that fits, or 0. Few pictures need many partial sums, many need much of the network:
 * what fits lies between. Near its ends a few sizes may fail between two that fit: the search only
 * needs one that fits. */
static int largest_that_fits(const struct train_memory_job *job, uint64_t available)
{
    int fitting = 0, failing = job->micro_batch;

    for (int b = 1; b < failing; b *= 2) {
        if (fits(job, b, available))
            fitting = b;
        else if (fitting > 0)
            failing = b;
    }
    while (fitting > 0 && failing - fitting > 1) {
        const int middle = fitting + (failing - fitting) / 2;

        if (fits(job, middle, available))
            fitting = middle;
        else
            failing = middle;
    }
    return fitting;
}

/* What else can be done: "fewer ranks on this host, less --prefetch-bytes or smaller pictures". */
static void find_remedies(const struct train_memory_job *job, const struct train_memory *memory,
                          char text[100])
{
    const bool ranks = job->ranks_of_host > 1, fetches = memory->fetched > 0;

    snprintf(text, 100, "%s%s%s%s%s", ranks ? "fewer ranks on this host" : "",
             ranks && fetches ? ", " : "", fetches ? "less --prefetch-bytes" : "",
             ranks || fetches ? " or " : "", job->resumed ? "a larger host" : "smaller pictures");
}

static int advise(const struct train_memory_job *job, const struct train_memory *memory,
                  uint64_t available, struct err *err)
{
    const int other = job->resumed ? 0 : largest_that_fits(job, available);
    char remedies[100];

    find_remedies(job, memory, remedies);
    if (job->resumed)
        return err_set(err, ERR_USAGE, "use %s, as the checkpoint fixes --micro-batch", remedies);
    if (other == 0)
        return err_set(err, ERR_USAGE, "no --micro-batch fits; use %s", remedies);
    return err_set(err, ERR_USAGE, "--micro-batch %d fits", other);
}

static double mib(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

static int check(const struct train_memory_job *job, const struct train_memory *memory,
                 uint64_t available, struct err *err)
{
    const int ranks = job->ranks_of_host;
    const uint64_t needed = needed_on_host(job, memory);
    char several[32] = "";

    if (needed <= available)
        return 0;
    if (ranks > 1)
        snprintf(several, sizeof several, " for %d ranks", ranks);
    advise(job, memory, available, err);
    return err_wrap(err,
                    "%s at %d pixels with --micro-batch %d needs %.1f MiB%s, and this host has "
                    "%.1f MiB left",
                    job->options->model, job->options->image_size, job->micro_batch, mib(needed),
                    several, mib(available));
}

int train_memory_check(const struct train_memory_job *job, uint64_t available, struct err *err)
{
    struct train_memory memory;

    if (train_memory_plan(job, &memory, err) < 0)
        return -1;
    return check(job, &memory, available, err);
}

uint64_t train_memory_left(const struct train_memory_job *job, uint64_t available)
{
    struct train_memory memory;
    struct err ignored = {0};
    uint64_t needed = UINT64_MAX;

    if (train_memory_plan(job, &memory, &ignored) == 0)
        needed = needed_on_host(job, &memory);
    return needed < available ? available - needed : 0;
}

static void line(FILE *out, const char *what, size_t bytes)
{
    fprintf(out, "%-42s %9.1f\n", what, mib(bytes));
}

int train_memory_print(const struct train_memory_job *job, FILE *out, struct err *err)
{
    struct train_memory memory;
    uint64_t available = 0;

    if (train_host_memory(&available, err) < 0 || train_memory_plan(job, &memory, err) < 0)
        return -1;
    fprintf(out, "%s, %d classes, %d pixels, micro-batch %d, %d thread%s: a rank takes, in MiB\n",
            job->options->model, job->classes, job->options->image_size, job->micro_batch,
            job->threads, job->threads == 1 ? "" : "s");
    line(out, "weights and running statistics", memory.weights);
    line(out, job->options->optimizer.kind == OPTIM_SGD ? "momentum" : "Adam's two means",
         memory.state);
    line(out, "gradients (partial sums of micro-batches)", memory.gradients);
    if (memory.exchange > 0)
        line(out, "buffers of the exchange (--bucket-bytes)", memory.exchange);
    line(out, "values between layers and their gradients", memory.values);
    line(out, "working memory of layers", memory.working);
    if (memory.best > 0)
        line(out, "the best weights (--keep-model)", memory.best);
    line(out, "copies for a save (weights, optimizer)", memory.save);
    line(out, "pictures decoded ahead", memory.pictures);
    if (memory.fetched > 0)
        line(out, "fetched ahead, at most (--prefetch-bytes)", memory.fetched);
    if (memory.features > 0)
        line(out, "a micro-batch of features", memory.features);
    if (memory.trace > 0)
        line(out, "spans of a trace, at most (--trace)", memory.trace);
    line(out, "program and libraries, about", PROCESS_BYTES);
    line(out, "together", memory.total);
    fprintf(out, "%-42s %9.1f for %d rank%s\n", "free on this host", mib(available),
            job->ranks_of_host, job->ranks_of_host == 1 ? "" : "s");
    return check(job, &memory, available, err);
}
