#include "launcher/bench_s3.h"

#include <errno.h>
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/uri.h"
#include "launcher/bench_options.h"
#include "launcher/bench_point.h"
#include "launcher/bench_record.h"
#include "launcher/bench_run.h"
#include "launcher/bench_s3_round.h"
#include "launcher/machine.h"
#include "launcher/s3/verb.h"
#include "s3io/client.h"

#define ROUNDS_MAX  1000
#define SMALL_BYTES ((uint64_t)1 << 20)

static const struct option_spec table[] = {
    {.name = "requests",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 64,
     .fallback = "8",
     .help = "in flight at a time"},
    {.name = "range-bytes",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = 1 << 30,
     .fallback = "67108864",
     .help = "of a request: a larger object is read by several"},
    {.name = "into",
     .kind = OPTION_CHOICE,
     .metavar = "WHERE",
     .choices = "nothing|memory",
     .fallback = "nothing",
     .help =
         "nothing: bytes are counted and let go, as with curl's\n/dev/null; memory: they are kept "
         "until their range is whole"},
    {.name = "repeats",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .min = 1,
     .max = ROUNDS_MAX,
     .fallback = "3",
     .help = "rounds: each reads every object once; the first one also\nopens the connections"},
    {.name = "json",
     .kind = OPTION_TEXT,
     .metavar = "[FILE]",
     .help = "alone: the result on stdout, a JSON object, instead of the\ntable; with FILE: every "
             "round, the result and the machine\nthere; - is stdout, without the table"},
    {.name = "profile",
     .kind = OPTION_TEXT,
     .metavar = "NAME",
     .shown = "AWS_PROFILE",
     .help = "a profile of ~/.aws; goes before keys in the environment"},
    {.name = "region",
     .kind = OPTION_TEXT,
     .metavar = "NAME",
     .shown = "AWS_REGION, the profile's",
     .help = "the bucket's region"},
    {.name = "endpoint-url",
     .kind = OPTION_TEXT,
     .metavar = "URL",
     .shown = "AWS_ENDPOINT_URL_S3, AWS's",
     .help = "another server that speaks S3"},
};
#define TABLE_COUNT (sizeof table / sizeof table[0])

struct bench {
    struct option_set set;
    const char *text; /* the URI as it was given */
    struct uri uri;
    int in_flight, round_count;
    const char *json;
    bool results_only;
    struct launch_machine machine;
    char time[LAUNCH_BENCH_TIME_CHARS];
    struct launch_bench_record record;
    struct s3_client *client;
    struct launch_bench_set objects;
    struct launch_bench_s3_round rounds[ROUNDS_MAX];
};

/* --- figures --- */

/* Of a round: what the columns and JSON fields show. */
static const struct figure {
    const char *name, *title;
    int digits;
    bool spread; /* of the result: with _min and _max */
} figures[] = {
    {"mb_per_s", "MB/s", 1, true},          {"objects_per_s", "objects/s", 1, true},
    {"cpu_s_per_gb", "CPU s/GB", 3, true},  {"cpu_ms_per_object", "CPU ms/obj", 3, true},
    {"request_ms", "request ms", 2, false}, {"request_ms_p95", "p95 ms", 2, false},
};
#define FIGURE_COUNT (sizeof figures / sizeof figures[0])

static double figure(const struct bench *b, int round, size_t number)
{
    const struct launch_bench_s3_round *const r = &b->rounds[round];
    const double objects = (double)b->objects.object_count, bytes = (double)b->objects.bytes;
    const double values[FIGURE_COUNT] = {
        bytes / 1e6 / r->seconds, objects / r->seconds, r->cpu_s / (bytes / 1e9),
        1e3 * r->cpu_s / objects, 1e3 * r->request_s,   1e3 * r->request_s_p95,
    };

    return values[number];
}

static struct launch_bench_spread spread(const struct bench *b, size_t number)
{
    double values[ROUNDS_MAX];

    for (int i = 0; i < b->round_count; i++)
        values[i] = figure(b, i, number);
    return launch_bench_spread(values, (size_t)b->round_count);
}

static unsigned long long sum(const struct bench *b, size_t offset)
{
    unsigned long long total = 0;

    for (int i = 0; i < b->round_count; i++)
        total += *(const unsigned long long *)((const char *)&b->rounds[i] + offset);
    return total;
}
#define SUM(b, field) sum(b, offsetof(struct launch_bench_s3_round, field))

/* --- the record --- */

static json_t *object_of(const char *what)
{
    return json_pack("{s:s, s:s}", "bench", "s3", "what", what);
}

static void set_real(json_t *object, const char *name, const char *suffix, double value)
{
    char key[64];

    snprintf(key, sizeof key, "%s%s", name, suffix);
    json_object_set_new(object, key, json_real(value));
}

static void set_count(json_t *object, const char *name, unsigned long long value)
{
    json_object_set_new(object, name, json_integer((json_int_t)value));
}

static int record_setting(struct bench *b, const char *command, struct err *err)
{
    json_t *object;

    if (b->results_only)
        return 0;
    object = object_of("setting");
    json_object_set_new(object, "time", json_string(b->time));
    json_object_set_new(object, "command", json_string(command));
    json_object_set_new(object, "convoy", json_string(CONVOY_VERSION));
    launch_bench_record_machine(object, &b->machine);
    json_object_set_new(object, "uri", json_string(b->text));
    set_count(object, "objects", b->objects.object_count);
    set_count(object, "bytes", b->objects.bytes);
    set_count(object, "in_flight", (unsigned)b->in_flight);
    set_count(object, "range_bytes", b->objects.range_bytes);
    json_object_set_new(object, "into", json_string(option_text(&b->set, "into")));
    return launch_bench_record_line(&b->record, object, err);
}

static int record_round(struct bench *b, int round, struct err *err)
{
    const struct launch_bench_s3_round *const r = &b->rounds[round];
    json_t *object;

    if (b->results_only)
        return 0;
    object = object_of("run");
    set_count(object, "round", (unsigned)round + 1);
    set_real(object, "seconds", "", r->seconds);
    set_real(object, "cpu_s", "", r->cpu_s);
    for (size_t i = 0; i < FIGURE_COUNT; i++)
        set_real(object, figures[i].name, "", figure(b, round, i));
    set_count(object, "requests", r->requests);
    set_count(object, "retries", r->retries);
    set_count(object, "hedged", r->hedged);
    set_count(object, "bytes_in", r->bytes_in);
    return launch_bench_record_line(&b->record, object, err);
}

static int record_result(struct bench *b, struct err *err)
{
    const bool small = b->objects.bytes / b->objects.object_count < SMALL_BYTES;
    json_t *const object = object_of(small ? "get-small" : "get");

    set_count(object, "objects", b->objects.object_count);
    set_count(object, "bytes", b->objects.bytes);
    set_count(object, "in_flight", (unsigned)b->in_flight);
    set_count(object, "range_bytes", b->objects.range_bytes);
    json_object_set_new(object, "into", json_string(option_text(&b->set, "into")));
    set_count(object, "repeats", (unsigned)b->round_count);
    for (size_t i = 0; i < FIGURE_COUNT; i++) {
        const struct launch_bench_spread s = spread(b, i);

        set_real(object, figures[i].name, "", s.median);
        if (figures[i].spread) {
            set_real(object, figures[i].name, "_min", s.min);
            set_real(object, figures[i].name, "_max", s.max);
        }
    }
    set_count(object, "requests", SUM(b, requests));
    set_count(object, "retries", SUM(b, retries));
    set_count(object, "hedged", SUM(b, hedged));
    set_count(object, "bytes_in", SUM(b, bytes_in));
    return launch_bench_record_line(&b->record, object, err);
}

/* --- the table --- */

static void print_row(const char *label, const double *values)
{
    printf("%8s", label);
    for (size_t i = 0; i < FIGURE_COUNT; i++)
        printf(" %10.*f", figures[i].digits, values[i]);
    printf("\n");
}

static void print_table(const struct bench *b)
{
    const struct launch_machine *const m = &b->machine;
    double values[FIGURE_COUNT];
    char label[16];

    printf("%s: %zu object%s, %.1f MB, into %s; %d request%s in flight, of at most %llu bytes\n",
           b->text, b->objects.object_count, b->objects.object_count == 1 ? "" : "s",
           (double)b->objects.bytes / 1e6, option_text(&b->set, "into"), b->in_flight,
           b->in_flight == 1 ? "" : "s", (unsigned long long)b->objects.range_bytes);
    printf("%s: %s, %d core%s\n%s, convoy %s, %s, load %.1f\n\n", m->host, m->cpu, m->cores,
           m->cores == 1 ? "" : "s", m->kernel, CONVOY_VERSION, b->time, m->load);
    printf("%8s", "round");
    for (size_t i = 0; i < FIGURE_COUNT; i++)
        printf(" %10s", figures[i].title);
    printf("\n");
    for (int round = 0; round < b->round_count; round++) {
        snprintf(label, sizeof label, "%d", round + 1);
        for (size_t i = 0; i < FIGURE_COUNT; i++)
            values[i] = figure(b, round, i);
        print_row(label, values);
    }
    for (size_t i = 0; i < FIGURE_COUNT; i++)
        values[i] = spread(b, i).median;
    print_row("median", values);
    printf("\n%llu requests, %llu tried again, %llu asked for twice because they were slow.\n"
           "Requests are signed, and each object's CRC-32C is computed; CPU is this process's.\n",
           SUM(b, requests), SUM(b, retries), SUM(b, hedged));
}

/* --- the run --- */

static int print_help(struct err *err)
{
    struct option_set set = {0};

    printf(
        "convoy bench s3 s3://BUCKET[/PREFIX] [options]\n\n"
        "Reads every object whose key begins with PREFIX, round after round: MB/s, objects/s, and\n"
        "what they cost; each object's CRC-32C is computed, and compared with the first "
        "round's.\n\noptions [default]:\n");
    option_set_init(&set, table, TABLE_COUNT);
    option_set_help(&set, stdout);
    option_set_release(&set);
    return fflush(stdout) == 0 ? 0 : err_set_errno(err, ERR_IO, errno, "cannot write to stdout");
}

static int read_words(struct bench *b, int argc, char *const *argv, struct err *err)
{
    if (argc < 1 || argv[0][0] == '-')
        return err_set(err, ERR_USAGE,
                       "convoy bench s3 needs what to read first: s3://BUCKET[/PREFIX]");
    b->text = argv[0];
    if (launch_s3_uri_parse(&b->uri, b->text, err) < 0 ||
        launch_bench_options_parse(&b->set, argc - 1, argv + 1, &b->json, &b->results_only, err) <
            0)
        return -1;
    b->in_flight = (int)option_integer(&b->set, "requests");
    b->round_count = (int)option_integer(&b->set, "repeats");
    return 0;
}

static int open_all(struct bench *b, struct err *err)
{
    const struct s3_client_options options = {.profile = option_text(&b->set, "profile"),
                                              .region = option_text(&b->set, "region"),
                                              .endpoint = option_text(&b->set, "endpoint-url")};

    launch_bench_time(b->time);
    launch_machine_read(&b->machine);
    if (s3_client_open(&b->client, &options, err) < 0 ||
        launch_bench_set_list(&b->objects, b->client, &b->uri,
                              (uint64_t)option_integer(&b->set, "range-bytes"), err) < 0)
        return -1;
    b->objects.into_memory = strcmp(option_text(&b->set, "into"), "memory") == 0;
    return launch_bench_record_open(&b->record, b->json, b->results_only, err);
}

static int measure(struct bench *b, const char *command, struct err *err)
{
    launch_bench_warn_of_load(&b->machine);
    if (record_setting(b, command, err) < 0)
        return -1;
    for (int round = 0; round < b->round_count; round++)
        if (launch_bench_s3_round_run(&b->objects, b->in_flight, &b->rounds[round], err) < 0 ||
            record_round(b, round, err) < 0)
            return -1;
    if (b->record.file != stdout)
        print_table(b);
    if (fflush(stdout) != 0 || ferror(stdout))
        return err_set_errno(err, ERR_IO, errno, "cannot write the table to stdout");
    return record_result(b, err);
}

int launch_bench_s3(int argc, char *const *argv, const char *program, int *status, struct err *err)
{
    struct bench *b;
    struct buf command = {0};
    int rc = -1;

    (void)program, (void)status;
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return print_help(err);
    b = calloc(1, sizeof *b);
    if (b == NULL)
        abort();
    option_set_init(&b->set, table, TABLE_COUNT);
    launch_bench_show_command("s3", argc, argv, &command);
    if (read_words(b, argc, argv, err) == 0 && open_all(b, err) == 0)
        rc = measure(b, buf_text(&command), err);
    launch_bench_record_close(&b->record);
    launch_bench_set_release(&b->objects);
    s3_client_close(b->client);
    uri_release(&b->uri);
    option_set_release(&b->set);
    buf_release(&command);
    free(b);
    return rc;
}
