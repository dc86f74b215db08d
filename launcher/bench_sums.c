#include "launcher/bench_sums.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "launcher/local.h"
#include "launcher/outcome.h"

#define SHOWN_BYTES 60
#define ROUNDS_MAX  1000 /* as --repeats */

void launch_bench_sums_release(struct launch_bench_sums *sums)
{
    free(sums->of);
    *sums = (struct launch_bench_sums){0};
}

static struct launch_bench_sum *sum_at(const struct launch_bench_sums *sums, int size, int way,
                                       int round)
{
    const size_t at = (size_t)size * (size_t)sums->way_count + (size_t)way;

    return &sums->of[at * (size_t)sums->rounds + (size_t)round];
}

/* --- reading --- */

static bool take_sizes(struct launch_bench_sums *sums, const json_t *bytes)
{
    sums->size_count = (int)json_array_size(bytes);
    if (sums->size_count < 1 || sums->size_count > LAUNCH_BENCH_SIZES_MAX)
        return false;
    for (int i = 0; i < sums->size_count; i++) {
        const json_int_t n = json_integer_value(json_array_get(bytes, (size_t)i));

        if (n < 1)
            return false;
        sums->bytes[i] = (size_t)n;
    }
    return true;
}

static bool take_ways(struct launch_bench_sums *sums, const json_t *names)
{
    sums->way_count = (int)json_array_size(names);
    if (sums->way_count < LAUNCH_BENCH_FORCED || sums->way_count > LAUNCH_BENCH_WAYS_MAX)
        return false;
    for (int i = 0; i < sums->way_count; i++) {
        const char *const name = json_string_value(json_array_get(names, (size_t)i));

        if (name == NULL || strlen(name) >= LAUNCH_BENCH_NAME_MAX)
            return false;
        memcpy(sums->names[i], name, strlen(name) + 1);
    }
    return true;
}

static int count_of(const json_t *line, const char *key)
{
    const json_int_t n = json_integer_value(json_object_get(line, key));

    return n > 0 && n <= 1 << 30 ? (int)n : 0;
}

static bool take_setting(struct launch_bench_sums *sums, const json_t *line)
{
    const char *const mpi = json_string_value(json_object_get(line, "mpi"));

    sums->ranks = count_of(line, "ranks");
    sums->hosts = count_of(line, "hosts");
    sums->threads = count_of(line, "threads");
    sums->rounds = count_of(line, "rounds");
    sums->bucket_bytes = (size_t)count_of(line, "bucket_bytes");
    sums->yields = json_is_true(json_object_get(line, "yield_when_idle"));
    snprintf(sums->mpi, sizeof sums->mpi, "%s", mpi == NULL ? "" : mpi);
    if (sums->hosts == 0 || sums->rounds == 0 || sums->rounds > ROUNDS_MAX || sums->threads == 0 ||
        mpi == NULL || !take_sizes(sums, json_object_get(line, "bytes")) ||
        !take_ways(sums, json_object_get(line, "algorithms")))
        return false;
    return true;
}

static bool is_figure(const json_t *line, const char *key, double *value)
{
    const json_t *const number = json_object_get(line, key);

    *value = json_number_value(number);
    return json_is_number(number) && isfinite(*value) && *value >= 0;
}

static bool take_sum(struct launch_bench_sums *sums, const json_t *line)
{
    const json_int_t bytes = json_integer_value(json_object_get(line, "bytes"));
    const json_t *const round_number = json_object_get(line, "round");
    const json_int_t round = json_integer_value(round_number);
    const char *const name = json_string_value(json_object_get(line, "algorithm"));
    struct launch_bench_sum sum = {0};
    int size = 0, way = 0;

    while (size < sums->size_count && (json_int_t)sums->bytes[size] != bytes)
        size++;
    while (way < sums->way_count && (name == NULL || strcmp(sums->names[way], name) != 0))
        way++;
    if (size == sums->size_count || way == sums->way_count || !json_is_integer(round_number) ||
        round < 0 || round > sums->rounds || !is_figure(line, "seconds", &sum.seconds) ||
        !is_figure(line, "cpu_s", &sum.cpu_s) || sum.seconds == 0 ||
        (way == LAUNCH_BENCH_OURS && !is_figure(line, "exchange_cpu_s", &sum.exchange_cpu_s)))
        return false;
    if (round > 0) /* round 0 was a trial */
        *sum_at(sums, size, way, (int)round - 1) = sum;
    return true;
}

static bool take_line(struct launch_bench_sums *sums, const char *text)
{
    struct err ignored = {0};
    json_t *const line = json_read_text(text, strlen(text), "a line", &ignored);
    const char *const event = json_string_value(json_object_get(line, "event"));
    bool taken = false;

    if (event != NULL && sums->of == NULL && strcmp(event, "comm") == 0) {
        taken = take_setting(sums, line);
        if (taken)
            sums->of = calloc((size_t)sums->size_count * (size_t)sums->way_count *
                                  (size_t)(sums->rounds + 1),
                              sizeof *sums->of);
        if (taken && sums->of == NULL)
            abort();
    } else if (event != NULL && sums->of != NULL && strcmp(event, "comm-sum") == 0) {
        taken = take_sum(sums, line);
    }
    json_decref(line);
    return taken;
}

/* A way has all rounds at a size or none; ours and MPI_Allreduce as it comes have all. */
static bool is_complete(const struct launch_bench_sums *sums)
{
    for (int size = 0; size < sums->size_count; size++)
        for (int way = 0; way < sums->way_count; way++) {
            int measured = 0;

            for (int round = 0; round < sums->rounds; round++)
                measured += sum_at(sums, size, way, round)->seconds > 0;
            if (measured < sums->rounds && (measured > 0 || way < LAUNCH_BENCH_FORCED))
                return false;
        }
    return true;
}

int launch_bench_sums_read(struct launch_bench_sums *sums, struct buf *lines, int ranks, int rounds,
                           struct err *err)
{
    char *rest = buf_text(lines), shown[LAUNCH_FAILURE_BYTES];

    *sums = (struct launch_bench_sums){0};
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (line[0] == '\0' || take_line(sums, line))
            continue;
        launch_local_clean(shown, line, strnlen(line, SHOWN_BYTES));
        return err_set(err, ERR_INTERNAL, "it printed '%s' where its figures should be", shown);
    }
    if (sums->of == NULL)
        return err_set(err, ERR_INTERNAL, "it printed no figures");
    if (sums->ranks != ranks || sums->rounds != rounds)
        return err_set(err, ERR_INTERNAL, "it ran %d rounds on %d ranks, not %d on %d",
                       sums->rounds, sums->ranks, rounds, ranks);
    if (!is_complete(sums))
        return err_set(err, ERR_INTERNAL, "its figures are not complete");
    return 0;
}

/* --- what they come to --- */

bool launch_bench_sums_measured(const struct launch_bench_sums *sums, int size, int way)
{
    return sum_at(sums, size, way, 0)->seconds > 0;
}

enum measure { SECONDS, OURS_BY_THIS, CPU, EXCHANGE_CPU };

static double figure(const struct launch_bench_sums *sums, int size, int way, int round,
                     enum measure measure)
{
    const struct launch_bench_sum *const sum = sum_at(sums, size, way, round);
    const double ms_per_mb = 1e9 / (double)sums->bytes[size];

    switch (measure) {
    case SECONDS:
        return sum->seconds;
    case OURS_BY_THIS:
        return sum_at(sums, size, LAUNCH_BENCH_OURS, round)->seconds / sum->seconds;
    case CPU:
        return sum->cpu_s * ms_per_mb;
    case EXCHANGE_CPU:
        return sum->exchange_cpu_s * ms_per_mb;
    }
    return 0;
}

static struct launch_bench_spread spread(const struct launch_bench_sums *sums, int size, int way,
                                         enum measure measure)
{
    double *const x = calloc((size_t)sums->rounds, sizeof *x);
    struct launch_bench_spread found;

    if (x == NULL)
        abort();
    for (int round = 0; round < sums->rounds; round++)
        x[round] = figure(sums, size, way, round, measure);
    found = launch_bench_spread(x, (size_t)sums->rounds);
    free(x);
    return found;
}

struct launch_bench_sums_summary launch_bench_sums_summarise(const struct launch_bench_sums *sums,
                                                             int size, int way)
{
    return (struct launch_bench_sums_summary){.seconds = spread(sums, size, way, SECONDS),
                                              .ours = spread(sums, size, way, OURS_BY_THIS),
                                              .cpu_ms_per_mb = spread(sums, size, way, CPU),
                                              .exchange_cpu_ms_per_mb =
                                                  spread(sums, size, way, EXCHANGE_CPU)};
}

int launch_bench_sums_best(const struct launch_bench_sums *sums, int size)
{
    double least = INFINITY;
    int best = -1;

    for (int way = LAUNCH_BENCH_FORCED; way < sums->way_count; way++) {
        const double median = launch_bench_sums_measured(sums, size, way)
                                  ? spread(sums, size, way, SECONDS).median
                                  : INFINITY;

        if (median < least) {
            least = median;
            best = way;
        }
    }
    return best;
}

double launch_bench_sums_bound(const struct launch_bench_sums *sums, int size,
                               double link_bytes_per_s)
{
    const double share = 2.0 * (sums->hosts - 1) / sums->hosts;

    return share * (double)sums->bytes[size] / (LAUNCH_BENCH_GOODPUT * link_bytes_per_s);
}
