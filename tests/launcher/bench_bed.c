#include "tests/launcher/bench_bed.h"

#include <string.h>

static void fill(struct bench_bed *bed, size_t at, enum launch_bench_mode mode, int count)
{
    static const double of_round[BENCH_BED_ROUNDS] = {1, 0.95, 1.05};
    const double of_way[LAUNCH_BENCH_WAYS] = {count > 1 ? 90 : 100, count > 1 ? 96 : 100};
    struct launch_bench_point *const point = &bed->points[at];

    *point =
        (struct launch_bench_point){.mode = mode,
                                    .hosts = count,
                                    .ranks = 2 * count,
                                    .global_batch = mode == LAUNCH_BENCH_WEAK ? 64 * count : 512,
                                    .micro_batch = 32};
    for (size_t way = 0; way < LAUNCH_BENCH_WAYS; way++) {
        point->samples[way] = bed->samples[at][way];
        for (size_t round = 0; round < BENCH_BED_ROUNDS; round++)
            bed->samples[at][way][round] =
                (struct launch_bench_sample){.images_per_s = of_way[way] * of_round[round] * count,
                                             .seconds = 2,
                                             .ranks_s = 0.02,
                                             .exchange_s = 0.1,
                                             .input_s = 0.04,
                                             .imbalance = 0.03};
    }
}

void bench_bed_init(struct bench_bed *bed, const int *counts, bool weak, bool strong)
{
    struct launch_bench_options *const o = &bed->options;
    size_t points = 0;

    memset(bed, 0, sizeof *bed);
    *o = (struct launch_bench_options){.weak = weak,
                                       .strong = strong,
                                       .by_hosts = true,
                                       .ranks_per_host = 2,
                                       .micro_batch = 32,
                                       .batch_per_rank = 32,
                                       .global_batch = 512,
                                       .steps = 10,
                                       .rounds = BENCH_BED_ROUNDS,
                                       .model = "resnet18"};
    while (counts[o->count_count] > 0) {
        o->counts[o->count_count] = counts[o->count_count];
        o->count_count++;
    }
    for (int i = 0; weak && i < o->count_count; i++)
        fill(bed, points++, LAUNCH_BENCH_WEAK, counts[i]);
    for (int i = 0; strong && i < o->count_count; i++)
        fill(bed, points++, LAUNCH_BENCH_STRONG, counts[i]);
    bed->machine = (struct launch_machine){.host = "node-1",
                                           .cpu = "A CPU @ 3.00GHz",
                                           .cores = 8,
                                           .load = 0.1,
                                           .kernel = "Linux 6.1.0 x86_64"};
    bed->report = (struct launch_bench_report){.options = o,
                                               .machine = &bed->machine,
                                               .points = bed->points,
                                               .count = points,
                                               .image_size = 224,
                                               .threads = 4,
                                               .version = "0.1.0",
                                               .time = "2026-11-22T04:00:00Z"};
}
