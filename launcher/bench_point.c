#include "launcher/bench_point.h"

#include <assert.h>
#include <stdlib.h>

const char *launch_bench_mode_name(enum launch_bench_mode mode)
{
    return mode == LAUNCH_BENCH_WEAK ? "weak" : "strong";
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

static double rate(const struct launch_bench_sample *sample)
{
    return sample->images_per_s;
}

struct launch_bench_summary launch_bench_summarise(const struct launch_bench_point *point,
                                                   const struct launch_bench_point *baseline,
                                                   int rounds)
{
    const double more = (double)point->ranks / baseline->ranks;
    const size_t count = (size_t)rounds;
    double *x = malloc(count * sizeof *x);
    struct launch_bench_summary s = {0};

    if (x == NULL)
        abort();
    for (size_t i = 0; i < count; i++)
        x[i] = rate(&point->samples[i]);
    s.images_per_s = launch_bench_spread(x, count);
    for (size_t i = 0; i < count; i++)
        x[i] = rate(&point->samples[i]) / rate(&baseline->samples[i]);
    s.speedup = launch_bench_spread(x, count);
    s.efficiency = (struct launch_bench_spread){.median = s.speedup.median / more,
                                                .min = s.speedup.min / more,
                                                .max = s.speedup.max / more};
    for (size_t i = 0; i < count; i++)
        x[i] = point->samples[i].exchange_s / point->samples[i].seconds;
    s.exchange_share = launch_bench_spread(x, count);
    free(x);
    return s;
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
