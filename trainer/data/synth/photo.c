/*
 * trainer/data/synth/photo.c -- grain, and a coarse picture made fine.
 *
 * Per pixel: the coarse picture between its four neighbours, brightened or darkened by the grain,
 * which is stronger in the shape than beside it or the other way round, and a little of the grain
 * of another place from red to blue.
 */
#include "trainer/data/synth/photo.h"

#include <math.h>
#include <stdlib.h>

#include "base/philox.h"
#include "trainer/data/synth/draw.h"

#define COARSE        4   /* pixels along a side of a coarse one */
#define GRAIN_SIDE    512 /* a power of two: the grain goes round */
#define GRAIN_OCTAVES 8   /* the finest has a value each pixel, the coarsest one each 128 */
#define GRAIN_SEED    1987

/* Brightness that grain adds, as a share: drawn for the shape and for the rest by itself. */
#define GRAIN_LEAST  0.06f
#define GRAIN_MOST   0.24f
#define COLOUR_GRAIN 0.04f

/* One pixel as a vector: red, green, blue and the shape's share. */
typedef float pixel4 __attribute__((vector_size(16)));
typedef int32_t lanes4 __attribute__((vector_size(16)));

struct data_grain {
    float at[GRAIN_SIDE][GRAIN_SIDE]; /* mean 0, standard deviation 1 */
};

/* Nearly normal: mean 0, variance 1/3. */
static float draw_value(struct philox *random)
{
    return philox_uniform(random) + philox_uniform(random) + philox_uniform(random) +
           philox_uniform(random) - 2;
}

/* One octave: values on a grid, a line between neighbours, round at the borders. */
static void grain_add(struct data_grain *grain, int spacing, struct philox *random, float *grid)
{
    const int side = GRAIN_SIDE / spacing;

    for (int i = 0; i < side * side; i++)
        grid[i] = draw_value(random);
    for (int y = 0; y < GRAIN_SIDE; y++) {
        const float *const row = grid + y / spacing * side;
        const float *const below = grid + (y / spacing + 1) % side * side;
        const float v = (float)(y % spacing) / (float)spacing;

        for (int x = 0; x < GRAIN_SIDE; x++) {
            const int left = x / spacing, right = (left + 1) % side;
            const float u = (float)(x % spacing) / (float)spacing;

            grain->at[y][x] += (1 - v) * (row[left] + u * (row[right] - row[left])) +
                               v * (below[left] + u * (below[right] - below[left]));
        }
    }
}

/* To mean 0 and standard deviation 1. */
static void grain_scale(struct data_grain *grain)
{
    float *const values = &grain->at[0][0];
    const int count = GRAIN_SIDE * GRAIN_SIDE;
    double sum = 0, squares = 0;

    for (int i = 0; i < count; i++)
        sum += values[i];
    for (int i = 0; i < count; i++)
        squares += (values[i] - sum / count) * (values[i] - sum / count);
    for (int i = 0; i < count; i++)
        values[i] = (float)((values[i] - sum / count) / sqrt(squares / count));
}

struct data_grain *data_grain_new(void)
{
    struct data_grain *const grain = calloc(1, sizeof *grain);
    float *const grid = malloc(sizeof grain->at);
    struct philox random;

    if (grain == NULL || grid == NULL)
        abort();
    philox_init(&random, GRAIN_SEED, 0, 0, PHILOX_SYNTH);
    for (int octave = 0; octave < GRAIN_OCTAVES; octave++)
        grain_add(grain, 1 << octave, &random, grid);
    grain_scale(grain);
    free(grid);
    return grain;
}

void data_grain_free(struct data_grain *grain)
{
    free(grain);
}

static int longest(int longer)
{
    return (int)lrint(1.4 * longer);
}

size_t data_photo_pixels_max(int longer)
{
    return (size_t)longest(longer) * (size_t)longest(longer);
}

void data_photo_size(int longer, struct philox *random, int *width, int *height)
{
    int wide = longer, high = longer * 3 / 4;

    if (philox_below(random, 2) == 0) {
        wide = (int)lrintf((0.7f + 0.7f * philox_uniform(random)) * (float)longer);
        high = (int)lrintf((float)wide / (1 + 0.6f * philox_uniform(random)));
        wide = wide > longest(longer) ? longest(longer) : wide;
    }
    if (philox_below(random, 3) == 0) {
        *width = high;
        *height = wide;
    } else {
        *width = wide;
        *height = high;
    }
}

/* What a picture takes from the grain. */
struct grains {
    int x, y, colour_x, colour_y; /* where it begins */
    float ground, shape;          /* how much of it: shape is what the shape has more */
};

static struct grains grains_draw(struct philox *random)
{
    struct grains grains = {.x = (int)philox_below(random, GRAIN_SIDE),
                            .y = (int)philox_below(random, GRAIN_SIDE),
                            .colour_x = (int)philox_below(random, GRAIN_SIDE),
                            .colour_y = (int)philox_below(random, GRAIN_SIDE)};

    grains.ground = GRAIN_LEAST + (GRAIN_MOST - GRAIN_LEAST) * philox_uniform(random);
    grains.shape =
        GRAIN_LEAST + (GRAIN_MOST - GRAIN_LEAST) * philox_uniform(random) - grains.ground;
    return grains;
}

/* Where between two coarse pixels a pixel lies. */
struct between {
    int left;
    float share; /* of the one to the right; 0 where there is none */
};

static struct between *between_new(int pixels, int coarse)
{
    struct between *const all = malloc((size_t)pixels * sizeof *all);

    if (all == NULL)
        abort();
    for (int i = 0; i < pixels; i++) {
        const float place = ((float)i + 0.5f) / COARSE - 0.5f;

        all[i].left = place < 0 ? 0 : (int)place;
        all[i].share = place < 0 || all[i].left + 1 >= coarse ? 0 : place - (float)all[i].left;
    }
    return all;
}

/* 0 .. 1 to 0 .. 255; what lies beyond is cut. A comparison of vectors is a mask. */
static lanes4 levels(pixel4 value)
{
    const pixel4 scaled = value * 255 + 0.5f, most = {255, 255, 255, 255};
    const lanes4 above = scaled > most;
    const lanes4 cut = ((lanes4)scaled & ~above) | ((lanes4)most & above);

    return __builtin_convertvector((pixel4)(cut & (scaled > 0)), lanes4);
}

/* One row of pixels from the coarse row beneath them. */
static void photo_row(const struct data_grain *grain, const struct grains *grains,
                      const pixel4 *coarse, const struct between *across, int y, int width,
                      uint8_t *rgb)
{
    const float *const bright = grain->at[(y + grains->y) % GRAIN_SIDE];
    const float *const colour = grain->at[(y + grains->colour_y) % GRAIN_SIDE];
    const unsigned round = GRAIN_SIDE - 1;
    const pixel4 tint = {COLOUR_GRAIN, 0, -COLOUR_GRAIN, 0};

    for (int x = 0; x < width; x++) {
        const pixel4 *const left = coarse + across[x].left;
        const pixel4 here = left[0] + across[x].share * (left[1] - left[0]);
        const float much = grains->ground + grains->shape * here[3];
        const float light = 1 + much * bright[(unsigned)(x + grains->x) & round];
        const lanes4 pixel =
            levels(here * light + tint * colour[(unsigned)(x + grains->colour_x) & round]);

        *rgb++ = (uint8_t)pixel[0];
        *rgb++ = (uint8_t)pixel[1];
        *rgb++ = (uint8_t)pixel[2];
    }
}

void data_photo_draw(const struct data_grain *grain, int class, int width, int height,
                     struct philox *random, uint8_t *rgb)
{
    const int coarse_width = (width + COARSE - 1) / COARSE;
    const int coarse_height = (height + COARSE - 1) / COARSE;
    const size_t row = (size_t)coarse_width;
    struct between *const across = between_new(width, coarse_width);
    struct between *const down = between_new(height, coarse_height);
    pixel4 *const coarse = aligned_alloc(16, row * (size_t)coarse_height * sizeof *coarse);
    pixel4 *const middle =
        aligned_alloc(16, (row + 1) * sizeof *middle); /* one more: the last's right */
    struct grains grains;

    if (coarse == NULL || middle == NULL)
        abort();
    data_draw_coarse(class, coarse_width, coarse_height, random, (float *)(void *)coarse);
    grains = grains_draw(random);
    for (int y = 0; y < height; y++) {
        const pixel4 *const above = coarse + (size_t)down[y].left * row;
        const pixel4 *const below = down[y].share > 0 ? above + row : above;

        for (size_t x = 0; x < row; x++)
            middle[x] = above[x] + down[y].share * (below[x] - above[x]);
        middle[row] = middle[row - 1];
        photo_row(grain, &grains, middle, across, y, width, rgb + (size_t)y * (size_t)width * 3);
    }
    free(across);
    free(down);
    free(coarse);
    free(middle);
}
