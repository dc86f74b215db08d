#include "launcher/bench_point.h"

#include <assert.h>
#include <stdlib.h>

const char *launch_bench_mode_name(enum launch_bench_mode mode)
{
    return mode == LAUNCH_BENCH_WEAK ? "weak" : "strong";
}

const char *launch_bench_way_name(enum launch_bench_way way)
{
    return way == LAUNCH_BENCH_TOGETHER ? "exchange" : "side-by-side";
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

struct launch_bench_spread launch_bench_spread(double *x, size_t count)
{
    assert(count > 0);
    qsort(x, count, sizeof *x, by_size);
    return (struct launch_bench_spread){
        .median = (x[(count - 1) / 2] + x[count / 2]) / 2, .min = x[0], .max = x[count - 1]};
}

enum figure {
    RATE,
    RATE_SIDE_BY_SIDE,
    SPEEDUP,
    EFFICIENCY,
    EFFICIENCY_SIDE_BY_SIDE,
    RANKS,
    EXCHANGE,
    INPUT,
    IMBALANCE,
    SECONDS,
    FIGURES
};

static void find_figures(const struct launch_bench_point *point,
                         const struct launch_bench_point *baseline, size_t round, double x[FIGURES])
{
    const struct launch_bench_sample *const s = &point->samples[LAUNCH_BENCH_TOGETHER][round];

    x[RATE] = s->images_per_s;
    x[RATE_SIDE_BY_SIDE] = point->samples[LAUNCH_BENCH_SIDE_BY_SIDE][round].images_per_s;
    x[SPEEDUP] = x[RATE] / baseline->samples[LAUNCH_BENCH_TOGETHER][round].images_per_s;
    x[EFFICIENCY] = x[SPEEDUP] * baseline->ranks / point->ranks;
    x[EFFICIENCY_SIDE_BY_SIDE] = x[RATE] / x[RATE_SIDE_BY_SIDE];
    x[RANKS] = s->ranks_s / s->seconds;
    x[EXCHANGE] = s->exchange_s / s->seconds;
    x[INPUT] = s->input_s / s->seconds;
    x[IMBALANCE] = s->imbalance;
    x[SECONDS] = s->seconds;
}

struct launch_bench_summary launch_bench_summarise(const struct launch_bench_point *point,
                                                   const struct launch_bench_point *baseline,
                                                   int rounds)
{
    const size_t count = (size_t)rounds;
    double *all = malloc(FIGURES * count * sizeof *all), x[FIGURES]; /* all: (FIGURES, count) */
    struct launch_bench_spread spreads[FIGURES];

    if (all == NULL)
        abort();
    for (size_t round = 0; round < count; round++) {
        find_figures(point, baseline, round, x);
        for (size_t f = 0; f < FIGURES; f++)
            all[f * count + round] = x[f];
    }
    for (size_t f = 0; f < FIGURES; f++)
        spreads[f] = launch_bench_spread(all + f * count, count);
    free(all);
    return (struct launch_bench_summary){.images_per_s = spreads[RATE],
                                         .side_by_side = spreads[RATE_SIDE_BY_SIDE],
                                         .speedup = spreads[SPEEDUP],
                                         .efficiency = spreads[EFFICIENCY],
                                         .efficiency_side_by_side =
                                             spreads[EFFICIENCY_SIDE_BY_SIDE],
                                         .ranks_share = spreads[RANKS],
                                         .exchange_share = spreads[EXCHANGE],
                                         .input_share = spreads[INPUT],
                                         .imbalance = spreads[IMBALANCE],
                                         .seconds = spreads[SECONDS]};
}

/* The mean rank's share of what the busiest one has to do. */
static double evenness(const struct launch_bench_point *point)
{
    const int lanes = (point->global_batch + point->micro_batch - 1) / point->micro_batch;
    const int busiest = (lanes + point->ranks - 1) / point->ranks;

    return (double)lanes / ((double)busiest * point->ranks);
}

double launch_bench_limit(const struct launch_bench_point *point,
                          const struct launch_bench_point *baseline)
{
    return evenness(point) / evenness(baseline);
}
