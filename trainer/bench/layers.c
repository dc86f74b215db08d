/*
 * trainer/bench/layers.c -- `convoy bench layers`: every shape of convolution that a network has,
 * in each direction, beside what the processor could do.
 *
 * A round computes every layer once in each direction, and the peak between the layers: the clock
 * of a processor moves with heat and with its neighbours, so a figure and the peak that it is
 * compared with come from the same moment. As each layer waits for the whole round, it finds
 * caches that are full of other layers' rows, as in training.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "trainer/bench/bench.h"
#include "trainer/bench/common.h"
#include "trainer/bench/layer.h"
#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/peak.h"
#include "trainer/nn/kernel/threads.h"

#define GOOD_PERCENT  80
#define WARMUP_ROUNDS 1

static const struct option_spec table[] = {
    BENCH_OPTION_MODEL,
    BENCH_OPTION_IMAGE_SIZE,
    {.name = "batch",
     .kind = OPTION_INTEGER,
     .metavar = "IMAGES",
     .min = 1,
     .max = 65536,
     .fallback = "32",
     .help = "images that a layer computes together"},
    {.name = "layer",
     .kind = OPTION_TEXT,
     .metavar = "NAME",
     .help = "this one only, as the table names it: for a profiler"},
    BENCH_OPTION_THREADS,
    {.name = "repeats",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 1e6,
     .fallback = "3",
     .help = "rounds that are timed; medians are shown"},
    {.name = "fused",
     .kind = OPTION_FLAG,
     .help =
         "rows are read and left as in training: with batch norm, ReLU and\naddition on the way"},
    BENCH_OPTION_JSON,
};

static const char usage[] =
    "convoy bench layers [options]\n\n"
    "Times each distinct convolution of a network: forward, and backward to the data and to the\n"
    "weights. In training batch norm, addition and ReLU happen while a convolution reads and "
    "leaves\n"
    "its rows; --fused times both together.\n";

static const char tail[] =
    "GFLOP/s: of the median, counted as a direct convolution does them, whatever the kernel; so\n"
    "Winograd's may be above the peak. Peak: multiply-adds on registers alone, measured between\n"
    "the layers on one core, times the threads. The time is the processor's for one thread, so "
    "that\n"
    "other programs' turns do not count, and the clock's for several.\n";

/* One line of the table. */
struct row {
    const struct bench_layer *layer;
    enum nn_direction direction;
    double *ms; /* (repeats) */
    struct bench_spread spread;
    double gflops, percent;
};

struct run {
    struct bench_common options;
    struct bench_layer *layers; /* (layer_count) */
    size_t layer_count, row_count;
    struct row *rows; /* (row_count) in the order of layers */
    double *ms;       /* what the rows' are of */
    double *peaks; /* (layer_count, repeats) GFLOP/s of all threads; then (layer_count) medians */
    struct bench_operands operands;
};

static void release(struct run *run)
{
    bench_operands_release(&run->operands);
    free(run->layers);
    free(run->rows);
    free(run->ms);
    free(run->peaks);
    bench_common_release(&run->options);
}

static void *zeros(size_t count, size_t bytes)
{
    void *const p = calloc(count, bytes);

    if (p == NULL)
        abort();
    return p;
}

static void list_rows(struct run *run)
{
    /* As in training: what backward to the weights stores, backward to the data reads. */
    static const enum nn_direction directions[] = {NN_FORWARD, NN_BACKWARD_WEIGHTS,
                                                   NN_BACKWARD_DATA};
    const size_t repeats = (size_t)run->options.repeats;

    run->rows = zeros(run->layer_count * BENCH_DIRECTIONS, sizeof run->rows[0]);
    run->ms = zeros(run->layer_count * BENCH_DIRECTIONS * repeats, sizeof run->ms[0]);
    run->peaks = zeros(run->layer_count * repeats, sizeof run->peaks[0]);
    for (size_t i = 0; i < run->layer_count; i++)
        for (size_t d = 0; d < BENCH_DIRECTIONS; d++)
            if (bench_layer_has(&run->layers[i], directions[d])) {
                run->rows[run->row_count] = (struct row){.layer = &run->layers[i],
                                                         .direction = directions[d],
                                                         .ms = run->ms + run->row_count * repeats};
                run->row_count++;
            }
}

/* --layer: the others are dropped. */
static int choose_layer(struct run *run, struct err *err)
{
    const char *const name = option_text(&run->options.set, "layer");

    for (size_t i = 0; name != NULL && i < run->layer_count; i++)
        if (strcmp(run->layers[i].name, name) == 0) {
            run->layers[0] = run->layers[i];
            run->layer_count = 1;
            return 0;
        }
    if (name != NULL)
        return err_set(
            err, ERR_USAGE,
            "--layer: no row of %s's table is named '%.100s': layers of one shape share the "
            "row of the first; run without --layer to see them",
            run->options.model, name);
    return 0;
}

static int prepare(struct run *run, struct err *err)
{
    const struct bench_common *const o = &run->options;

    run->layers = bench_layers_find(o->model, o->image_size, &run->layer_count);
    if (choose_layer(run, err) < 0)
        return -1;
    list_rows(run);
    run->operands = (struct bench_operands){.plain = !option_flag(&o->set, "fused"), .n = o->batch};
    return bench_operands_init(&run->operands, run->layers, run->layer_count, err);
}

/* One thread's time is the processor's: turns that other programs take do not count, as in the
 * peak. Several threads wait for each other busily, so only the clock tells. */
static double now_s(const struct run *run)
{
    return run->options.threads == 1 ? bench_cpu_s() : clock_now_s();
}

/* round < 0: nothing is kept. */
static void take_round(struct run *run, int round)
{
    const struct bench_layer *layer = NULL;

    for (size_t i = 0; i < run->row_count; i++) {
        struct row *const row = &run->rows[i];
        double begun_s;

        if (row->layer != layer) {
            const double peak = nn_kernels_peak_gflops();

            layer = row->layer;
            if (round >= 0)
                run->peaks[(size_t)(layer - run->layers) * (size_t)run->options.repeats +
                           (size_t)round] = peak * run->options.threads;
        }
        begun_s = now_s(run);
        bench_layer_run(layer, row->direction, &run->operands);
        if (round >= 0)
            row->ms[round] = 1000 * (now_s(run) - begun_s);
    }
}

static void summarise(struct run *run)
{
    const size_t repeats = (size_t)run->options.repeats;

    for (size_t i = 0; i < run->layer_count; i++) /* the medians take the first places */
        run->peaks[i] = bench_spread(run->peaks + i * repeats, repeats).median;
    for (size_t i = 0; i < run->row_count; i++) {
        struct row *const row = &run->rows[i];

        row->spread = bench_spread(row->ms, repeats);
        row->gflops = bench_layer_flops(row->layer, run->options.batch) / row->spread.median / 1e6;
        row->percent = 100 * row->gflops / run->peaks[row->layer - run->layers];
    }
}

static const char *kernel_of(const struct row *row)
{
    return nn_conv_algorithm_name(&row->layer->conv, row->direction);
}

static void print_lines(const struct run *run)
{
    const struct bench_common *const o = &run->options;

    for (size_t i = 0; i < run->row_count; i++) {
        const struct row *const row = &run->rows[i];

        bench_print_json(json_pack(
            "{s:s, s:s, s:i, s:i, s:i, s:s, s:s, s:i, s:s, s:f, s:f, s:f, s:f, s:f, s:b, s:s}",
            "bench", "layers", "model", o->model, "image_size", o->image_size, "batch", o->batch,
            "threads", o->threads, "layer", row->layer->name, "direction",
            bench_direction_name(row->direction), "count", row->layer->count, "kernel",
            kernel_of(row), "ms", row->spread.median, "ms_min", row->spread.min, "gflops",
            row->gflops, "percent_of_peak", row->percent, "peak_gflops",
            run->peaks[row->layer - run->layers], "fused", (int)!run->operands.plain, "kernels",
            nn_kernels()->name));
    }
}

static void print_row(const struct row *row)
{
    const struct nn_conv *const conv = &row->layer->conv;
    char shape[64];

    snprintf(shape, sizeof shape, "%dx%d/%d %d>%d @%d", conv->r, conv->r, conv->stride, conv->c,
             conv->k, conv->oh);
    printf("%-21s %-20s %2d %-16s %-9s %7.2f %7.2f %7.1f %6.0f\n", row->layer->name, shape,
           row->layer->count, bench_direction_name(row->direction), kernel_of(row), row->spread.min,
           row->spread.median, row->gflops, row->percent);
}

/* All convolutions of one pass through the network, each as often as it is there. */
static void print_sum(const struct run *run)
{
    double ms = 0, gflop = 0, peak = 0;
    size_t below = 0;

    for (size_t i = 0; i < run->row_count; i++) {
        const struct row *const row = &run->rows[i];

        ms += row->layer->count * row->spread.median;
        gflop += row->layer->count * bench_layer_flops(row->layer, run->options.batch) / 1e9;
        below += row->percent < GOOD_PERCENT;
    }
    for (size_t i = 0; i < run->layer_count; i++)
        peak += run->peaks[i] / (double)run->layer_count;
    printf("\nall of the network: %.1f ms, %.1f GFLOP/s; peak %.1f GFLOP/s\n", ms,
           1000 * gflop / ms, peak);
    printf("%zu of %zu rows are below %d %% of the peak\n", below, run->row_count, GOOD_PERCENT);
}

static void print_table(const struct run *run)
{
    const struct bench_common *const o = &run->options;

    printf("%s, %d x %d pixels, %d images, %d thread%s; %d repeat%s%s\n%s\n\n", o->model,
           o->image_size, o->image_size, o->batch, o->threads, o->threads == 1 ? "" : "s",
           o->repeats, o->repeats == 1 ? "" : "s",
           run->operands.plain ? "" : "; fused with what stands around them", nn_numerics_id());
    printf("%-21s %-20s %2s %-16s %-9s %7s %7s %7s %6s\n", "layer", "filter, channels, px", "",
           "direction", "kernel", "min ms", "ms", "GFLOP/s", "% peak");
    for (size_t i = 0; i < run->row_count; i++)
        print_row(&run->rows[i]);
    if (option_text(&o->set, "layer") == NULL)
        print_sum(run);
}

static int measure(struct run *run, const volatile sig_atomic_t *cancel, struct err *err)
{
    if (prepare(run, err) < 0)
        return -1;
    for (int round = -WARMUP_ROUNDS; round < run->options.repeats; round++) {
        if (*cancel != 0)
            return err_set(err, ERR_STOPPED, "stopped while measuring");
        take_round(run, round);
    }
    summarise(run);
    (run->options.json ? print_lines : print_table)(run);
    return bench_finish(err);
}

int bench_layers(int argc, char *const *argv, const volatile sig_atomic_t *cancel, struct err *err)
{
    struct run run = {0};
    int rc = bench_common_read(&run.options, table, sizeof table / sizeof table[0], usage, tail,
                               argc, argv, err);

    if (rc == 0)
        rc = measure(&run, cancel, err);
    release(&run);
    return rc < 0 ? -1 : 0;
}
