#include "trainer/nn/conv/winograd_tiles.h"

#include <string.h>

#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/size.h"

#define LINE_FLOATS 16 /* a cache line */

/* The fewest rows of tiles that are whole tiles of a product. */
static size_t rows_of_product(size_t across)
{
    size_t rows = 1;

    while (rows * across % NN_TILE_ROWS != 0)
        rows++;
    return rows;
}

struct nn_winograd_tiles nn_winograd_tiles_make(const struct nn_winograd *transforms, size_t n,
                                                size_t h, size_t w, size_t wanted)
{
    struct nn_winograd_tiles tiles = {
        .transforms = transforms,
        .n = n,
        .h = h,
        .w = w,
        .oh = nn_size_pieces(h, transforms->stride),
        .ow = nn_size_pieces(w, transforms->stride),
        .across = nn_size_pieces(w, transforms->m * transforms->stride),
        .down = nn_size_pieces(h, transforms->m * transforms->stride),
    };
    const size_t all = n * tiles.down, unit = rows_of_product(tiles.across);
    const size_t rows = wanted > tiles.across ? wanted / tiles.across : 1;
    const size_t blocks = (all + rows / 2) / rows; /* the nearest */

    tiles.rows = nn_size_pieces(all, blocks > 0 ? blocks : 1);
    if (tiles.rows >= unit)
        tiles.rows = nn_size_least(all, nn_size_pieces(tiles.rows, unit) * unit);
    tiles.blocks = nn_size_pieces(all, tiles.rows);
    tiles.tiles = tiles.rows * tiles.across;
    return tiles;
}

struct nn_winograd_block nn_winograd_block_at(const struct nn_winograd_tiles *tiles, size_t block)
{
    const size_t begin = block * tiles->rows;

    return (struct nn_winograd_block){begin,
                                      nn_size_least(begin + tiles->rows, tiles->n * tiles->down)};
}

size_t nn_winograd_height(const struct nn_winograd_tiles *tiles, size_t row)
{
    return nn_size_least(tiles->transforms->m,
                         tiles->oh - row % tiles->down * tiles->transforms->m);
}

size_t nn_winograd_last_width(const struct nn_winograd_tiles *tiles)
{
    return tiles->ow - (tiles->across - 1) * tiles->transforms->m;
}

bool nn_winograd_cuts_images(const struct nn_winograd_tiles *tiles)
{
    return tiles->blocks > 1 && tiles->rows % tiles->down != 0;
}

size_t nn_winograd_tiles_of(const struct nn_winograd_tiles *tiles, size_t block)
{
    const struct nn_winograd_block rows = nn_winograd_block_at(tiles, block);

    return (rows.end - rows.begin) * tiles->across;
}

size_t nn_winograd_channels(size_t c)
{
    return nn_size_pieces(c, NN_LANES) * NN_LANES;
}

size_t nn_winograd_point_step(size_t floats)
{
    return (nn_size_pieces(floats, NN_LANES) | 1) * NN_LANES;
}

/*
 * The strip is a ring of as many picture rows as a row of tiles reads, and a row of zeros for what
 * is above and below the picture. Picture row y is in place (y + halo) mod window. The columns
 * left and right of the picture, and the channels behind the last one, are zeroed once.
 */
struct strip {
    float *rows, *zeros;
    size_t window, halo; /* rows of the ring; how many lie above the tile (and left of it) */
    size_t c, columns, row_floats;
};

static struct strip strip_of(const struct nn_winograd_tiles *tiles, const struct nn_source *source,
                             bool gradient, float *memory)
{
    struct strip strip = {.rows = memory, .halo = gradient ? 0 : 1};
    const size_t step = tiles->transforms->m * tiles->transforms->stride, left = strip.halo;
    const size_t shared = gradient ? 0 : 3 - tiles->transforms->stride; /* by neighbouring tiles */
    float *row = memory;

    strip.window = step + shared;
    strip.c = nn_winograd_channels(source->c);
    strip.columns = step * tiles->across + shared;
    strip.row_floats = strip.columns * strip.c;
    strip.zeros = memory + strip.window * strip.row_floats;
    memset(strip.zeros, 0, strip.row_floats * sizeof(*memory));
    for (size_t i = 0; i < strip.window; i++, row += strip.row_floats) {
        const size_t end = source->c == strip.c ? left * strip.c : strip.row_floats;
        const size_t right = (left + tiles->w) * strip.c;

        memset(row, 0, end * sizeof(*row));
        memset(row + right, 0, (strip.row_floats - right) * sizeof(*row));
    }
    return strip;
}

size_t nn_winograd_strip_floats(const struct nn_winograd_tiles *tiles, size_t c)
{
    const size_t step = tiles->transforms->m * tiles->transforms->stride;

    return (step + 3) * (step * tiles->across + 2) * nn_winograd_channels(c);
}

static void read_row(const struct nn_winograd_tiles *tiles, const struct nn_source *source,
                     const struct strip *strip, size_t image, size_t y, bool own)
{
    struct nn_source quiet = *source;
    float *row = strip->rows + (y + strip->halo) % strip->window * strip->row_floats;

    if (!own)
        quiet.store = NULL;
    nn_source_read(&quiet, (image * tiles->h + y) * tiles->w, tiles->w, 0, source->c,
                   row + strip->halo * strip->c, strip->c);
}

/* Read what the ring lacks of row `row` of an image's tiles, from picture row *next on, and point
 * to its rows. Picture rows [begin, end) are the block's own. */
static void read_window(const struct nn_winograd_tiles *tiles, const struct nn_source *source,
                        const struct strip *strip, size_t image, size_t row, size_t begin,
                        size_t end, size_t *next, const float **rows)
{
    for (size_t i = 0; i < strip->window; i++) {
        const size_t place = tiles->transforms->m * tiles->transforms->stride * row + i;
        const size_t y = place - strip->halo; /* wraps around above row 0 */

        if (y >= tiles->h) {
            rows[i] = strip->zeros;
            continue;
        }
        if (y >= *next) {
            read_row(tiles, source, strip, image, y, y >= begin && y < end);
            *next = y + 1;
        }
        rows[i] = strip->rows + place % strip->window * strip->row_floats;
    }
}

void nn_winograd_read(const struct nn_winograd_tiles *tiles, size_t number,
                      const struct nn_source *source, bool gradient, float *memory,
                      struct nn_winograd_in to)
{
    const struct strip strip = strip_of(tiles, source, gradient, memory);
    const struct nn_winograd_block block = nn_winograd_block_at(tiles, number);
    const size_t step = tiles->transforms->m * tiles->transforms->stride, down = tiles->down;

    to.last_width = nn_winograd_last_width(tiles);
    to.column_step = strip.c;
    to.channels = strip.c;
    to.tiles = tiles->across;
    for (size_t at = block.begin; at < block.end;) {
        const size_t image = at / down, first = at % down;
        const size_t end = nn_size_least(down, first + block.end - at);
        size_t next = first > 0 ? step * first - strip.halo : 0;

        for (size_t row = first; row < end; row++, at++) {
            read_window(tiles, source, &strip, image, row, step * first, step * end, &next,
                        to.rows);
            to.height = nn_winograd_height(tiles, row);
            if (gradient)
                tiles->transforms->gradient(&to);
            else
                tiles->transforms->input(&to);
            to.out += tiles->across * to.tile_step;
        }
    }
}

struct nn_winograd_block nn_winograd_rows_of(const struct nn_winograd_tiles *tiles, size_t block)
{
    const struct nn_winograd_block rows = nn_winograd_block_at(tiles, block);
    const size_t down = tiles->down, step = tiles->transforms->m * tiles->transforms->stride;

    return (struct nn_winograd_block){
        (rows.begin / down * tiles->h + rows.begin % down * step) * tiles->w,
        (rows.end / down * tiles->h + rows.end % down * step) * tiles->w,
    };
}

struct nn_winograd_block nn_winograd_rows_left(const struct nn_winograd_tiles *tiles, size_t block)
{
    const struct nn_winograd_block rows = nn_winograd_block_at(tiles, block);
    const size_t down = tiles->down, step = tiles->transforms->m;

    return (struct nn_winograd_block){
        (rows.begin / down * tiles->oh + rows.begin % down * step) * tiles->ow,
        (rows.end / down * tiles->oh + rows.end % down * step) * tiles->ow,
    };
}
