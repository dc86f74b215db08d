/*
 * trainer/nn/kernel/kernels.h -- the innermost loops, written once for each instruction set.
 *
 * One table of functions per instruction set; nn_kernels() is the one that this CPU runs. The order
 * in which an element's products are added depends on the arguments only, and never on the row's or
 * the column's place in its tile, so drivers may cut rows and columns as they like. Products are
 * fused (one rounding) in every set except "generic".
 *
 * Packed matrices: B (depth, n) stands in panels of `width` columns, each (depth, width), behind
 * one another; n is rounded up to NN_LANES with columns of zeros. Every panel begins at a cache
 * line.
 */
#ifndef NN_KERNELS_H
#define NN_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

#define NN_TILE_ROWS 6 /* of a tile of C that stays in registers */
#define NN_LANES     16 /* floats: packed columns, and channels in padded rows, are multiples of it */

/*
 * C (rows, width) = [C +] A (rows, depth) B, depth = segments * run.
 *
 * Row i of A is `segments` runs of `run` floats: the s-th begins at a + a_at[i] + segment_at[s].
 * Row i of C is the `width` floats at c + c_at[i]. The rows are worked on in tiles of NN_TILE_ROWS,
 * in order; `rows` is a multiple of that. A caller with fewer repeats the last row's a_at and sends
 * its result to a spare place of its own. Where two rows have the same c_at, what ends there is
 * undefined. Nothing needs alignment but b.
 *
 * ahead: memory that the caller will read soon; about ahead_lines cache lines of it are fetched
 * into L2 while the tiles are computed. NULL and 0: nothing.
 */
struct nn_product {
    size_t rows, width, segments, run; /* width: as panel_width says; none is 0 */
    const float *a;
    const ptrdiff_t *a_at;       /* (rows) floats */
    const ptrdiff_t *segment_at; /* (segments) floats; the first is usually 0 */
    const float *b;              /* (segments * run, width), at a cache line */
    float *c;
    const ptrdiff_t *c_at; /* (rows) floats */
    bool add;              /* to what C holds; else C is not read */
    const void *ahead;
    size_t ahead_lines;
};

/*
 * C (tiles, NN_TILE_ROWS, width) = [C +] the sum over pixels p of A[tile, p]^T B[p]: backward to
 * the weights.
 *
 * Pixel p has NN_TILE_ROWS floats of A for each tile, at a + tile * a_tile + p * a_step, and
 * `width` floats of B at b + p * b_step. All NN_TILE_ROWS floats are read, so the last channels of
 * a row need readable memory behind them. B is read once per tile, so it should fit into L1.
 */
struct nn_outer {
    size_t tiles, pixels, width; /* width: a multiple of NN_LANES; none is 0 */
    const float *a;
    size_t a_tile, a_step;
    const float *b;
    size_t b_step; /* b and b_step: whole vectors (NN_LANES floats) */
    float *c;      /* (tiles, NN_TILE_ROWS, width), at a cache line */
    bool add;
    const void *ahead; /* as in nn_product */
    size_t ahead_lines;
};

struct nn_kernels {
    const char *name; /* "generic", "avx2", "avx512" */
    /** The width of the panels in which this set wants a matrix of n columns: a multiple of
     * NN_LANES that divides n rounded up to NN_LANES. */
    size_t (*panel_width)(size_t n);
    void (*product)(const struct nn_product *product);
    void (*outer)(const struct nn_outer *outer);
    /** Multiply and add on registers only, `rounds` times some; returns the number of
     * floating-point operations. For peak.h. */
    double (*spin)(size_t rounds);
};

/** The table in use: the best that this CPU runs, or what CONVOY_ISA names ("generic", "avx2",
 * "avx512"). Chosen once, at the first call; the same for all threads. */
const struct nn_kernels *nn_kernels(void);

/** The table of that name; NULL if there is none or this CPU cannot run it. */
const struct nn_kernels *nn_kernels_find(const char *name);

/** The sets from the portable one upwards are levels 0, 1, ...: a CPU that runs one runs those
 * below it. Which is in use; and use a lower one from now on, as where ranks on other CPUs cannot
 * follow: the bits depend on the set. Before anything was computed, by one thread. */
int nn_kernels_level(void);
void nn_kernels_lower(int level);

/** Is CONVOY_ISA one of the known names, and does this CPU have it? 0, or -1 with err set
 * (ERR_USAGE). A program asks before it computes; nn_kernels() itself falls back to generic. */
struct err;
int nn_kernels_check(struct err *err);

#endif
