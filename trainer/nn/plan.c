#include "trainer/nn/plan.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "trainer/nn/kernel/size.h"

#define ALIGN_FLOATS 16 /* a cache line */

static int by_size(const void *a, const void *b)
{
    const struct nn_plan_buffer *left = *(struct nn_plan_buffer *const *)a;
    const struct nn_plan_buffer *right = *(struct nn_plan_buffer *const *)b;

    if (left->floats != right->floats)
        return left->floats < right->floats ? 1 : -1;
    return left < right ? -1 : 1;
}

static size_t end_of(const struct nn_plan_buffer *buffer)
{
    return buffer->offset + nn_size_round_up(buffer->floats, ALIGN_FLOATS);
}

static bool collide(const struct nn_plan_buffer *a, const struct nn_plan_buffer *b)
{
    return a->first <= b->last && b->first <= a->last && a->offset < end_of(b) &&
           b->offset < end_of(a);
}

/* Move up behind each buffer in the way until none is. */
static void place(struct nn_plan_buffer *buffer, struct nn_plan_buffer *const *placed, int count)
{
    bool moved = true;

    buffer->offset = 0;
    while (moved) {
        size_t next = SIZE_MAX;

        moved = false;
        for (int i = 0; i < count; i++) {
            if (collide(buffer, placed[i])) {
                next = end_of(placed[i]) < next ? end_of(placed[i]) : next;
                moved = true;
            }
        }
        if (moved)
            buffer->offset = next;
    }
}

size_t nn_plan_place(struct nn_plan_buffer *buffers, int count)
{
    struct nn_plan_buffer **order = calloc((size_t)count + 1, sizeof(struct nn_plan_buffer *));
    size_t floats = 0;
    int placed = 0;

    if (order == NULL)
        abort();
    for (int i = 0; i < count; i++)
        if (buffers[i].first <= buffers[i].last)
            order[placed++] = &buffers[i];
    qsort(order, (size_t)placed, sizeof(struct nn_plan_buffer *), by_size);
    for (int i = 0; i < placed; i++) {
        place(order[i], order, i);
        floats = end_of(order[i]) > floats ? end_of(order[i]) : floats;
    }
    free(order);
    return floats;
}
