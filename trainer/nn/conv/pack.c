#include "trainer/nn/conv/pack.h"

#include <string.h>

#include "trainer/nn/conv/conv.h"
#include "trainer/nn/conv/deal.h"
#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/size.h"

#define AT_ONCE 64 /* floats of a row: 4 KiB of a panel of 16 columns */

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

/* out (count, width) = the transpose of `columns` rows of w, `distance` apart. Of each row AT_ONCE
 * floats at a time, so that what is written column by column stays in L1. */
static void transpose(const float *w, size_t distance, size_t columns, size_t count, size_t width,
                      const float *scale, float *out)
{
    for (size_t i = 0; i < count; i += AT_ONCE) {
        const size_t end = nn_size_least(i + AT_ONCE, count);

        for (size_t j = 0; j < columns; j++) {
            const float factor = scale == NULL ? 1 : scale[j];

            for (size_t l = i; l < end; l++)
                out[l * width + j] = w[j * distance + l] * factor;
        }
    }
}

/* Columns [columns, width) of out (count, width) = 0. */
static void clear(float *out, size_t columns, size_t count, size_t width)
{
    for (size_t i = 0; i < count && columns < width; i++)
        memset(out + i * width + columns, 0, (width - columns) * sizeof(*out));
}

void nn_pack_panels(const struct nn_pack *pack, const float *w, const float *scale, size_t panel,
                    size_t panels, float *out)
{
    const size_t r = (size_t)pack->conv->r, c = (size_t)pack->conv->c, filter = r * r * c;
    const size_t taps = (size_t)pack->y.count * (size_t)pack->x.count, in = channels_in(pack);
    const size_t width = pack->width, floats = nn_pack_panel_floats(pack);
    const size_t first = panel * width;
    const size_t columns = nn_size_least(panels * width, channels_out(pack) - first);

    for (size_t begin = 0; begin < in; begin += pack->chunk) {
        const size_t count = nn_size_least(pack->chunk, in - begin);

        for (size_t tap = 0; tap < taps; tap++, out += count * width) {
            const int y = pack->y.first + (int)tap / pack->x.count * pack->y.step;
            const int x = pack->x.first + (int)tap % pack->x.count * pack->x.step;
            const float *at = w + ((size_t)y * r + (size_t)x) * c;

            if (pack->back)
                nn_deal_panels(at + begin * filter + first, filter, count, columns, width, out,
                               floats);
            for (size_t j = 0; j < columns; j += width) {
                const size_t few = nn_size_least(width, columns - j);

                if (!pack->back)
                    transpose(at + (first + j) * filter + begin, filter, few, count, width,
                              scale == NULL ? NULL : scale + first + j, out + j / width * floats);
                clear(out + j / width * floats, few, count, width);
            }
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
