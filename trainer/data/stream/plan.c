#include "trainer/data/stream/plan.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>

#include "trainer/data/index/index.h"
#include "trainer/data/index/shard.h"

/* Between two pictures that are neighbours in a tar: padding, the class member's header and block,
 * the second picture's header. With a whole picture between them it is a block more at least. */
#define GAP_BYTES_MAX (TAR_BLOCK - 1 + 3 * TAR_BLOCK)

/* A sample while the group is sorted. */
struct wanted {
    uint32_t file, place;
    uint64_t offset;
    uint32_t bytes;
    bool cached;
};

static int by_offset(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;

    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

static int by_need(const void *a, const void *b)
{
    const uint32_t x = ((const struct data_plan_range *)a)->need,
                   y = ((const struct data_plan_range *)b)->need;

    return x < y ? -1 : x > y;
}

static bool continues(const struct data_plan_range *range, const struct wanted *next,
                      uint64_t range_bytes)
{
    const uint64_t end = range->offset + range->length;

    return range->file == next->file && range->cached == next->cached && next->offset >= end &&
           next->offset - end <= GAP_BYTES_MAX &&
           next->offset + next->bytes - range->offset <= range_bytes;
}

static void add(struct data_plan *plan, const struct wanted *next, uint32_t number, bool sharded,
                uint64_t range_bytes)
{
    struct data_plan_range *range =
        plan->range_count > 0 ? &plan->ranges[plan->range_count - 1] : NULL;

    plan->by_file[number] = next->place;
    if (range == NULL || !sharded || !continues(range, next, range_bytes)) {
        plan->ranges[plan->range_count++] = (struct data_plan_range){.first = number,
                                                                     .count = 1,
                                                                     .need = next->place,
                                                                     .file = next->file,
                                                                     .offset = next->offset,
                                                                     .length = next->bytes,
                                                                     .bytes = next->bytes,
                                                                     .cached = next->cached};
        return;
    }
    range->count++;
    range->need = next->place < range->need ? next->place : range->need;
    range->length = next->offset + next->bytes - range->offset;
    range->bytes += next->bytes;
}

void data_plan_init(struct data_plan *plan, const struct data_index *index,
                    const struct data_sample *samples, const bool *cached, uint32_t count,
                    uint64_t range_bytes)
{
    struct wanted *wanted = calloc((size_t)count + 1, sizeof *wanted);

    *plan = (struct data_plan){
        .by_file = calloc((size_t)count + 1, sizeof *plan->by_file),
        .ranges = calloc((size_t)count + 1, sizeof *plan->ranges),
    };
    if (wanted == NULL || plan->by_file == NULL || plan->ranges == NULL)
        abort();
    for (uint32_t i = 0; i < count; i++) {
        wanted[i] = (struct wanted){.file = samples[i].file,
                                    .place = i,
                                    .offset = samples[i].offset,
                                    .bytes = samples[i].bytes,
                                    .cached = cached != NULL && cached[i]};
    }
    if (index->sharded)
        qsort(wanted, count, sizeof *wanted, by_offset);
    for (uint32_t i = 0; i < count; i++)
        add(plan, &wanted[i], i, index->sharded, range_bytes);
    qsort(plan->ranges, plan->range_count, sizeof *plan->ranges, by_need);
    free(wanted);
}

void data_plan_release(struct data_plan *plan)
{
    free(plan->by_file);
    free(plan->ranges);
    *plan = (struct data_plan){0};
}
