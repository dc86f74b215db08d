/*
 * trainer/nn/conv/winograd_product.h -- M = V U for a block of tiles: the products of winograd.c.
 */
#ifndef NN_CONV_WINOGRAD_PRODUCT_H
#define NN_CONV_WINOGRAD_PRODUCT_H

#include <stdbool.h>
#include <stddef.h>

struct nn_ahead;
struct nn_winograd_tiles;

/* Filters [begin, begin + count) of a block. */
struct nn_winograd_product {
    const struct nn_winograd_tiles *tiles;
    size_t block;
    const float *u; /* of all filters, in panels */
    const float *v; /* tile t of plane p: `depth` floats at v + p * v_step + t * v_row */
    float *m;       /* tile t of sum s: count floats at m + s * m_step + t * m_row */
    size_t u_step, v_step, m_step, v_row, m_row;
    size_t depth, panel; /* channels; columns of a panel */
    size_t begin, count; /* whole panels */
    bool fetch;          /* panels of U come from afar */
};

/** Tiles that a sum of M has room for: those of a block, and one that is written and not read. */
size_t nn_winograd_product_room(const struct nn_winograd_tiles *tiles);

/** Multiply. A tile at an edge that leaves fewer than m rows or columns (stride 2) has not all
 * points: what M holds there is undefined. The calls that fetch no panel fetch pieces of `ahead`.
 */
void nn_winograd_multiply(const struct nn_winograd_product *args, struct nn_ahead *ahead);

/** How many calls do that. */
size_t nn_winograd_product_pieces(const struct nn_winograd_product *args);

#endif
