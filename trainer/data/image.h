/*
 * trainer/data/image.h -- the pixels of one picture.
 */
#ifndef DATA_IMAGE_H
#define DATA_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/* All zero is an image without pixels. */
struct data_image {
    uint8_t *rgb; /* (height, width, 3); reused by the next decode into the same image, grows as
                     needed */
    size_t capacity;
    int width, height;
    bool truncated; /* the data ended early, or lacks bits in its midst: what was missing is grey */
};

#define DATA_IMAGE_SIDE_MAX   65500      /* libjpeg's own limit; a PNG may claim 2^31 */
#define DATA_IMAGE_PIXELS_MAX (1u << 28) /* a bigger picture is refused before memory is taken */

/** Set width and height and make room for the pixels (whose values are then undefined).
 *  ERR_INPUT above DATA_IMAGE_PIXELS_MAX or DATA_IMAGE_SIDE_MAX, before memory is taken;
 * ERR_MEMORY. */
int data_image_reserve(struct data_image *image, uint32_t width, uint32_t height, struct err *err);
/** Free the pixels; accepts all-zero and NULL. */
void data_image_release(struct data_image *image);

#endif
