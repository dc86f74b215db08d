/*
 * trainer/data/picture/crop.h -- which box of a picture a transform takes, and what it becomes.
 */
#ifndef DATA_PICTURE_CROP_H
#define DATA_PICTURE_CROP_H

#include <stdbool.h>
#include <stdint.h>

struct data_transform;

/* The box is resized to full_w x full_h; of that a window of size x size is kept, and mirrored left
 * to right or not. What of the window lies outside the resized box is padding. */
struct data_crop {
    int x, y, w, h;     /* the box, in pixels of the upright picture */
    int full_w, full_h; /* what it is resized to */
    int win_x, win_y;   /* the window's corner in that; may lie outside */
    bool flip;
};

/** The crop of a sample in an epoch, for an upright picture of these sides: drawn from Philox, or
 * an evaluation's, which is always the same. */
struct data_crop data_crop_make(const struct data_transform *transform, int width, int height,
                                uint64_t sample, uint32_t epoch);

#endif
