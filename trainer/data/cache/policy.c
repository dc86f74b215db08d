#include "trainer/data/cache/policy.h"

#include <assert.h>

#include "trainer/data/index/order.h"

/* A run of places of an epoch's sequence, or of samples of an index. */
struct run {
    uint64_t begin, end;
};

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static struct run both(struct run a, struct run b)
{
    const struct run run = {larger(a.begin, b.begin), smaller(a.end, b.end)};

    return run.begin < run.end ? run : (struct run){0, 0};
}

uint64_t data_cache_chunks(const struct data_cache_use *use)
{
    return use->samples / use->chunk_samples + (use->samples % use->chunk_samples > 0);
}

/* What this host has of a chunk in an epoch: places of the sequence, or samples. */
static struct run part_of(const struct data_cache_use *use, uint64_t chunk, uint32_t epoch)
{
    struct run lies, has;

    if (use->order == NULL) {
        lies.begin = chunk * use->chunk_samples;
        lies.end = smaller(lies.begin + use->chunk_samples, use->samples);
        has = (struct run){use->sample_begin, use->sample_end};
    } else {
        lies.begin = data_order_chunk_place(use->order, epoch, chunk, &lies.end);
        lies.end += lies.begin;
        has = (struct run){data_order_lane_begin(use->order, use->lane_begin),
                           data_order_lane_begin(use->order, use->lane_end)};
    }
    return both(lies, has);
}

uint64_t data_cache_use_samples(const struct data_cache_use *use, uint64_t chunk, uint32_t epoch)
{
    const struct run part = part_of(use, chunk, epoch);

    return part.end - part.begin;
}

/* The lane that holds a place of the sequence. */
static uint32_t lane_of(const struct data_cache_use *use, uint64_t place)
{
    uint32_t begin = use->lane_begin, end = use->lane_end;

    while (end - begin > 1) {
        const uint32_t middle = begin + (end - begin) / 2;

        if (data_order_lane_begin(use->order, middle) <= place)
            begin = middle;
        else
            end = middle;
    }
    return begin;
}

/* The steps that a run of places is read for: those of its windows, one of each lane it lies in. */
static struct data_cache_span steps_of(const struct data_cache_use *use, struct run part)
{
    const uint64_t window = data_order_window_places(use->order);
    struct data_cache_span span = {DATA_CACHE_NEVER, 0};

    while (part.begin < part.end) {
        const uint32_t lane = lane_of(use, part.begin);
        const uint64_t lane_begin = data_order_lane_begin(use->order, lane),
                       places = data_order_lane_places(use->order, lane),
                       first = (part.begin - lane_begin) / window * window,
                       end = smaller(first + window, places);

        assert(part.begin - lane_begin < places);
        span.begin = smaller(span.begin, data_order_place_step(use->order, lane, first));
        span.end = larger(span.end, data_order_place_step(use->order, lane, end - 1));
        part.begin = smaller(part.end, lane_begin + end);
    }
    return span;
}

static struct data_cache_span use_in(const struct data_cache_use *use, uint64_t chunk,
                                     uint32_t epoch)
{
    const struct run part = part_of(use, chunk, epoch);
    struct data_cache_span span = {use->epoch_ticks - 1, use->epoch_ticks - 1};

    if (part.begin == part.end)
        return (struct data_cache_span){DATA_CACHE_NEVER, DATA_CACHE_NEVER};
    if (use->order != NULL)
        span = steps_of(use, part);
    span.begin += epoch * use->epoch_ticks;
    span.end += epoch * use->epoch_ticks;
    return span;
}

/* Ticks that a rank may be behind another. */
static uint64_t slack(const struct data_cache_use *use)
{
    if (use->order == NULL || use->lane_begin == use->lane_end)
        return 0;
    return data_order_place_step(use->order, use->lane_begin, data_order_window_places(use->order));
}

struct data_cache_span data_cache_next_use(const struct data_cache_use *use, uint64_t chunk,
                                           uint32_t from, uint64_t now)
{
    const uint64_t begin = use->at_end ? use->epoch_end - 1 : larger(from, now / use->epoch_ticks);

    if (use->at_end && from >= use->epoch_end)
        return (struct data_cache_span){DATA_CACHE_NEVER, DATA_CACHE_NEVER};
    for (uint64_t e = begin; e < smaller(use->epoch_end, begin + DATA_CACHE_HORIZON); e++) {
        const struct data_cache_span span = use_in(use, chunk, (uint32_t)e);

        if (span.begin != DATA_CACHE_NEVER && span.end + slack(use) >= now)
            return span;
    }
    return (struct data_cache_span){DATA_CACHE_NEVER, DATA_CACHE_NEVER};
}
