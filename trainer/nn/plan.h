/*
 * trainer/nn/plan.h -- which buffers may share memory: each is needed for a span of time only.
 *
 * Source: Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020:
 * greedy by size. The largest buffer is placed first, each at the lowest place where no buffer
 * placed before is needed at the same time.
 */
#ifndef NN_PLAN_H
#define NN_PLAN_H

#include <stddef.h>

struct nn_plan_buffer {
    size_t floats;
    int first, last; /* the steps at which it is needed, both included; first > last: never, and it
                        gets no place */
    size_t offset;   /* out: floats from the start of the memory */
};

/** Give every buffer its place. Returns the floats of memory that all need together. */
size_t nn_plan_place(struct nn_plan_buffer *buffers, int count);

#endif
