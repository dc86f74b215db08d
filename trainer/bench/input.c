/*
 * trainer/bench/input.c -- `convoy bench input`: pictures as training takes them, and nothing else.
 *
 * A stream by the order of training, one for each repeat, whose batches are given back at once: the
 * threads that read, decode and transform have nobody to wait for. The first repeat is not timed.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "trainer/bench/bench.h"
#include "trainer/bench/common.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/place.h"
#include "trainer/data/set/open.h"
#include "trainer/data/set/root.h"
#include "trainer/data/stream/stream.h"

#define DEPTH 2 /* batches ahead: nobody uses them */
#define SEED  1

static const struct option_spec table[] = {
    {.name = "data",
     .kind = OPTION_TEXT,
     .metavar = "URI",
     .help = "a root with train, or the pictures: a folder per class or shards,\nlocal or s3://"},
    {.name = "train",
     .kind = OPTION_TEXT,
     .metavar = "URI",
     .help = "the pictures, as convoy train has it"},
    {.name = "transform",
     .kind = OPTION_CHOICE,
     .metavar = "KIND",
     .choices = "crop|pad|center|resize",
     .fallback = "crop",
     .help = "crop: a random box, resized; pad: small pictures, padded and cropped;\ncenter, "
             "resize: evaluation's. The first two are flipped too"},
    {.name = "image-size",
     .kind = OPTION_INTEGER,
     .metavar = "PX",
     .min = 8,
     .max = 2048,
     .fallback = "224",
     .help = "pictures become PX x PX pixels"},
    {.name = "count",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 1e9,
     .shown = "all",
     .help = "so many of the pictures"},
    {.name = "batch",
     .kind = OPTION_INTEGER,
     .metavar = "IMAGES",
     .min = 1,
     .max = 65536,
     .fallback = "32",
     .help = "images of a micro-batch"},
    {.name = "threads",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 1024,
     .env = "CONVOY_THREADS",
     .shown = "the cores it may use",
     .help = "threads that read, decode and transform"},
    {.name = "fetch-threads",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 256,
     .fallback = "8",
     .help = "of s3:// pictures: requests at a time"},
    {.name = "prefetch-bytes",
     .kind = OPTION_INTEGER,
     .metavar = "BYTES",
     .min = 1 << 20,
     .max = 1e13,
     .fallback = "536870912",
     .help = "of s3:// pictures: the most memory for those read ahead"},
    {.name = "repeats",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 1e6,
     .fallback = "3",
     .help = "times over all pictures that are timed; one before is not; medians\nare shown"},
    BENCH_OPTION_JSON,
};

static const char usage[] =
    "convoy bench input --data URI|--train URI [options]\n\n"
    "Reads pictures in the order of training, decodes, crops, resizes, flips and normalises them,\n"
    "and shows images per second and what each costs.\n";

static const char tail[] =
    "Stages: the time of the threads that do them, by the clock and of the processor. Where the\n"
    "pictures are in S3, reading is waiting for other threads, whose processor time is under "
    "\"other\".\n";

static const struct {
    const char *name, *text;
    enum data_transform_kind kind;
} transforms[] = {
    {"crop", "a random crop", DATA_TRANSFORM_RESIZED_CROP},
    {"pad", "padded and cropped", DATA_TRANSFORM_PAD_CROP},
    {"center", "the centre", DATA_TRANSFORM_CENTER},
    {"resize", "the whole resized", DATA_TRANSFORM_RESIZE},
};

static const char *const stage_names[DATA_STAGES] = {"read", "decode", "transform"};

/* What one pass over the pictures took. */
struct pass {
    double images, seconds, cpu_s;
    struct data_stream_stats stats;
};

struct bed {
    struct option_set set;
    struct data_index index;
    struct data_order order;
    struct data_transform transform;
    size_t transform_number;
    int threads, batch, repeats;
    struct pass *passes; /* (repeats) */
    double *column;      /* (repeats) one figure of each */
};

static void bed_release(struct bed *bed)
{
    data_index_release(&bed->index);
    option_set_release(&bed->set);
    free(bed->passes);
    free(bed->column);
}

static int open_index(struct bed *bed, const volatile sig_atomic_t *cancel, struct err *err)
{
    const char *const data = option_text(&bed->set, "data"), *const train =
                                                                 option_text(&bed->set, "train");
    const char *const root = train != NULL ? train : data;
    enum data_root_kind kind = DATA_ROOT_EMPTY;
    char *split = NULL;
    int rc;

    if (root == NULL || (train != NULL && data != NULL))
        return err_set(err, ERR_USAGE, "name the pictures by --data or --train");
    if (data_root_look(root, &kind, cancel, err) < 0)
        return -1;
    if (kind == DATA_ROOT_SPLITS && data_root_find(root, DATA_SPLIT_TRAIN, &split, err) < 0)
        return -1;
    rc = data_index_open(&bed->index, split != NULL ? split : root, NULL, 0, cancel, err);
    free(split);
    return rc;
}

static void set_transform(struct bed *bed)
{
    const char *const name = option_text(&bed->set, "transform");

    while (strcmp(transforms[bed->transform_number].name, name) != 0)
        bed->transform_number++;
    bed->transform = (struct data_transform){.kind = transforms[bed->transform_number].kind,
                                             .size = (int)option_integer(&bed->set, "image-size"),
                                             .seed = SEED};
    memcpy(bed->transform.mean, data_imagenet_mean, sizeof bed->transform.mean);
    memcpy(bed->transform.std, data_imagenet_std, sizeof bed->transform.std);
}

static int bed_init(struct bed *bed, const volatile sig_atomic_t *cancel, struct err *err)
{
    uint64_t count;

    if (open_index(bed, cancel, err) < 0)
        return -1;
    set_transform(bed);
    bed->threads = bench_threads(&bed->set);
    bed->batch = (int)option_integer(&bed->set, "batch");
    bed->repeats = (int)option_integer(&bed->set, "repeats");
    bed->passes = calloc((size_t)bed->repeats, sizeof bed->passes[0]);
    bed->column = calloc((size_t)bed->repeats, sizeof bed->column[0]);
    if (bed->passes == NULL || bed->column == NULL)
        abort();
    count = bed->index.count;
    if (option_source(&bed->set, "count") != OPTION_ABSENT &&
        (uint64_t)option_integer(&bed->set, "count") < count)
        count = (uint64_t)option_integer(&bed->set, "count");
    bed->order = (struct data_order){.samples = count,
                                     .chunk_samples = data_index_chunk_samples(&bed->index),
                                     .seed = SEED,
                                     .batch = (uint32_t)bed->batch,
                                     .lanes = 1};
    return 0;
}

static int take_batches(struct data_stream *stream, const volatile sig_atomic_t *cancel,
                        struct err *err)
{
    struct data_batch batch;
    int rc;

    while ((rc = data_stream_next(stream, &batch, cancel, err)) == 1)
        data_stream_give_back(stream, &batch);
    return rc;
}

static int take_pass(struct bed *bed, uint32_t epoch, struct pass *pass,
                     const volatile sig_atomic_t *cancel, struct err *err)
{
    const double begun_s = clock_now_s(), begun_cpu_s = bench_cpu_s();
    const struct data_stream_options options = {
        .index = &bed->index,
        .transform = bed->transform,
        .order = &bed->order,
        .lane_end = 1,
        .epoch = epoch,
        .epoch_end = epoch + 1,
        .micro_batch = bed->batch,
        .threads = bed->threads,
        .depth = DEPTH,
        .fetch_bytes = (uint64_t)option_integer(&bed->set, "prefetch-bytes"),
        .fetch_threads = (int)option_integer(&bed->set, "fetch-threads"),
        .time_stages = true,
    };
    struct data_stream *const stream = data_stream_new(&options, err);
    int rc;

    if (stream == NULL)
        return -1;
    rc = take_batches(stream, cancel, err);
    data_stream_stats(stream, &pass->stats);
    pass->seconds = clock_now_s() - begun_s;
    pass->cpu_s = bench_cpu_s() - begun_cpu_s;
    pass->images = (double)pass->stats.images;
    data_stream_free(stream);
    if (rc == 0 && pass->images == 0)
        rc = err_set(err, ERR_INPUT, "none of the pictures can be decoded; the first: %s",
                     pass->stats.left_out_first);
    return rc;
}

static int measure(struct bed *bed, const volatile sig_atomic_t *cancel, struct err *err)
{
    struct pass untimed;

    if (take_pass(bed, 0, &untimed, cancel, err) < 0)
        return -1;
    for (int i = 0; i < bed->repeats; i++)
        if (take_pass(bed, (uint32_t)i + 1, &bed->passes[i], cancel, err) < 0)
            return -1;
    return 0;
}

/* A figure of each pass, and its median. */
static struct bench_spread spread_of(struct bed *bed, double (*figure)(const struct pass *, int),
                                     int stage)
{
    for (int i = 0; i < bed->repeats; i++)
        bed->column[i] = figure(&bed->passes[i], stage);
    return bench_spread(bed->column, (size_t)bed->repeats);
}

static double rate(const struct pass *pass, int stage)
{
    (void)stage;
    return pass->images / pass->seconds;
}

static double rate_of_cpu(const struct pass *pass, int stage)
{
    (void)stage;
    return pass->images / pass->cpu_s;
}

static double stage_us(const struct pass *pass, int stage)
{
    return 1e6 * pass->stats.stage_s[stage] / pass->images;
}

static double stage_cpu_us(const struct pass *pass, int stage)
{
    return 1e6 * pass->stats.stage_cpu_s[stage] / pass->images;
}

/* All of the process but the stages: handing over, and in S3 the requests. */
static double other_cpu_us(const struct pass *pass, int stage)
{
    double left_s = pass->cpu_s;

    (void)stage;
    for (int i = 0; i < DATA_STAGES; i++)
        left_s -= pass->stats.stage_cpu_s[i];
    return 1e6 * fmax(0, left_s) / pass->images;
}

static void print_line(struct bed *bed)
{
    const struct data_stream_stats *const stats = &bed->passes[bed->repeats - 1].stats;
    const struct bench_spread per_s = spread_of(bed, rate, 0),
                              per_cpu_s = spread_of(bed, rate_of_cpu, 0);
    json_t *const line =
        json_pack("{s:s, s:s, s:b, s:s, s:i, s:I, s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:f}", "bench",
                  "input", "source", data_place_is_remote(bed->index.root) ? "s3" : "disk",
                  "sharded", bed->index.sharded, "transform", option_text(&bed->set, "transform"),
                  "image_size", bed->transform.size, "images", (json_int_t)stats->images, "batch",
                  bed->batch, "threads", bed->threads, "repeats", bed->repeats, "images_per_s",
                  per_s.median, "images_per_s_min", per_s.min, "images_per_s_max", per_s.max,
                  "images_per_cpu_s", per_cpu_s.median, "cpu_us", 1e6 / per_cpu_s.median);
    char key[32];

    for (int stage = 0; stage < DATA_STAGES; stage++) {
        snprintf(key, sizeof key, "%s_us", stage_names[stage]);
        json_object_set_new(line, key, json_real(spread_of(bed, stage_us, stage).median));
        snprintf(key, sizeof key, "%s_cpu_us", stage_names[stage]);
        json_object_set_new(line, key, json_real(spread_of(bed, stage_cpu_us, stage).median));
    }
    json_object_set_new(line, "other_cpu_us", json_real(spread_of(bed, other_cpu_us, 0).median));
    json_object_set_new(line, "truncated", json_integer((json_int_t)stats->truncated));
    json_object_set_new(line, "left_out", json_integer((json_int_t)stats->left_out));
    bench_print_json(line);
}

static void print_row(const char *name, struct bench_spread spread)
{
    printf("%-22s %10.4g %10.4g %10.4g\n", name, spread.median, spread.min, spread.max);
}

static void print_table(struct bed *bed)
{
    const struct data_stream_stats *const stats = &bed->passes[bed->repeats - 1].stats;
    const struct data_index *const index = &bed->index;
    const struct bench_spread cpu = spread_of(bed, rate_of_cpu, 0);

    printf("%s: %s of %zu pictures, %.0f bytes each\n", index->root,
           index->sharded ? "shards" : "a folder per class", index->count,
           (double)index->bytes / (double)index->count);
    printf("%s of %d x %d pixels; batches of %d, %d thread%s; %d repeat%s of %llu pictures\n\n",
           transforms[bed->transform_number].text, bed->transform.size, bed->transform.size,
           bed->batch, bed->threads, bed->threads == 1 ? "" : "s", bed->repeats,
           bed->repeats == 1 ? "" : "s", (unsigned long long)stats->images);
    printf("%-22s %10s %10s %10s\n", "", "median", "min", "max");
    print_row("images/s", spread_of(bed, rate, 0));
    print_row("images per CPU second", cpu);
    print_row("CPU, us an image",
              (struct bench_spread){1e6 / cpu.median, 1e6 / cpu.max, 1e6 / cpu.min});
    printf("\n%-22s %10s %10s\n", "us an image", "clock", "CPU");
    for (int stage = 0; stage < DATA_STAGES; stage++)
        printf("%-22s %10.1f %10.1f\n", stage_names[stage], spread_of(bed, stage_us, stage).median,
               spread_of(bed, stage_cpu_us, stage).median);
    printf("%-22s %10s %10.1f\n", "other", "", spread_of(bed, other_cpu_us, 0).median);
    if (stats->truncated > 0)
        printf("\n%llu cut short, the first: %s\n", (unsigned long long)stats->truncated,
               stats->truncated_first);
    if (stats->left_out > 0)
        printf("\n%llu left out, the first: %s\n", (unsigned long long)stats->left_out,
               stats->left_out_first);
}

static int run(struct bed *bed, const volatile sig_atomic_t *cancel, struct err *err)
{
    if (bed_init(bed, cancel, err) < 0 || measure(bed, cancel, err) < 0)
        return -1;
    (option_flag(&bed->set, "json") ? print_line : print_table)(bed);
    return bench_finish(err);
}

int bench_input(int argc, char *const *argv, const volatile sig_atomic_t *cancel, struct err *err)
{
    struct bed bed = {0};
    int rc = bench_options_read(&bed.set, table, sizeof table / sizeof table[0], usage, tail, argc,
                                argv, err);

    if (rc == 0)
        rc = run(&bed, cancel, err);
    bed_release(&bed);
    return rc < 0 ? -1 : 0;
}
