#include "trainer/nn/conv/strip.h"

#include <assert.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>

#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/sink.h"
#include "trainer/nn/kernel/size.h"

/* EVEN_BLOCKS is part of the bits. */
#define EVEN_BLOCKS 4
#define RUN_PIXELS  16 /* where there are no lines */

/* Does each window look at one pixel only, the first that its step leads to? */
static bool is_picking(const struct nn_strips *strips)
{
    return strips->low == 0 && strips->high == 1;
}

bool nn_strips_skip(const struct nn_strips *strips)
{
    return is_picking(strips) && strips->step > 1;
}

void nn_strips_flatten(struct nn_strips *strips)
{
    if (!is_picking(strips) || strips->step != 1)
        return;
    assert((int64_t)strips->n * strips->in_h * strips->in_w <= INT_MAX); /* nn_model_check() */
    strips->in_h *= strips->n * strips->in_w;
    strips->out_h *= strips->n * strips->out_w;
    strips->n = strips->in_w = strips->out_w = 1;
}

static size_t tiles(size_t rows)
{
    return nn_size_pieces(rows, NN_TILE_ROWS);
}

/* Tiles of all blocks together. */
static size_t cost(const struct nn_strips *strips, size_t images, size_t lines)
{
    const size_t n = (size_t)strips->n, width = (size_t)strips->out_w;
    const size_t height = (size_t)strips->out_h;

    return n / images *
               (height / lines * tiles(images * lines * width) +
                tiles(images * (height % lines) * width)) +
           tiles(n % images * height * width);
}

void nn_strips_cut(struct nn_strips *strips, size_t rows)
{
    const size_t height = (size_t)strips->out_h, image = height * (size_t)strips->out_w;
    size_t least = (size_t)-1;

    strips->images = strips->lines = 1;
    if (strips->n == 1 && strips->out_w == 1) {
        size_t blocks = nn_size_pieces(height, rows);

        if (blocks > EVEN_BLOCKS) /* few threads find as much as each other */
            blocks = nn_size_round_up(blocks, EVEN_BLOCKS);
        strips->lines = (int)nn_size_least(
            nn_size_round_up(nn_size_pieces(height, blocks), NN_TILE_ROWS), height);
        return;
    }
    for (size_t lines = 1; lines <= height; lines++) {
        if (lines > 1 && lines * (size_t)strips->out_w > rows)
            break;
        if (cost(strips, 1, lines) <= least) {
            least = cost(strips, 1, lines);
            strips->lines = (int)lines;
        }
    }
    for (size_t images = 2; images <= (size_t)strips->n && images * image <= rows; images++) {
        if (cost(strips, images, height) < least) {
            least = cost(strips, images, height);
            strips->images = (int)images;
            strips->lines = (int)height;
        }
    }
}

static size_t blocks_in_image(const struct nn_strips *strips)
{
    return nn_size_pieces((size_t)strips->out_h, (size_t)strips->lines);
}

size_t nn_strips_blocks(const struct nn_strips *strips)
{
    return nn_size_pieces((size_t)strips->n, (size_t)strips->images) * blocks_in_image(strips);
}

struct nn_block nn_strips_block(const struct nn_strips *strips, size_t index)
{
    const size_t image = index / blocks_in_image(strips) * (size_t)strips->images;
    const size_t line = index % blocks_in_image(strips) * (size_t)strips->lines;

    return (struct nn_block){
        .image = image,
        .images = nn_size_least((size_t)strips->images, (size_t)strips->n - image),
        .line = line,
        .lines = nn_size_least((size_t)strips->lines, (size_t)strips->out_h - line),
    };
}

size_t nn_strips_rows(const struct nn_strips *strips)
{
    return (size_t)strips->images * (size_t)strips->lines * (size_t)strips->out_w;
}

size_t nn_strips_step(const struct nn_strips *strips)
{
    return is_picking(strips) ? 1 : (size_t)strips->step;
}

static size_t extent(const struct nn_strips *strips, size_t outputs)
{
    return (outputs - 1) * nn_strips_step(strips) + (size_t)(strips->high - strips->low);
}

size_t nn_strips_width(const struct nn_strips *strips)
{
    return extent(strips, (size_t)strips->out_w);
}

size_t nn_strips_pixels(const struct nn_strips *strips)
{
    return (size_t)strips->images * extent(strips, (size_t)strips->lines) * nn_strips_width(strips);
}

size_t nn_strips_window(const struct nn_strips *strips, const struct nn_block *block, size_t image,
                        size_t line)
{
    return (image * extent(strips, block->lines) + line * nn_strips_step(strips)) *
           nn_strips_width(strips);
}

/* Pixels [at, at + pixels) of those that are looked at. */
static void pick(const struct nn_strips *strips, const struct nn_block *block,
                 const struct nn_source *source, size_t at, size_t pixels, size_t begin,
                 size_t count, float *out, size_t step)
{
    const size_t stride = (size_t)strips->step, width = (size_t)strips->in_w;

    if (stride == 1) { /* a block's lines are whole, and those of several images adjacent */
        nn_source_read(source, (block->image * (size_t)strips->in_h + block->line) * width + at,
                       pixels, begin, count, out, step);
        return;
    }
    for (size_t i = at; i < at + pixels; i++, out += step) {
        const size_t x = i % (size_t)strips->out_w, y = i / (size_t)strips->out_w;
        const size_t image = block->image + y / block->lines;
        const size_t line = (block->line + y % block->lines) * stride;

        nn_source_read(source, (image * (size_t)strips->in_h + line) * width + x * stride, 1, begin,
                       count, out, step);
    }
}

static void clear(float *out, size_t pixels, size_t count, size_t step)
{
    if (count == step)
        memset(out, 0, pixels * count * sizeof(*out));
    for (size_t i = 0; i < pixels && count < step; i++)
        memset(out + i * step, 0, count * sizeof(*out));
}

/* One line of a strip: input line y of an image, or zeros. */
static void read_line(const struct nn_strips *strips, const struct nn_source *source, size_t image,
                      ptrdiff_t y, size_t begin, size_t count, float *out, size_t step)
{
    const size_t width = nn_strips_width(strips);
    const size_t left = nn_size_least(strips->low < 0 ? (size_t)-strips->low : 0, width);
    const size_t first = strips->low > 0 ? (size_t)strips->low : 0; /* input column at `left` */
    const size_t in_w = (size_t)strips->in_w;
    const size_t inside = first < in_w ? nn_size_least(in_w - first, width - left) : 0;

    if (y < 0 || y >= strips->in_h) {
        clear(out, width, count, step);
        return;
    }
    clear(out, left, count, step);
    if (inside > 0)
        nn_source_read(source, (image * (size_t)strips->in_h + (size_t)y) * in_w + first, inside,
                       begin, count, out + left * step, step);
    clear(out + (left + inside) * step, width - left - inside, count, step);
}

size_t nn_strips_read_run(const struct nn_strips *strips, const struct nn_block *block,
                          const struct nn_source *source, size_t at, size_t begin, size_t count,
                          float *out, size_t step)
{
    const size_t height = extent(strips, block->lines), width = nn_strips_width(strips);
    const ptrdiff_t top = (ptrdiff_t)block->line * strips->step + strips->low;
    const size_t pixels = block->images * height * width;
    const size_t run = is_picking(strips) ? nn_size_least(RUN_PIXELS, pixels - at) : width;

    if (at == pixels)
        return 0;
    if (is_picking(strips))
        pick(strips, block, source, at, run, begin, count, out, step);
    else
        read_line(strips, source, block->image + at / width / height,
                  top + (ptrdiff_t)(at / width % height), begin, count, out, step);
    return run;
}

size_t nn_strips_run_pixels(const struct nn_strips *strips)
{
    return is_picking(strips) ? RUN_PIXELS : nn_strips_width(strips);
}

void nn_strips_read(const struct nn_strips *strips, const struct nn_block *block,
                    const struct nn_source *source, size_t begin, size_t count, float *out,
                    size_t step)
{
    size_t run, at = 0;

    do {
        run = nn_strips_read_run(strips, block, source, at, begin, count, out + at * step, step);
        at += run;
    } while (run > 0);
}

size_t nn_strips_end(const struct nn_strips *strips, const struct nn_block *block)
{
    const ptrdiff_t end = (ptrdiff_t)(block->line + block->lines - 1) * strips->step + strips->high;
    const size_t lines = end > strips->in_h ? (size_t)strips->in_h : (size_t)end;

    return ((block->image + block->images - 1) * (size_t)strips->in_h + lines) *
           (size_t)strips->in_w;
}
