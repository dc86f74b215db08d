/*
 * trainer/data/transform.c -- crop, resize, flip, normalise.
 *
 * Every kind is one plan: a box of the picture is resized to full_w x full_h, and of that a window
 * of size x size is kept. Only the window is computed: across first, for the rows that it needs,
 * then down. What of the window lies outside the resized box is padding.
 */
#include "trainer/data/transform.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "trainer/data/decode.h"

#define CROP_TRIES      10 /* as torchvision */
#define CROP_AREA_MIN   0.08
#define CROP_ASPECT_MAX (4.0 / 3.0) /* and its inverse is the least */
#define PAD_PIXELS      4           /* He et al. 2015, section 4.2 */
#define CENTER_SHARE    (256.0 / 224.0)

const float data_imagenet_mean[3] = {0.485f, 0.456f, 0.406f};
const float data_imagenet_std[3] = {0.229f, 0.224f, 0.225f};

/* One pixel as a vector: red, green, blue and a lane that stays unused. */
typedef float pixel4 __attribute__((vector_size(16)));

struct plan {
    int x, y, w, h;     /* the box, in the picture's pixels */
    int full_w, full_h; /* what it is resized to */
    int win_x, win_y;   /* the window's corner in that; may lie outside */
    bool flip;
};

/* The filter of one axis: output i is the sum of weights[i * taps + k] times input begin[i] + k, k
 * < count[i]. */
struct axis {
    int taps; /* the most an output has */
    int *begin, *count;
    float *weights;
};

static void plan_flip(struct plan *plan, struct philox *philox)
{
    plan->flip = philox_u32(philox) >> 31;
}

static struct plan plan_whole(const struct data_image *image, int full_w, int full_h)
{
    return (struct plan){.w = image->width, .h = image->height, .full_w = full_w, .full_h = full_h};
}

/* The largest box in the middle whose aspect is allowed. */
static void plan_fallback_crop(struct plan *plan, const struct data_image *image)
{
    const double aspect = (double)image->width / image->height;

    plan->w = image->width;
    plan->h = image->height;
    if (aspect < 1 / CROP_ASPECT_MAX)
        plan->h = (int)lrint(image->width * CROP_ASPECT_MAX);
    else if (aspect > CROP_ASPECT_MAX)
        plan->w = (int)lrint(image->height * CROP_ASPECT_MAX);
    plan->x = (image->width - plan->w) / 2;
    plan->y = (image->height - plan->h) / 2;
}

static struct plan plan_resized_crop(const struct data_image *image, int size,
                                     struct philox *philox)
{
    const double area = (double)image->width * image->height;
    struct plan plan = {.full_w = size, .full_h = size};
    int tries = 0;

    for (; tries < CROP_TRIES; tries++) {
        const double share = CROP_AREA_MIN + (1 - CROP_AREA_MIN) * philox_uniform(philox);
        const double aspect = exp((2.0 * philox_uniform(philox) - 1) * log(CROP_ASPECT_MAX));

        plan.w = (int)lrint(sqrt(area * share * aspect));
        plan.h = (int)lrint(sqrt(area * share / aspect));
        if (plan.w > 0 && plan.w <= image->width && plan.h > 0 && plan.h <= image->height)
            break;
    }
    if (tries < CROP_TRIES) {
        plan.y = (int)philox_below(philox, (uint32_t)(image->height - plan.h + 1));
        plan.x = (int)philox_below(philox, (uint32_t)(image->width - plan.w + 1));
    } else {
        plan_fallback_crop(&plan, image);
    }
    plan_flip(&plan, philox);
    return plan;
}

static struct plan plan_pad_crop(const struct data_image *image, int size, struct philox *philox)
{
    struct plan plan = plan_whole(image, size, size);

    plan.win_y = (int)philox_below(philox, 2 * PAD_PIXELS + 1) - PAD_PIXELS;
    plan.win_x = (int)philox_below(philox, 2 * PAD_PIXELS + 1) - PAD_PIXELS;
    plan_flip(&plan, philox);
    return plan;
}

/* Rounds as torchvision's Resize and CenterCrop do: the longer side down, half a pixel to even. */
static struct plan plan_center(const struct data_image *image, int size)
{
    const int w = image->width, h = image->height, shorter = (int)lrint(size * CENTER_SHARE);
    struct plan plan = plan_whole(image, shorter, shorter);

    if (w < h)
        plan.full_h = (int)((int64_t)shorter * h / w);
    else
        plan.full_w = (int)((int64_t)shorter * w / h);
    plan.win_x = (int)lrint((plan.full_w - size) / 2.0);
    plan.win_y = (int)lrint((plan.full_h - size) / 2.0);
    return plan;
}

uint32_t data_transform_view(const struct data_transform *transform, uint32_t epoch)
{
    if (transform->kind == DATA_TRANSFORM_CENTER || transform->kind == DATA_TRANSFORM_RESIZE)
        return 0;
    return transform->views == 0 ? epoch : epoch % transform->views;
}

static struct plan plan_make(const struct data_transform *transform, const struct data_image *image,
                             uint64_t sample, uint32_t epoch)
{
    struct philox philox;

    philox_init(&philox, transform->seed, sample, data_transform_view(transform, epoch),
                PHILOX_AUGMENT);
    switch (transform->kind) {
    case DATA_TRANSFORM_RESIZED_CROP:
        return plan_resized_crop(image, transform->size, &philox);
    case DATA_TRANSFORM_PAD_CROP:
        return plan_pad_crop(image, transform->size, &philox);
    case DATA_TRANSFORM_CENTER:
        return plan_center(image, transform->size);
    case DATA_TRANSFORM_RESIZE:
        break;
    }
    return plan_whole(image, transform->size, transform->size);
}

/* Half the filter's width in input pixels: it widens when the picture shrinks, which is the
 * antialiasing. */
static double axis_support(int in, int full)
{
    return in > full ? (double)in / full : 1.0;
}

static int axis_taps(int in, int full)
{
    return in == full ? 1 : 2 * (int)ceil(axis_support(in, full)) + 1;
}

/* The taps of output `at` (0 .. full-1) of an axis of `in` pixels resized to `full`. */
static void axis_fill_one(struct axis *axis, int i, int in, int full, int at)
{
    const double support = axis_support(in, full);
    const double center = (at + 0.5) * in / full;
    const int low = (int)(center - support + 0.5), high = (int)(center + support + 0.5);
    const int begin = low < 0 ? 0 : low, end = high > in ? in : high;
    float *weights = axis->weights + (size_t)i * (size_t)axis->taps;
    double sum = 0;

    assert(begin < end && end - begin <= axis->taps);
    axis->begin[i] = begin;
    axis->count[i] = end - begin;
    for (int k = begin; k < end; k++)
        sum += fmax(0, 1 - fabs((k + 0.5 - center) / support));
    for (int k = begin; k < end; k++)
        weights[k - begin] = (float)(fmax(0, 1 - fabs((k + 0.5 - center) / support)) / sum);
}

/* Outputs 0 .. size-1 are places win .. win+size-1 of the resized axis (mirrored: the other way
 * round). */
static void axis_fill(struct axis *axis, int size, int in, int full, int win, bool mirrored)
{
    for (int i = 0; i < size; i++) {
        const int at = win + (mirrored ? size - 1 - i : i);

        axis->begin[i] = 0;
        axis->count[i] = 0;
        if (at < 0 || at >= full)
            continue;
        if (in != full) {
            axis_fill_one(axis, i, in, full, at);
        } else {
            axis->begin[i] = at;
            axis->count[i] = 1;
            axis->weights[i] = 1; /* the same pixels, untouched */
        }
    }
}

/* Scratch for a plan: memory first, then the pieces of it. */
struct workspace {
    struct axis across, down;
    pixel4 *source; /* (w) one row of the box as floats */
    pixel4 *rows;   /* (row_count, size) rows of the box after the pass across */
    int row_begin, row_count;
};

static void scratch_grow(struct data_scratch *scratch, uint64_t floats)
{
    if (floats <= scratch->capacity)
        return;
    free(scratch->floats);
    scratch->floats = aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64);
    if (scratch->floats == NULL)
        abort(); /* smaller than the picture that is in memory */
    scratch->capacity = floats;
}

/* Which rows of the box the window needs at all. */
static void workspace_find_rows(struct workspace *work, int size)
{
    int begin = -1, end = 0;

    for (int i = 0; i < size; i++) {
        if (work->down.count[i] == 0)
            continue;
        if (begin < 0 || work->down.begin[i] < begin)
            begin = work->down.begin[i];
        if (work->down.begin[i] + work->down.count[i] > end)
            end = work->down.begin[i] + work->down.count[i];
    }
    work->row_begin = begin < 0 ? 0 : begin;
    work->row_count = end - work->row_begin;
}

/* begin and count are ints, as large as floats: they live in the same memory. */
static float *axis_place(struct axis *axis, int taps, int size, float *at)
{
    axis->taps = taps;
    axis->begin = (int *)(void *)at;
    axis->count = (int *)(void *)(at + size);
    axis->weights = at + 2 * (size_t)size;
    return axis->weights + (size_t)size * (size_t)taps;
}

static void workspace_init(struct workspace *work, const struct plan *plan, int size,
                           struct data_scratch *scratch)
{
    const int taps_x = axis_taps(plan->w, plan->full_w), taps_y = axis_taps(plan->h, plan->full_h);
    const uint64_t n = (uint64_t)size;
    const uint64_t vectors = 4 * ((uint64_t)plan->w + (uint64_t)plan->h * n);
    float *at;

    scratch_grow(scratch, vectors + n * (uint64_t)(4 + taps_x + taps_y));
    work->source = (pixel4 *)(void *)scratch->floats;
    work->rows = work->source + plan->w;
    at = scratch->floats + vectors;
    at = axis_place(&work->across, taps_x, size, at);
    axis_place(&work->down, taps_y, size, at);
    axis_fill(&work->across, size, plan->w, plan->full_w, plan->win_x, plan->flip);
    axis_fill(&work->down, size, plan->h, plan->full_h, plan->win_y, false);
    workspace_find_rows(work, size);
}

static void resize_across(const struct workspace *work, const struct plan *plan,
                          const struct data_image *image, int size)
{
    const struct axis *axis = &work->across;

    for (int r = 0; r < work->row_count; r++) {
        const size_t y = (size_t)(plan->y + work->row_begin + r);
        const uint8_t *rgb = image->rgb + (y * (size_t)image->width + (size_t)plan->x) * 3;
        pixel4 *out = work->rows + (size_t)r * (size_t)size;

        for (int x = 0; x < plan->w; x++)
            work->source[x] = (pixel4){rgb[3 * x], rgb[3 * x + 1], rgb[3 * x + 2], 0};
        for (int i = 0; i < size; i++) {
            const float *weights = axis->weights + (size_t)i * (size_t)axis->taps;
            const pixel4 *in = work->source + axis->begin[i];
            pixel4 sum = {0};

            for (int k = 0; k < axis->count[i]; k++)
                sum += in[k] * weights[k];
            out[i] = sum;
        }
    }
}

/* The pass down for one row of the window, and the normalisation: (v / 255 - mean) / std. */
static void resize_down(const struct workspace *work, const struct data_transform *transform,
                        int row, float *out)
{
    const struct axis *down = &work->down;
    const size_t size = (size_t)transform->size;
    const float *weights = down->weights + (size_t)row * (size_t)down->taps;
    const pixel4 *in = work->rows + (size_t)(down->begin[row] - work->row_begin) * size;
    float scale[3], shift[3];

    for (int c = 0; c < 3; c++) {
        scale[c] = 1 / (255 * transform->std[c]);
        shift[c] = transform->mean[c] / transform->std[c];
    }
    for (size_t i = 0; i < size; i++) {
        const bool padding = work->across.count[i] == 0;
        pixel4 sum = {0};

        for (int k = 0; k < down->count[row]; k++)
            sum += in[(size_t)k * size + i] * weights[k];
        for (int c = 0; c < 3; c++)
            out[3 * i + c] = padding ? 0 : sum[c] * scale[c] - shift[c];
    }
}

void data_transform_apply(const struct data_transform *transform, const struct data_image *image,
                          uint64_t sample, uint32_t epoch, struct data_scratch *scratch, float *out)
{
    const struct plan plan = plan_make(transform, image, sample, epoch);
    const int size = transform->size;
    struct workspace work;

    assert(size > 0 && image->width > 0 && image->height > 0);
    workspace_init(&work, &plan, size, scratch);
    resize_across(&work, &plan, image, size);
    memset(out, 0, (size_t)size * (size_t)size * 3 * sizeof *out); /* what is padding stays so */
    for (int row = 0; row < size; row++)
        if (work.down.count[row] > 0)
            resize_down(&work, transform, row, out + (size_t)row * (size_t)size * 3);
}

void data_scratch_release(struct data_scratch *scratch)
{
    if (scratch == NULL)
        return;
    free(scratch->floats);
    *scratch = (struct data_scratch){0};
}
