#include "trainer/nn/kernel/loops.h"

#include <stdint.h>

#define LINE_BYTES 64

/* The distance at which `fetches` fetches reach all lines. */
static size_t spread(const char *lines, size_t count, size_t fetches)
{
    if (count == 0) /* a division takes as long as a small tile */
        return 0;
    for (size_t i = fetches; i < count; i++)
        __builtin_prefetch(lines + i * LINE_BYTES, 0, 2);
    if (fetches <= count)
        return LINE_BYTES;
    return ((uint32_t)count * LINE_BYTES + (uint32_t)fetches - 1) / (uint32_t)fetches;
}

struct nn_product_loop nn_product_loop(const struct nn_product *p, size_t fetches)
{
    const size_t fours = p->segments * (p->run / 4); /* of a tile */

    return (struct nn_product_loop){
        .a = p->a,
        .b = p->b,
        .c = p->c,
        .a_at = p->a_at,
        .a_at_end = p->a_at + p->rows,
        .c_at = p->c_at,
        .c_at_end = p->c_at + p->rows,
        .segment_at = p->segment_at,
        .segment_end = p->segment_at + p->segments,
        .run_fours = p->run / 4 * 4 * sizeof(float),
        .run_rest = p->run % 4 * sizeof(float),
        .ahead = p->ahead_lines == 0 ? (const char *)p->b : p->ahead,
        .ahead_bytes = spread(p->ahead, p->ahead_lines, p->rows / NN_TILE_ROWS * fours * fetches),
        .add = p->add,
    };
}

struct nn_outer_loop nn_outer_loop(const struct nn_outer *p, size_t fetches)
{
    const size_t fours = p->pixels / 4; /* of a tile */

    return (struct nn_outer_loop){
        .a = p->a,
        .b = p->b,
        .c = p->c,
        .tiles = p->tiles,
        .a_tile_bytes = p->a_tile * sizeof(float),
        .c_tile_bytes = NN_TILE_ROWS * p->width * sizeof(float),
        .a_bytes = p->a_step * sizeof(float),
        .b_bytes = p->b_step * sizeof(float),
        .c_bytes = p->width * sizeof(float),
        .fours = fours,
        .rest = p->pixels % 4,
        .ahead = p->ahead_lines == 0 ? (const char *)p->b : p->ahead,
        .ahead_bytes = spread(p->ahead, p->ahead_lines, p->tiles * fours * fetches),
        .add = p->add,
    };
}
