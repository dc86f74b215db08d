/*
 * trainer/nn/kernel/size.h -- arithmetic with sizes. In the header, since loops over rows use it.
 */
#ifndef NN_SIZE_H
#define NN_SIZE_H

#include <stddef.h>

static inline size_t nn_size_least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t nn_size_most(size_t a, size_t b)
{
    return a > b ? a : b;
}

/** The first multiple of `unit` that is not below a. */
static inline size_t nn_size_round_up(size_t a, size_t unit)
{
    return (a + unit - 1) / unit * unit;
}

#endif
