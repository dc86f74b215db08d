#include "trainer/data/group.h"

#include <assert.h>
#include <stdlib.h>

#include "trainer/data/cache.h"
#include "trainer/data/index.h"
#include "trainer/data/order.h"

void data_group_free(struct data_group *group)
{
    if (group == NULL)
        return;
    for (uint32_t i = 0; i < group->count; i++)
        free(group->data[i]);
    for (size_t i = 0; i < group->plan.range_count; i++)
        free(group->errs[i]);
    data_plan_release(&group->plan);
    free(group->samples);
    free(group->data);
    free(group->range_of);
    free(group->states);
    free(group->errs);
    free(group);
}

static uint64_t sample_at(const struct data_group_cut *cut, uint64_t place)
{
    if (cut->order == NULL)
        return cut->sample_begin + place;
    return data_order_place_sample(cut->order, cut->epoch, cut->lane, place);
}

static void gather(struct data_group *group, const struct data_group_cut *cut)
{
    const uint64_t window_end = (cut->place / cut->window + 1) * cut->window;
    const uint64_t end = window_end < cut->places ? window_end : cut->places;
    uint64_t bytes = 0;

    assert(cut->place < cut->places);
    group->samples = calloc((size_t)(end - cut->place), sizeof *group->samples);
    if (group->samples == NULL)
        abort();
    for (uint64_t place = cut->place; place < end; place++) {
        const uint64_t sample = sample_at(cut, place);

        bytes += cut->index->samples[sample].bytes;
        if (group->count > 0 && bytes > cut->bytes_max)
            break;
        group->samples[group->count++] = sample;
    }
}

/* Which range each sample is in. */
static void number_ranges(struct data_group *group)
{
    for (size_t r = 0; r < group->plan.range_count; r++) {
        const struct data_plan_range *range = &group->plan.ranges[r];

        for (uint32_t i = 0; i < range->count; i++)
            group->range_of[group->plan.by_file[range->first + i]] = (uint32_t)r;
    }
}

/* What the cache has is no part of what is read from S3. */
static void plan(struct data_group *group, const struct data_group_cut *cut)
{
    bool *const cached = calloc(group->count, sizeof *cached);

    if (cached == NULL)
        abort();
    if (cut->cache != NULL)
        data_cache_look(cut->cache, group->samples, group->count, cached);
    data_plan_init(&group->plan, cut->index, group->samples, cached, group->count,
                   cut->range_bytes);
    free(cached);
}

struct data_group *data_group_new(const struct data_group_cut *cut)
{
    struct data_group *group = calloc(1, sizeof *group);

    if (group == NULL)
        abort();
    group->epoch = cut->epoch;
    group->begin = cut->place;
    gather(group, cut);
    plan(group, cut);
    group->data = calloc(group->count, sizeof *group->data);
    group->range_of = calloc(group->count, sizeof *group->range_of);
    group->states = calloc(group->plan.range_count, sizeof *group->states);
    group->errs = calloc(group->plan.range_count, sizeof(struct err *));
    if (group->data == NULL || group->range_of == NULL || group->states == NULL ||
        group->errs == NULL)
        abort();
    number_ranges(group);
    return group;
}
