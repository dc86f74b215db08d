/*
 * trainer/bench/model.c -- `convoy bench model`: steps of training, one after the other, on one
 * batch of noise. How long a step takes does not depend on what the pictures show.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "trainer/bench/bench.h"
#include "trainer/bench/common.h"
#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/scratch.h"
#include "trainer/nn/kernel/threads.h"
#include "trainer/nn/model.h"
#include "trainer/optim/sgd.h"

#define LR           1e-3f /* small: the weights must stay finite */
#define WARMUP_STEPS 1

static const struct option_spec table[] = {
    BENCH_OPTION_MODEL,
    BENCH_OPTION_IMAGE_SIZE,
    {.name = "batch",
     .kind = OPTION_INTEGER,
     .metavar = "IMAGES",
     .min = 1,
     .max = 65536,
     .fallback = "32",
     .help = "images of a step; they go through the network together"},
    BENCH_OPTION_THREADS,
    {.name = "steps",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 1e6,
     .fallback = "1",
     .help = "steps of a repeat; one before the first repeat is not timed"},
    {.name = "repeats",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 1e6,
     .fallback = "5",
     .help = "repeats that are timed; their median is shown"},
    BENCH_OPTION_JSON,
};

static const char usage[] =
    "convoy bench model [options]\n\n"
    "Trains a network on one batch of made-up pictures in memory and shows images per second:\n"
    "forward, loss, backward, and SGD with momentum and weight decay.\n";

static const char tail[] =
    "images per CPU second: of processor time instead of the clock's; steadier on a busy machine.\n"
    "CONVOY_ISA=generic|avx2|avx512 and CONVOY_CONV=winograd4|winograd4s2|winograd2|direct|gemm\n"
    "choose the kernels that are measured.\n";

struct bed {
    struct bench_common options;
    int steps;
    struct nn_model *model;
    float *x;        /* (batch, size, size, 3) */
    int32_t *labels; /* (batch) */
    float *gradient, *momentum, *statistics;
    double *per_s, *per_cpu_s; /* (repeats) images */
};

static void bed_release(struct bed *bed)
{
    nn_model_free(bed->model);
    free(bed->x);
    free(bed->labels);
    free(bed->gradient);
    free(bed->momentum);
    free(bed->statistics);
    free(bed->per_s);
    free(bed->per_cpu_s);
    bench_common_release(&bed->options);
}

static int bed_init(struct bed *bed, struct err *err)
{
    const struct bench_common *const o = &bed->options;
    const struct nn_model_options options = {.name = o->model,
                                             .classes = nn_model_default_classes(o->model),
                                             .image_size = o->image_size,
                                             .micro_batch_max = o->batch,
                                             .training = true};
    const size_t n = (size_t)o->batch,
                 floats = n * (size_t)o->image_size * (size_t)o->image_size * 3;
    size_t weights;

    bed->model = nn_model_new(&options, err);
    if (bed->model == NULL)
        return -1;
    nn_model_init(bed->model, 1);
    weights = nn_model_weight_count(bed->model);
    bed->x = nn_floats_new(floats, err);
    bed->labels = calloc(n, sizeof bed->labels[0]);
    bed->gradient = nn_floats_new(weights, err);
    bed->momentum = nn_floats_new(weights, err);
    bed->statistics = nn_floats_new(nn_model_running_count(bed->model), err);
    bed->per_s = calloc((size_t)o->repeats, sizeof bed->per_s[0]);
    bed->per_cpu_s = calloc((size_t)o->repeats, sizeof bed->per_cpu_s[0]);
    if (bed->x == NULL || bed->labels == NULL || bed->gradient == NULL || bed->momentum == NULL ||
        bed->statistics == NULL || bed->per_s == NULL || bed->per_cpu_s == NULL)
        return err_set(err, ERR_MEMORY, "no memory for %zu pictures (--batch, --image-size)", n);
    bench_fill(bed->x, floats, 0);
    for (size_t i = 0; i < n; i++)
        bed->labels[i] = (int32_t)(i % (size_t)options.classes);
    return 0;
}

static int take_step(struct bed *bed, const volatile sig_atomic_t *cancel, struct err *err)
{
    static const struct optim_sgd sgd = {.momentum = 0.9f, .weight_decay = 1e-4f};
    const struct nn_step step = {.x = bed->x,
                                 .labels = bed->labels,
                                 .n = bed->options.batch,
                                 .scale = 1.0f / (float)bed->options.batch,
                                 .statistics = bed->statistics,
                                 .gradient = bed->gradient,
                                 .cancel = cancel};
    struct nn_score score = {0};

    if (nn_model_train(bed->model, &step, &score) != 0)
        return err_set(err, ERR_STOPPED, "stopped while measuring");
    if (score.nonfinite != 0)
        return err_set(err, ERR_INTERNAL, "the loss is not a finite number");
    optim_sgd_step(&sgd, LR, nn_model_weights(bed->model), bed->momentum, bed->gradient,
                   nn_model_weight_count(bed->model));
    nn_model_update_running(bed->model, bed->statistics, NN_RUNNING_MOMENTUM);
    return 0;
}

static int take_steps(struct bed *bed, int steps, const volatile sig_atomic_t *cancel,
                      struct err *err)
{
    for (int i = 0; i < steps; i++)
        if (take_step(bed, cancel, err) < 0)
            return -1;
    return 0;
}

static int measure(struct bed *bed, const volatile sig_atomic_t *cancel, struct err *err)
{
    const double images = (double)bed->options.batch * bed->steps;

    if (take_steps(bed, WARMUP_STEPS, cancel, err) < 0)
        return -1;
    for (int i = 0; i < bed->options.repeats; i++) {
        const double begun_s = clock_now_s(), begun_cpu_s = bench_cpu_s();

        if (take_steps(bed, bed->steps, cancel, err) < 0)
            return -1;
        bed->per_s[i] = images / (clock_now_s() - begun_s);
        bed->per_cpu_s[i] = images / (bench_cpu_s() - begun_cpu_s);
    }
    return 0;
}

static void print_line(const struct bed *bed, struct bench_spread per_s,
                       struct bench_spread per_cpu_s)
{
    const struct bench_common *const o = &bed->options;

    bench_print_json(
        json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:s, s:s}", "bench",
                  "model", "model", o->model, "image_size", o->image_size, "batch", o->batch,
                  "threads", o->threads, "steps", bed->steps, "repeats", o->repeats, "images_per_s",
                  per_s.median, "images_per_s_min", per_s.min, "images_per_s_max", per_s.max,
                  "images_per_cpu_s", per_cpu_s.median, "peak_rss_mib", bench_peak_rss_mib(),
                  "kernels", nn_kernels()->name, "numerics", nn_numerics_id()));
}

static void print_table(const struct bed *bed, struct bench_spread per_s,
                        struct bench_spread per_cpu_s)
{
    const struct bench_common *const o = &bed->options;
    const double step_ms = 1000.0 * o->batch;

    printf("%s, %d x %d pixels, batches of %d, %d thread%s; %d repeat%s of %d step%s\n%s\n\n",
           o->model, o->image_size, o->image_size, o->batch, o->threads, o->threads == 1 ? "" : "s",
           o->repeats, o->repeats == 1 ? "" : "s", bed->steps, bed->steps == 1 ? "" : "s",
           nn_numerics_id());
    printf("%-22s %10s %10s %10s\n", "", "median", "min", "max");
    printf("%-22s %10.4g %10.4g %10.4g\n", "images/s", per_s.median, per_s.min, per_s.max);
    printf("%-22s %10.4g %10.4g %10.4g\n", "step, ms", step_ms / per_s.median, step_ms / per_s.max,
           step_ms / per_s.min);
    printf("%-22s %10.4g %10.4g %10.4g\n", "images per CPU second", per_cpu_s.median, per_cpu_s.min,
           per_cpu_s.max);
    printf("%-22s %10.0f\n", "peak memory, MiB", bench_peak_rss_mib());
}

static int run(struct bed *bed, const volatile sig_atomic_t *cancel, struct err *err)
{
    struct bench_spread per_s, per_cpu_s;

    bed->steps = (int)option_integer(&bed->options.set, "steps");
    if (bed_init(bed, err) < 0 || measure(bed, cancel, err) < 0)
        return -1;
    per_s = bench_spread(bed->per_s, (size_t)bed->options.repeats);
    per_cpu_s = bench_spread(bed->per_cpu_s, (size_t)bed->options.repeats);
    (bed->options.json ? print_line : print_table)(bed, per_s, per_cpu_s);
    return bench_finish(err);
}

int bench_model(int argc, char *const *argv, const volatile sig_atomic_t *cancel, struct err *err)
{
    struct bed bed = {0};
    int rc = bench_common_read(&bed.options, table, sizeof table / sizeof table[0], usage, tail,
                               argc, argv, err);

    if (rc == 0)
        rc = run(&bed, cancel, err);
    bed_release(&bed);
    return rc < 0 ? -1 : 0;
}
