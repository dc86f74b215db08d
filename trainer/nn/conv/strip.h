/*
 * trainer/nn/conv/strip.h -- output pixels in blocks, and the padded piece of input that each sees.
 *
 * A block is some whole lines of one output picture, or several whole pictures. Its strip is the
 * input that the windows of its pixels cover, with zeros where they leave the picture, so that the
 * taps of a window are found by adding offsets. A strip holds some of the channels at a time: it
 * stays in L2 however deep the picture is.
 *
 * Where a window is one pixel nothing needs padding: only the pixels that are looked at are in the
 * strip. With stride 1 in addition the pictures are one column of n*H*W lines, so that a block is
 * any run of rows (nn_strips_flatten).
 */
#ifndef NN_CONV_STRIP_H
#define NN_CONV_STRIP_H

#include <stdbool.h>
#include <stddef.h>

struct nn_source;

struct nn_strips {
    int n, in_h, in_w, out_h, out_w;
    int step;          /* output pixel q looks at input q * step + low to q * step + high - 1 */
    int low, high;     /* the same for lines and columns */
    int images, lines; /* of a block: nn_strips_cut(); lines is out_h where images > 1 */
};

struct nn_block {
    size_t image, images, line, lines; /* lines of each image */
};

/** Are there pixels between the windows that none looks at? */
bool nn_strips_skip(const struct nn_strips *strips);

/** The same pixels as one picture of one column, if every window is its own pixel. */
void nn_strips_flatten(struct nn_strips *strips);

/** Choose images and lines: blocks of up to about `rows` pixels that waste few of the kernels'
 * tiles. Depends on the shape only. */
void nn_strips_cut(struct nn_strips *strips, size_t rows);

size_t nn_strips_blocks(const struct nn_strips *strips);
struct nn_block nn_strips_block(const struct nn_strips *strips, size_t index);

/** Output pixels in the largest block. */
size_t nn_strips_rows(const struct nn_strips *strips);

/** Pixels of the largest strip. */
size_t nn_strips_pixels(const struct nn_strips *strips);

/** Strip pixels from an output pixel to the next one in its line. */
size_t nn_strips_step(const struct nn_strips *strips);

/** Strip pixels from a line of a strip to the next. */
size_t nn_strips_width(const struct nn_strips *strips);

/** Where in the strip the window of pixel 0 of line `line` (of the block) of image `image` (of the
 * block) begins, in pixels. */
size_t nn_strips_window(const struct nn_strips *strips, const struct nn_block *block, size_t image,
                        size_t line);

/** Write channels [begin, begin + count) of a block's strip to out, pixel i at out + i * step. The
 * source stores nothing, or each window is its own pixel. */
void nn_strips_read(const struct nn_strips *strips, const struct nn_block *block,
                    const struct nn_source *source, size_t begin, size_t count, float *out,
                    size_t step);

/** The same for some pixels from strip pixel `at` on, which go to out: the rest of a line, or a few
 * pixels. Returns how many, at most nn_strips_run_pixels(); 0 at the end. `at` is 0 or where the
 * run before it ended. */
size_t nn_strips_read_run(const struct nn_strips *strips, const struct nn_block *block,
                          const struct nn_source *source, size_t at, size_t begin, size_t count,
                          float *out, size_t step);
size_t nn_strips_run_pixels(const struct nn_strips *strips);

/** The first input row (pixel) behind what a block looks at, counted over all images: what the
 * following block will want next. */
size_t nn_strips_end(const struct nn_strips *strips, const struct nn_block *block);

#endif
