#include "trainer/data/picture/crop.h"

#include <math.h>

#include "base/philox.h"
#include "trainer/data/picture/transform.h"

#define CROP_TRIES      10 /* as torchvision */
#define CROP_AREA_MIN   0.08
#define CROP_ASPECT_MAX (4.0 / 3.0) /* and its inverse is the least */
#define PAD_PIXELS      4           /* He et al. 2015, section 4.2 */
#define CENTER_SHARE    (256.0 / 224.0)

static void crop_flip(struct data_crop *crop, struct philox *philox)
{
    crop->flip = philox_u32(philox) >> 31;
}

static struct data_crop crop_whole(int width, int height, int full_w, int full_h)
{
    return (struct data_crop){.w = width, .h = height, .full_w = full_w, .full_h = full_h};
}

/* The largest box in the middle whose aspect is allowed. */
static void crop_fall_back(struct data_crop *crop, int width, int height)
{
    const double aspect = (double)width / height;

    crop->w = width;
    crop->h = height;
    if (aspect < 1 / CROP_ASPECT_MAX)
        crop->h = (int)lrint(width * CROP_ASPECT_MAX);
    else if (aspect > CROP_ASPECT_MAX)
        crop->w = (int)lrint(height * CROP_ASPECT_MAX);
    crop->x = (width - crop->w) / 2;
    crop->y = (height - crop->h) / 2;
}

static struct data_crop crop_resized(int width, int height, int size, struct philox *philox)
{
    const double area = (double)width * height;
    struct data_crop crop = {.full_w = size, .full_h = size};
    int tries = 0;

    for (; tries < CROP_TRIES; tries++) {
        const double share = CROP_AREA_MIN + (1 - CROP_AREA_MIN) * philox_uniform(philox);
        const double aspect = exp((2.0 * philox_uniform(philox) - 1) * log(CROP_ASPECT_MAX));

        crop.w = (int)lrint(sqrt(area * share * aspect));
        crop.h = (int)lrint(sqrt(area * share / aspect));
        if (crop.w > 0 && crop.w <= width && crop.h > 0 && crop.h <= height)
            break;
    }
    if (tries < CROP_TRIES) {
        crop.y = (int)philox_below(philox, (uint32_t)(height - crop.h + 1));
        crop.x = (int)philox_below(philox, (uint32_t)(width - crop.w + 1));
    } else {
        crop_fall_back(&crop, width, height);
    }
    crop_flip(&crop, philox);
    return crop;
}

static struct data_crop crop_padded(int width, int height, int size, struct philox *philox)
{
    struct data_crop crop = crop_whole(width, height, size, size);

    crop.win_y = (int)philox_below(philox, 2 * PAD_PIXELS + 1) - PAD_PIXELS;
    crop.win_x = (int)philox_below(philox, 2 * PAD_PIXELS + 1) - PAD_PIXELS;
    crop_flip(&crop, philox);
    return crop;
}

/* Rounds as torchvision's Resize and CenterCrop do: the longer side down, half a pixel to even. */
static struct data_crop crop_center(int width, int height, int size)
{
    const int shorter = (int)lrint(size * CENTER_SHARE);
    struct data_crop crop = crop_whole(width, height, shorter, shorter);

    if (width < height)
        crop.full_h = (int)((int64_t)shorter * height / width);
    else
        crop.full_w = (int)((int64_t)shorter * width / height);
    crop.win_x = (int)lrint((crop.full_w - size) / 2.0);
    crop.win_y = (int)lrint((crop.full_h - size) / 2.0);
    return crop;
}

struct data_crop data_crop_make(const struct data_transform *transform, int width, int height,
                                uint64_t sample, uint32_t epoch)
{
    struct philox philox;

    philox_init(&philox, transform->seed, sample, data_transform_view(transform, epoch),
                PHILOX_AUGMENT);
    switch (transform->kind) {
    case DATA_TRANSFORM_RESIZED_CROP:
        return crop_resized(width, height, transform->size, &philox);
    case DATA_TRANSFORM_PAD_CROP:
        return crop_padded(width, height, transform->size, &philox);
    case DATA_TRANSFORM_CENTER:
        return crop_center(width, height, transform->size);
    case DATA_TRANSFORM_RESIZE:
        break;
    }
    return crop_whole(width, height, transform->size, transform->size);
}
