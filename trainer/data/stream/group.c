#include "trainer/data/stream/group.h"

#include <assert.h>
#include <stdlib.h>

#include "base/err.h"
#include "trainer/data/cache/cache.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/order.h"

/* A window has 4096 at most (order.h); an evaluation is one window however long it is. */
#define PLACES_MAX 65536

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
    free(group->entries);
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

/* --- what the index says of the samples --- */

static int look_up(const struct data_group_cut *cut, uint64_t sample, struct data_sample *entry,
                   struct err *err)
{
    if (data_index_hold(cut->index, sample, cut->cancel, err) < 0)
        return -1;
    *entry = *data_index_sample(cut->index, sample);
    if (cut->index->pages != NULL)
        entry->key = NULL; /* it goes with its page */
    data_index_drop(cut->index, sample);
    return 0;
}

/* A sample while they are sorted. */
struct wanted {
    uint64_t sample;
    uint32_t at;
};

static int by_sample(const void *a, const void *b)
{
    const uint64_t x = ((const struct wanted *)a)->sample, y = ((const struct wanted *)b)->sample;

    return x < y ? -1 : x > y;
}

/* The first sample, and then the others by their number, so that each page is wanted once however
 * many there are. Returns how many from the first on could be had; 0: err says why. */
static uint32_t look_up_paged(const struct data_group_cut *cut, const struct data_group *group,
                              uint32_t count, struct err *err)
{
    struct wanted *const wanted = calloc(count, sizeof *wanted);
    struct err later = {0};
    uint32_t had = count;
    int rc = 0;

    if (wanted == NULL)
        abort();
    for (uint32_t i = 0; i < count; i++)
        wanted[i] = (struct wanted){group->samples[i], i};
    qsort(wanted + 1, count - 1, sizeof *wanted, by_sample);
    for (uint32_t i = 0; i < count; i++) {
        if (rc == 0)
            rc = look_up(cut, wanted[i].sample, &group->entries[wanted[i].at],
                         i == 0 ? err : &later);
        if (rc < 0 && wanted[i].at < had)
            had = wanted[i].at;
    }
    free(wanted);
    return had;
}

/* The samples from the place on, up to the window's end or the lane's, and what is known of them.
 * -1: not even the first could be had. */
static int gather(struct data_group *group, const struct data_group_cut *cut, struct err *err)
{
    const uint64_t window_end = (cut->place / cut->window + 1) * cut->window;
    const uint64_t end = window_end < cut->places ? window_end : cut->places;
    const uint32_t most = (uint32_t)(end - cut->place < PLACES_MAX ? end - cut->place : PLACES_MAX);
    uint64_t bytes = 0;

    assert(cut->place < cut->places);
    group->samples = calloc(most, sizeof *group->samples);
    group->entries = calloc(most, sizeof *group->entries);
    if (group->samples == NULL || group->entries == NULL)
        abort();
    for (uint32_t i = 0; i < most; i++)
        group->samples[i] = sample_at(cut, cut->place + i);
    group->count = most;
    if (cut->index->pages != NULL)
        group->count = look_up_paged(cut, group, most, err);
    for (uint32_t i = 0; i < group->count; i++) {
        if (cut->index->pages == NULL)
            group->entries[i] = cut->index->samples[group->samples[i]];
        bytes += group->entries[i].bytes;
        if (i > 0 && bytes > cut->bytes_max)
            group->count = i;
    }
    return group->count > 0 ? 0 : -1;
}

/* --- ranges --- */

/* What the cache has is no part of what is read from S3. */
static void plan(struct data_group *group, const struct data_group_cut *cut)
{
    bool *const cached = calloc(group->count, sizeof *cached);

    if (cached == NULL)
        abort();
    if (cut->cache != NULL)
        data_cache_look(cut->cache, group->samples, group->count, cached);
    data_plan_init(&group->plan, cut->index, group->entries, cached, group->count,
                   cut->range_bytes);
    free(cached);
}

/* The first place alone, as a range that is of no bytes. */
static void plan_failure(struct data_group *group)
{
    group->count = 1;
    group->failed = true;
    group->begun = 1;
    group->plan = (struct data_plan){.by_file = calloc(1, sizeof *group->plan.by_file),
                                     .ranges = calloc(1, sizeof *group->plan.ranges),
                                     .range_count = 1};
    if (group->plan.by_file == NULL || group->plan.ranges == NULL)
        abort();
    group->plan.ranges[0].count = 1;
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

/* It is told when its turn comes. */
static void keep_failure(struct data_group *group, const struct err *err)
{
    group->states[0] = DATA_RANGE_FAILED;
    group->errs[0] = malloc(sizeof *err);
    if (group->errs[0] == NULL)
        abort();
    *group->errs[0] = *err;
}

struct data_group *data_group_new(const struct data_group_cut *cut)
{
    struct data_group *group = calloc(1, sizeof *group);
    struct err err = {0};

    if (group == NULL)
        abort();
    group->epoch = cut->epoch;
    group->begin = cut->place;
    if (gather(group, cut, &err) == 0)
        plan(group, cut);
    else
        plan_failure(group);
    group->data = calloc(group->count, sizeof *group->data);
    group->range_of = calloc(group->count, sizeof *group->range_of);
    group->states = calloc(group->plan.range_count, sizeof *group->states);
    group->errs = calloc(group->plan.range_count, sizeof(struct err *));
    if (group->data == NULL || group->range_of == NULL || group->states == NULL ||
        group->errs == NULL)
        abort();
    number_ranges(group);
    if (group->failed)
        keep_failure(group, &err);
    return group;
}

const struct err *data_group_failure(const struct data_group *group)
{
    return group->failed ? group->errs[0] : NULL;
}
