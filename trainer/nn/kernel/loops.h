/*
 * trainer/nn/kernel/loops.h -- the arguments of a kernel as assembly reads them: from one struct in
 * memory, with ends instead of counts and bytes instead of floats.
 */
#ifndef NN_LOOPS_H
#define NN_LOOPS_H

#include "trainer/nn/kernel/kernels.h"

/* Of nn_product; `add` as there. */
struct nn_product_loop {
    const float *a, *b;
    float *c;
    const ptrdiff_t *a_at, *a_at_end, *c_at, *c_at_end, *segment_at, *segment_end;
    size_t run_fours, run_rest; /* bytes of a run that go by four floats, and one by one */
    const char *ahead;
    size_t ahead_bytes; /* from one fetch to the next */
    size_t add;
};

/* Of nn_outer; b, c and tiles are the caller's to move on from one part of the columns to the next.
 */
struct nn_outer_loop {
    const float *a, *b;
    float *c;
    size_t tiles, a_tile_bytes, c_tile_bytes;
    size_t a_bytes, b_bytes, c_bytes; /* between pixels; between rows of C */
    size_t fours, rest;               /* pixels that go by four, and one by one */
    const char *ahead;
    size_t ahead_bytes;
    size_t add;
};

/* `fetches`: how often the assembly fetches the line at `ahead` and goes on by ahead_bytes, in each
 * four. The lines are spread over the whole call: fetched in a bunch they take the place of loads
 * from L2 (measured: A of 256 channels from memory, 92 % of the peak instead of 81). What cannot be
 * spread is fetched at once here. Without lines the same one is fetched over and over. */
struct nn_product_loop nn_product_loop(const struct nn_product *product, size_t fetches);
struct nn_outer_loop nn_outer_loop(const struct nn_outer *outer, size_t fetches);

#endif
