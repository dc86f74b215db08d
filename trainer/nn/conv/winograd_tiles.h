/*
 * trainer/nn/conv/winograd_tiles.h -- how pictures are cut into tiles and blocks of tiles, and how
 * a block is read: rows of the source with zeros around them, then transformed to points.
 *
 * What winograd.c and winograd_weights.c share. A block is some rows of tiles; they are counted
 * through all images, so that a block may end in the middle of one. The cut depends on shapes only.
 */
#ifndef NN_CONV_WINOGRAD_TILES_H
#define NN_CONV_WINOGRAD_TILES_H

#include <stdbool.h>
#include <stddef.h>

#include "trainer/nn/kernel/sink.h"
#include "trainer/nn/kernel/winograd.h"

struct nn_winograd_tiles {
    const struct nn_winograd *transforms;
    size_t n, h, w; /* of the pictures that are read */
    size_t oh, ow;  /* of those that leave: a convolution with padding and stride 1 keeps h, w */
    size_t across, down; /* tiles of a picture */
    size_t rows, blocks; /* rows of tiles in a block; the last one may have fewer */
    size_t tiles;        /* of a block, at most */
};

/** Rows of tiles, or of an operand: [begin, end). */
struct nn_winograd_block {
    size_t begin, end;
};

/** Cut n pictures of h * w that `transforms` read into blocks of about `wanted` tiles. */
struct nn_winograd_tiles nn_winograd_tiles_make(const struct nn_winograd *transforms, size_t n,
                                                size_t h, size_t w, size_t wanted);

/** Outputs of row of tiles `row` (counted through all images), up to m. */
size_t nn_winograd_height(const struct nn_winograd_tiles *tiles, size_t row);

/** Outputs of the last tile of a row of tiles. */
size_t nn_winograd_last_width(const struct nn_winograd_tiles *tiles);

struct nn_winograd_block nn_winograd_block_at(const struct nn_winograd_tiles *tiles, size_t block);

/** Does a block end in the middle of an image? Then rows are read by two blocks. */
bool nn_winograd_cuts_images(const struct nn_winograd_tiles *tiles);

/** Rows [begin, end) of what is read: a block's pixels. */
struct nn_winograd_block nn_winograd_rows_of(const struct nn_winograd_tiles *tiles, size_t block);

/** Rows [begin, end) of what leaves; with stride 1 the same. */
struct nn_winograd_block nn_winograd_rows_left(const struct nn_winograd_tiles *tiles, size_t block);

/** Tiles of a block. */
size_t nn_winograd_tiles_of(const struct nn_winograd_tiles *tiles, size_t block);

/** Channels as they stand in points: a multiple of NN_LANES. */
size_t nn_winograd_channels(size_t c);

/** From point to point: `floats`, and some more so that the points of a tile lie in different sets
 * of a cache. */
size_t nn_winograd_point_step(size_t floats);

/*
 * Read a block: B^T d B of the tiles of x, or A y A^T of those of dy (`gradient`).
 *
 * out, point_step, panel_step, tile_step and width of `to` say where the points go, the first
 * tile's to out; the channels from c up to nn_winograd_channels(c) are zero. strip is
 * nn_winograd_strip_floats() of private memory. A row that belongs to the block is stored if the
 * source says so; its neighbours' rows are not.
 */
void nn_winograd_read(const struct nn_winograd_tiles *tiles, size_t block,
                      const struct nn_source *source, bool gradient, float *strip,
                      struct nn_winograd_in to);

size_t nn_winograd_strip_floats(const struct nn_winograd_tiles *tiles, size_t c);

#endif
