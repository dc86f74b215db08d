#include "launcher/bench_options.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "launcher/cpus.h"

#define RANKS_MAX         1024    /* as --ranks-per-host of train */
#define IMAGES_MAX        1000000 /* of a step, as --global-batch of train */
#define MICRO_BATCH_FIRST 32      /* as train's */
/* Up to here every count is measured, beyond it each is twice the one before. */
#define COUNTS_DENSE      4

static const struct option_spec table[] = {
    {.name = "hosts",
     .kind = OPTION_TEXT,
     .metavar = "A,B,...",
     .shown = "this host alone",
     .help = "measure on the first, the first two, ... of these hosts, reached\nover ssh as by "
             "convoy train"},
    {.name = "hostfile",
     .kind = OPTION_TEXT,
     .metavar = "FILE",
     .help = "the same from a file, a name per line"},
    {.name = "host-counts",
     .kind = OPTION_TEXT,
     .metavar = "N,N,...",
     .shown = "1,2,3,4,8,... all",
     .help = "how many of the hosts to measure on; the smallest number is what\nthe others are "
             "compared with"},
    {.name = "ranks-per-host",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 1024,
     .fallback = "1",
     .help = "with --hosts: processes on each host"},
    {.name = "ranks",
     .kind = OPTION_TEXT,
     .metavar = "N,N,...",
     .shown = "1,2,3,4,8,... one a core",
     .help = "without --hosts: how many ranks of this host to\nmeasure with"},
    {.name = "threads",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 1024,
     .shown = "usable cores / most ranks on a host",
     .help = "computing threads of a rank"},
    {.name = "mode",
     .kind = OPTION_CHOICE,
     .metavar = "weak|strong|both",
     .choices = "weak|strong|both",
     .fallback = "both",
     .help = "weak: the images of a step grow with the ranks;\nstrong: they are shared out"},
    {.name = "model",
     .kind = OPTION_TEXT,
     .metavar = "NAME",
     .fallback = "resnet18",
     .help = "the network, as convoy train has it"},
    {.name = "image-size",
     .kind = OPTION_INTEGER,
     .metavar = "PX",
     .min = 8,
     .max = 2048,
     .shown = "224; 32 for CIFAR models",
     .help = "pictures of PX x PX pixels"},
    {.name = "data",
     .kind = OPTION_TEXT,
     .metavar = "DIR|s3://...",
     .shown = "made up in memory",
     .help = "read these pictures, as convoy train does"},
    {.name = "micro-batch",
     .kind = OPTION_INTEGER,
     .metavar = "IMAGES",
     .min = 1,
     .max = 65536,
     .shown = "32; fewer where a step has fewer",
     .help = "images that go through the network\ntogether"},
    {.name = "batch-per-rank",
     .kind = OPTION_INTEGER,
     .metavar = "IMAGES",
     .min = 1,
     .max = 65536,
     .fallback = "32",
     .help = "weak: images of a step on each rank; whole micro-batches"},
    {.name = "global-batch",
     .kind = OPTION_INTEGER,
     .metavar = "IMAGES",
     .min = 1,
     .max = IMAGES_MAX,
     .fallback = "256",
     .help = "strong: images of a step on all ranks together"},
    {.name = "steps",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 1e6,
     .fallback = "10",
     .help = "steps of a run that are timed; two before them are not"},
    {.name = "repeats",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 1000,
     .fallback = "3",
     .help = "rounds: each runs every point once with the exchange and once\nside by side without, "
             "so that noise hits all alike"},
    {.name = "json",
     .kind = OPTION_TEXT,
     .metavar = "[FILE]",
     .help = "alone: the results on stdout, a JSON object per line, instead\nof the table; with "
             "FILE: every run, the results and the machine\nthere as they come; - is stdout, "
             "without the table"},
    {.name = "svg",
     .kind = OPTION_TEXT,
     .metavar = "FILE",
     .help = "draw the results: images/s by hosts, beside the ideal"},
};
#define TABLE_COUNT (sizeof table / sizeof table[0])

void launch_bench_options_release(struct launch_bench_options *options)
{
    option_set_release(&options->set);
    launch_hosts_release(&options->hosts);
    launch_words_release(&options->more);
    *options = (struct launch_bench_options){0};
}

void launch_bench_options_help(FILE *out)
{
    struct option_set set = {0};

    option_set_init(&set, table, TABLE_COUNT);
    option_set_help(&set, out);
    option_set_release(&set);
}

/* "1,2,4" */
static int read_counts(struct launch_bench_options *o, const char *name, int max, struct err *err)
{
    const char *at = option_text(&o->set, name);

    for (o->count_count = 0; at != NULL; at = *at == ',' ? at + 1 : NULL) {
        char *end;
        const long n = strtol(at, &end, 10);
        const int before = o->count_count > 0 ? o->counts[o->count_count - 1] : 0;

        if (end == at || strchr("0123456789", *at) == NULL || (*end != ',' && *end != '\0') ||
            n <= before)
            return err_set(err, ERR_USAGE, "--%s: '%s' is no list of growing numbers such as 1,2,4",
                           name, option_text(&o->set, name));
        if (n > max)
            return err_set(err, ERR_USAGE, "--%s: %ld is more than %s %d", name, n,
                           o->by_hosts ? "the hosts there are," : "we can start,", max);
        if (o->count_count == LAUNCH_BENCH_COUNTS_MAX)
            return err_set(err, ERR_USAGE, "--%s: more than %d numbers", name,
                           LAUNCH_BENCH_COUNTS_MAX);
        o->counts[o->count_count++] = (int)n;
        at = end;
    }
    return 0;
}

/* 1, 2, 3, 4, 8, 16, ... and max. */
static void choose_counts(struct launch_bench_options *o, int max)
{
    for (int n = 1; n < max; n += n < COUNTS_DENSE ? 1 : n)
        o->counts[o->count_count++] = n;
    o->counts[o->count_count++] = max;
}

/* What belongs to the other way of counting would be passed over without a word. */
static int refuse(const struct launch_bench_options *o, const char *name, const char *why,
                  struct err *err)
{
    if (option_source(&o->set, name) != OPTION_COMMAND_LINE)
        return 0;
    return err_set(err, ERR_USAGE, "--%s %s", name, why);
}

static int take_hosts(struct launch_bench_options *o, struct err *err)
{
    const struct launch_hosts_options named = {.list = option_text(&o->set, "hosts"),
                                               .file = option_text(&o->set, "hostfile")};

    if (named.list != NULL && named.file != NULL)
        return err_set(err, ERR_USAGE,
                       "--hosts and --hostfile both name the hosts: give one of them");
    o->by_hosts = named.list != NULL || named.file != NULL;
    if (o->by_hosts)
        return launch_hosts_find(&o->hosts, &named, err);
    return 0;
}

static int take_counts(struct launch_bench_options *o, struct err *err)
{
    const int there = o->by_hosts ? (int)o->hosts.names.count : launch_cpus_usable();
    const int max = o->by_hosts ? there : RANKS_MAX;

    if (o->by_hosts && refuse(o, "ranks",
                              "is for one host: with several, give --host-counts and "
                              "--ranks-per-host",
                              err) < 0)
        return -1;
    if (!o->by_hosts && (refuse(o, "host-counts", "needs --hosts or --hostfile", err) < 0 ||
                         refuse(o, "ranks-per-host",
                                "needs --hosts or --hostfile: on one host "
                                "--ranks says how many",
                                err) < 0))
        return -1;
    if (read_counts(o, o->by_hosts ? "host-counts" : "ranks", max, err) < 0)
        return -1;
    if (o->count_count == 0)
        choose_counts(o, there);
    return 0;
}

/* On one host each rank keeps its threads while their number grows, or nothing would be compared.
 */
static void take_threads(struct launch_bench_options *o)
{
    const int most = o->counts[o->count_count - 1];

    if (option_source(&o->set, "threads") != OPTION_ABSENT)
        o->threads = (int)option_integer(&o->set, "threads");
    else if (!o->by_hosts)
        o->threads = launch_cpus_usable() > most ? launch_cpus_usable() / most : 1;
}

static int take_batches(struct launch_bench_options *o, struct err *err)
{
    const int most = o->counts[o->count_count - 1] * (o->by_hosts ? o->ranks_per_host : 1);

    o->batch_per_rank = (int)option_integer(&o->set, "batch-per-rank");
    o->global_batch = (int)option_integer(&o->set, "global-batch");
    o->micro_batch = MICRO_BATCH_FIRST;
    if (o->weak && o->batch_per_rank < o->micro_batch)
        o->micro_batch = o->batch_per_rank;
    if (o->strong && o->global_batch < o->micro_batch)
        o->micro_batch = o->global_batch;
    if (option_source(&o->set, "micro-batch") != OPTION_ABSENT)
        o->micro_batch = (int)option_integer(&o->set, "micro-batch");
    if (o->weak && o->batch_per_rank % o->micro_batch != 0)
        return err_set(err, ERR_USAGE,
                       "--batch-per-rank %d is no whole number of micro-batches of %d images "
                       "(--micro-batch): the ranks would have unequal shares",
                       o->batch_per_rank, o->micro_batch);
    if (o->weak && (int64_t)o->batch_per_rank * most > IMAGES_MAX)
        return err_set(err, ERR_USAGE,
                       "--batch-per-rank %d on %d ranks is more than %d images in a step",
                       o->batch_per_rank, most, IMAGES_MAX);
    return 0;
}

static int take_files(struct launch_bench_options *o, struct err *err)
{
    if (o->svg != NULL && strcmp(o->svg, "-") == 0)
        return err_set(err, ERR_USAGE, "--svg needs a file: stdout has the table");
    if (o->svg != NULL && o->json != NULL && strcmp(o->svg, o->json) == 0)
        return err_set(err, ERR_USAGE, "--svg and --json name one file: '%s'", o->svg);
    return 0;
}

static int take(struct launch_bench_options *o, struct err *err)
{
    const char *mode = option_text(&o->set, "mode");

    o->weak = strcmp(mode, "strong") != 0;
    o->strong = strcmp(mode, "weak") != 0;
    o->model = option_text(&o->set, "model");
    o->data = option_text(&o->set, "data");
    o->svg = option_text(&o->set, "svg");
    o->steps = (int)option_integer(&o->set, "steps");
    o->rounds = (int)option_integer(&o->set, "repeats");
    o->ranks_per_host = (int)option_integer(&o->set, "ranks-per-host");
    if (option_source(&o->set, "image-size") != OPTION_ABSENT)
        o->image_size = (int)option_integer(&o->set, "image-size");
    if (take_hosts(o, err) < 0 || take_counts(o, err) < 0)
        return -1;
    take_threads(o);
    return take_batches(o, err) < 0 ? -1 : take_files(o, err);
}

/* --json without a file is a word of its own: it ends the words, or an option follows. */
static bool is_json_alone(int argc, char *const *argv, int i)
{
    return strcmp(argv[i], "--json") == 0 && (i + 1 == argc || strncmp(argv[i + 1], "--", 2) == 0);
}

int launch_bench_options_parse(struct option_set *set, int argc, char *const *argv,
                               const char **json, bool *results_only, struct err *err)
{
    struct launch_words words = {0};
    int rc;

    *results_only = false;
    for (int i = 0; i < argc; i++)
        if (is_json_alone(argc, argv, i))
            *results_only = true;
        else
            launch_words_push(&words, argv[i]);
    rc = option_set_parse(set, (int)words.count, words.at, err);
    launch_words_release(&words);
    if (rc < 0)
        return -1;
    *json = option_text(set, "json");
    if (*results_only && *json != NULL)
        return err_set(err, ERR_USAGE, "--json and --json %s: give one of them", *json);
    if (*results_only)
        *json = "-";
    return 0;
}

int launch_bench_options_read(struct launch_bench_options *options, int argc, char *const *argv,
                              struct err *err)
{
    int ours = 0;

    *options = (struct launch_bench_options){0};
    option_set_init(&options->set, table, TABLE_COUNT);
    for (; ours < argc && strcmp(argv[ours], "--") != 0; ours++)
        if (strcmp(argv[ours], "--help") == 0 || strcmp(argv[ours], "-h") == 0)
            options->help = true;
    for (int i = ours + 1; i < argc; i++)
        launch_words_push(&options->more, argv[i]);
    if (options->help)
        return 0;
    if (launch_bench_options_parse(&options->set, ours, argv, &options->json,
                                   &options->results_only, err) < 0)
        return -1;
    return take(options, err);
}

static struct launch_bench_point point_of(const struct launch_bench_options *o,
                                          enum launch_bench_mode mode, int count)
{
    const int ranks = o->by_hosts ? count * o->ranks_per_host : count;

    return (struct launch_bench_point){
        .mode = mode,
        .hosts = o->by_hosts ? count : 1,
        .ranks = ranks,
        .global_batch = mode == LAUNCH_BENCH_WEAK ? ranks * o->batch_per_rank : o->global_batch,
        .micro_batch = o->micro_batch};
}

struct launch_bench_point *launch_bench_points(const struct launch_bench_options *options,
                                               size_t *count)
{
    struct launch_bench_point *points =
        calloc(2 * (size_t)options->count_count, sizeof(struct launch_bench_point));

    if (points == NULL)
        abort();
    *count = 0;
    for (int i = 0; options->weak && i < options->count_count; i++)
        points[(*count)++] = point_of(options, LAUNCH_BENCH_WEAK, options->counts[i]);
    for (int i = 0; options->strong && i < options->count_count; i++)
        points[(*count)++] = point_of(options, LAUNCH_BENCH_STRONG, options->counts[i]);
    return points;
}

/* Without --hosts it is localhost by name: a SageMaker job's hosts are not meant. */
static void push_hosts(const struct launch_bench_options *o, const struct launch_bench_point *point,
                       struct launch_words *words)
{
    struct buf list = {0};

    for (int i = 0; o->by_hosts && i < point->hosts; i++)
        buf_printf(&list, "%s%s", i == 0 ? "" : ",", o->hosts.names.at[i]);
    launch_words_push(words, "--hosts");
    launch_words_push(words, o->by_hosts ? buf_text(&list) : "localhost");
    buf_release(&list);
}

void launch_bench_words(const struct launch_bench_options *options,
                        const struct launch_bench_point *point, enum launch_bench_way way,
                        struct launch_words *words)
{
    push_hosts(options, point, words);
    launch_words_push_integer(words, "--ranks-per-host", point->ranks / point->hosts);
    if (options->threads > 0)
        launch_words_push_integer(words, "--threads", options->threads);
    launch_words_push(words, "--model");
    launch_words_push(words, options->model);
    if (options->image_size > 0)
        launch_words_push_integer(words, "--image-size", options->image_size);
    launch_words_push_integer(words, "--global-batch", point->global_batch);
    launch_words_push_integer(words, "--micro-batch", point->micro_batch);
    if (options->data != NULL) {
        launch_words_push(words, "--data");
        launch_words_push(words, options->data);
    }
    launch_words_push_integer(words, "--bench-steps", options->steps);
    if (way == LAUNCH_BENCH_SIDE_BY_SIDE)
        launch_words_push(words, "--no-exchange");
    launch_words_push_all(words, &options->more);
}
