/*
 * trainer/data/picture/image.h -- the pixels of one picture, or of a part of it.
 */
#ifndef DATA_PICTURE_IMAGE_H
#define DATA_PICTURE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/* A picture as its file has it. */
struct data_shape {
    int width, height; /* of the stored rows */
    int orientation;   /* how to hold them: EXIF's 1 .. 8, 1 is as they are */
    bool shrinks;      /* it can be decoded shrunk */
};

/* A part of a picture that is shrunk to 1 / shrink a side, the last pixels filled up. */
struct data_part {
    int x, y, width, height; /* in shrunk pixels, as they are stored */
    int shrink;              /* 1, 2, 4 or 8 */
};

/* All zero is an image without pixels. */
struct data_image {
    uint8_t *rgb; /* (height, width, 3); reused by the next decode into the same image, grows as
                     needed */
    size_t capacity;
    int width, height;
    int x, y, shrink;        /* where that lies in its picture, as in data_part */
    struct data_shape whole; /* its picture */
    bool truncated; /* the data ended early, or lacks bits in its midst: what was missing is grey */
};

#define DATA_IMAGE_SIDE_MAX   65500      /* libjpeg's own limit; a PNG may claim 2^31 */
#define DATA_IMAGE_PIXELS_MAX (1u << 28) /* a bigger picture is refused before memory is taken */

/** ERR_INPUT for a picture without pixels, above DATA_IMAGE_PIXELS_MAX or DATA_IMAGE_SIDE_MAX. */
int data_image_check(uint32_t width, uint32_t height, struct err *err);
/** Make it an upright, whole picture of these sides, with room for the pixels (whose values are
 * then undefined). What data_image_check says, before memory is taken; ERR_MEMORY. */
int data_image_reserve(struct data_image *image, uint32_t width, uint32_t height, struct err *err);
/** Free the pixels; accepts all-zero and NULL. */
void data_image_release(struct data_image *image);

#endif
