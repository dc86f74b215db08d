#include "trainer/nn/conv/pack.h"

#include <string.h>

#include "trainer/nn/conv/conv.h"
#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/size.h"

static size_t channels_in(const struct nn_pack *pack)
{
    return (size_t)(pack->back ? pack->conv->k : pack->conv->c);
}

static size_t channels_out(const struct nn_pack *pack)
{
    return (size_t)(pack->back ? pack->conv->c : pack->conv->k);
}

size_t nn_pack_panel_floats(const struct nn_pack *pack)
{
    return (size_t)pack->y.count * (size_t)pack->x.count * channels_in(pack) * pack->width;
}

/* out (count, width) = the transpose of `columns` rows of w, `distance` apart; by squares, because
 * a distance is often a power of two and the rows of w then are in each other's way in L1. */
static void transpose(const float *w, size_t distance, size_t columns, size_t count, size_t width,
                      const float *scale, float *out)
{
    for (size_t i = 0; i < count; i += NN_LANES) {
        const size_t end = nn_size_least(i + NN_LANES, count);

        for (size_t j = 0; j < columns; j++) {
            const float factor = scale == NULL ? 1 : scale[j];

            for (size_t l = i; l < end; l++)
                out[l * width + j] = w[j * distance + l] * factor;
        }
    }
    for (size_t i = 0; i < count && columns < width; i++)
        memset(out + i * width + columns, 0, (width - columns) * sizeof(*out));
}

/* out (count, width) = `columns` floats of each of `count` rows of w, `distance` apart. */
static void gather(const float *w, size_t distance, size_t columns, size_t count, size_t width,
                   float *out)
{
    for (size_t i = 0; i < count; i++) {
        memcpy(out + i * width, w + i * distance, columns * sizeof(*out));
        if (columns < width)
            memset(out + i * width + columns, 0, (width - columns) * sizeof(*out));
    }
}

void nn_pack_panel(const struct nn_pack *pack, const float *w, const float *scale, size_t panel,
                   float *out)
{
    const size_t r = (size_t)pack->conv->r, c = (size_t)pack->conv->c, filter = r * r * c;
    const size_t taps = (size_t)pack->y.count * (size_t)pack->x.count, in = channels_in(pack);
    const size_t column = panel * pack->width;
    const size_t columns = nn_size_least(pack->width, channels_out(pack) - column);

    for (size_t begin = 0; begin < in; begin += pack->chunk) {
        const size_t count = nn_size_least(pack->chunk, in - begin);

        for (size_t tap = 0; tap < taps; tap++, out += count * pack->width) {
            const int y = pack->y.first + (int)tap / pack->x.count * pack->y.step;
            const int x = pack->x.first + (int)tap % pack->x.count * pack->x.step;
            const float *at = w + ((size_t)y * r + (size_t)x) * c;

            if (pack->back)
                gather(at + begin * filter + column, filter, columns, count, pack->width, out);
            else
                transpose(at + column * filter + begin, filter, columns, count, pack->width,
                          scale == NULL ? NULL : scale + column, out);
        }
    }
}

static size_t whole_tiles(size_t rows)
{
    return nn_size_round_up(rows, NN_TILE_ROWS);
}

size_t nn_sums_tap(const struct nn_sums *sums, size_t n)
{
    return sums->dense ? n : whole_tiles(n);
}

size_t nn_sums_rows(const struct nn_sums *sums, size_t n)
{
    const size_t r = (size_t)sums->conv->r;

    return whole_tiles(r * r * nn_sums_tap(sums, n));
}

size_t nn_sums_panel_floats(const struct nn_sums *sums)
{
    const size_t c = (size_t)sums->conv->c;
    const size_t rows =
        c / sums->chunk * nn_sums_rows(sums, sums->chunk) + nn_sums_rows(sums, c % sums->chunk);

    return rows * sums->width;
}

void nn_sums_unpack(const struct nn_sums *sums, const float *panel_sums, size_t panel, float *dw)
{
    const size_t r = (size_t)sums->conv->r, c = (size_t)sums->conv->c, width = sums->width;
    const size_t k = panel * width, columns = nn_size_least(width, (size_t)sums->conv->k - k);

    for (size_t begin = 0; begin < c; begin += sums->chunk) {
        const size_t count = nn_size_least(sums->chunk, c - begin), tap = nn_sums_tap(sums, count);

        for (size_t t = 0; t < r * r; t++)
            for (size_t j = 0; j < columns; j++) {
                float *out = dw + ((k + j) * r * r + t) * c + begin;

                for (size_t i = 0; i < count; i++)
                    out[i] = panel_sums[(t * tap + i) * width + j];
            }
        panel_sums += nn_sums_rows(sums, count) * width;
    }
}
