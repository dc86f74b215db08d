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

/** Pieces of `size` that cover `total`; the last may be smaller. */
static inline size_t nn_size_pieces(size_t total, size_t size)
{
    return (total + size - 1) / size;
}

/** The first multiple of `unit` that is not below a. */
static inline size_t nn_size_round_up(size_t a, size_t unit)
{
    return nn_size_pieces(a, unit) * unit;
}

#endif
