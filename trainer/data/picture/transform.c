/*
 * trainer/data/picture/transform.c -- crop, resize, flip, normalise.
 *
 * A crop is made for the upright picture; the resampling works on the picture as it is stored. An
 * orientation mirrors either axis and may swap the two: then what is across in the file is down in
 * the output.
 */
#include "trainer/data/picture/transform.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/data/picture/crop.h"
#include "trainer/data/picture/decode.h"
#include "trainer/data/picture/resize.h"

#define SHRINK_MAX 8

const float data_imagenet_mean[3] = {0.485f, 0.456f, 0.406f};
const float data_imagenet_std[3] = {0.229f, 0.224f, 0.225f};

uint32_t data_transform_view(const struct data_transform *transform, uint32_t epoch)
{
    if (transform->kind == DATA_TRANSFORM_CENTER || transform->kind == DATA_TRANSFORM_RESIZE)
        return 0;
    return transform->views == 0 ? epoch : epoch % transform->views;
}

/* What a transform wants of a stored picture. */
struct sight {
    struct resize_want across, down;
    bool swapped; /* outputs of `across` are rows */
};

/* By EXIF's numbers: 5 to 8 have rows where columns are to be. */
static struct sight sight_of(const struct data_transform *transform, const struct data_shape *shape,
                             uint64_t sample, uint32_t epoch)
{
    const int turn = shape->orientation;
    const bool swapped = turn >= 5;
    const int width = swapped ? shape->height : shape->width,
              height = swapped ? shape->width : shape->height;
    const struct data_crop crop = data_crop_make(transform, width, height, sample, epoch);
    const struct resize_want x = {.length = width,
                                  .begin = crop.x,
                                  .span = crop.w,
                                  .full = crop.full_w,
                                  .win = crop.win_x,
                                  .flip = crop.flip,
                                  .mirrored = turn == 2 || turn == 3 || turn == 6 || turn == 7};
    const struct resize_want y = {.length = height,
                                  .begin = crop.y,
                                  .span = crop.h,
                                  .full = crop.full_h,
                                  .win = crop.win_y,
                                  .mirrored = turn == 3 || turn == 4 || turn == 7 || turn == 8};

    return (struct sight){.across = swapped ? y : x, .down = swapped ? x : y, .swapped = swapped};
}

/* The most that leaves at least a pixel for each output, along both axes. */
static int sight_shrink(const struct sight *sight)
{
    for (int shrink = SHRINK_MAX; shrink > 1; shrink /= 2)
        if (sight->across.span / shrink >= sight->across.full &&
            sight->down.span / shrink >= sight->down.full)
            return shrink;
    return 1;
}

struct data_part data_transform_part(const struct data_transform *transform,
                                     const struct data_shape *shape, uint64_t sample,
                                     uint32_t epoch)
{
    const struct sight sight = sight_of(transform, shape, sample, epoch);
    struct data_part part = {.shrink = shape->shrinks ? sight_shrink(&sight) : 1};

    resize_axis_range(&sight.across, transform->size, part.shrink, &part.x, &part.width);
    resize_axis_range(&sight.down, transform->size, part.shrink, &part.y, &part.height);
    part.width -= part.x;
    part.height -= part.y;
    return part;
}

int data_transform_decode(const struct data_transform *transform, struct data_decoder *decoder,
                          const void *data, size_t bytes, uint64_t sample, uint32_t epoch,
                          struct data_image *image, struct err *err)
{
    struct data_shape shape;
    struct data_part part;

    if (data_decoder_begin(decoder, data, bytes, &shape, err) < 0)
        return -1;
    part = data_transform_part(transform, &shape, sample, epoch);
    return data_decoder_part(decoder, &part, image, err);
}

/* Scratch for a picture: memory first, then the pieces of it. */
struct workspace {
    struct resize_axis across, down;
    int16_t *rows[2]; /* (across.end - across.first, 3) between the passes */
    float *turned[2]; /* (size, 3) outputs that become columns */
    float scale[3], shift[3];
};

static void scratch_grow(struct data_scratch *scratch, size_t ints)
{
    if (ints <= scratch->capacity)
        return;
    free(scratch->ints);
    scratch->ints = malloc(ints * sizeof *scratch->ints);
    if (scratch->ints == NULL)
        abort(); /* smaller than the picture that is in memory */
    scratch->capacity = ints;
}

static void workspace_init(struct workspace *work, const struct sight *sight,
                           const struct data_transform *transform, int shrink,
                           struct data_scratch *scratch)
{
    const int size = transform->size;
    const size_t across_ints = resize_axis_ints(&sight->across, size, shrink),
                 down_ints = resize_axis_ints(&sight->down, size, shrink);
    /* across_ints is more than twice the taps of an output */
    const size_t row_ints =
        ((size_t)sight->across.length * 3 + RESIZE_BEYOND) / 2 + 2 * across_ints;
    int *at;

    scratch_grow(scratch, across_ints + down_ints + 2 * (row_ints + 3 * (size_t)size));
    at = scratch->ints;
    at += resize_axis_init(&work->across, &sight->across, size, shrink, at);
    at += resize_axis_init(&work->down, &sight->down, size, shrink, at);
    for (int r = 0; r < 2; r++) {
        work->rows[r] = (int16_t *)(void *)at;
        memset(at, 0, row_ints * sizeof *at); /* what lies behind a row is read, with weight 0 */
        at += row_ints;
        work->turned[r] = (float *)(void *)at; /* as large as ints */
        at += 3 * (size_t)size;
    }
    for (int c = 0; c < 3; c++) {
        work->scale[c] = 1 / (255 * transform->std[c]) * RESIZE_LEVEL;
        work->shift[c] = transform->mean[c] / transform->std[c];
    }
}

/* Output row `row` before the pass across. */
static void resize_down(const struct workspace *work, const struct resize_kernel *kernel,
                        const struct data_image *image, int row, int16_t *out)
{
    const struct resize_axis *const down = &work->down;
    const size_t stride = (size_t)image->width * 3;
    const uint8_t *const in = image->rgb + (size_t)(down->begin[row] - image->y) * stride +
                              (size_t)(work->across.first - image->x) * 3;

    kernel->down(in, stride, down->weights + (size_t)row * (size_t)down->taps, down->count[row],
                 3 * (size_t)(work->across.end - work->across.first), out);
}

/* A row of the resampled picture is column `column` of the output. */
static void turn_row(const float *row, int size, int column, float *out)
{
    for (int i = 0; i < size; i++)
        memcpy(out + ((size_t)i * (size_t)size + (size_t)column) * 3, row + 3 * (size_t)i,
               3 * sizeof *row);
}

static void resize(const struct workspace *work, const struct resize_kernel *kernel,
                   const struct data_image *image, bool swapped, float *out)
{
    const int size = work->down.size;
    int begin = 0, end = size;

    while (work->down.count[begin] == 0) /* padding is at the ends, and somewhere there is none */
        begin++;
    while (work->down.count[end - 1] == 0)
        end--;
    if (begin > 0 || end < size)
        memset(out, 0, (size_t)size * (size_t)size * 3 * sizeof *out);
    for (int row = begin; row < end; row += 2) {
        const int both[2] = {row, row + 1 < end ? row + 1 : row};
        const int16_t *const rows[2] = {work->rows[0], work->rows[both[1] - row]};
        float *to[2];

        for (int r = 0; r < 2; r++)
            to[r] = swapped ? work->turned[r] : out + (size_t)both[r] * (size_t)size * 3;
        for (int r = 0; r <= both[1] - row; r++)
            resize_down(work, kernel, image, both[r], work->rows[r]);
        kernel->across(rows, &work->across, work->scale, work->shift, to);
        for (int r = 0; swapped && r < 2; r++)
            turn_row(to[r], size, both[r], out);
    }
}

void data_transform_apply(const struct data_transform *transform, const struct data_image *image,
                          uint64_t sample, uint32_t epoch, struct data_scratch *scratch, float *out)
{
    const struct sight sight = sight_of(transform, &image->whole, sample, epoch);
    struct workspace work;

    assert(transform->size > 0 && image->width > 0 && image->height > 0);
    workspace_init(&work, &sight, transform, image->shrink, scratch);
    assert(image->x <= work.across.first && work.across.end <= image->x + image->width);
    assert(image->y <= work.down.first && work.down.end <= image->y + image->height);
    resize(&work, resize_kernel_best(), image, sight.swapped, out);
}

void data_scratch_release(struct data_scratch *scratch)
{
    if (scratch == NULL)
        return;
    free(scratch->ints);
    *scratch = (struct data_scratch){0};
}
