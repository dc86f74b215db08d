#include "trainer/data/picture/image.h"

#include <stdlib.h>

#include "base/err.h"

int data_image_check(uint32_t width, uint32_t height, struct err *err)
{
    const uint64_t pixels = (uint64_t)width * height;

    if (pixels == 0 || pixels > DATA_IMAGE_PIXELS_MAX || width > DATA_IMAGE_SIDE_MAX ||
        height > DATA_IMAGE_SIDE_MAX)
        return err_set(err, ERR_INPUT,
                       "a picture of %u x %u pixels (1 to %u are read, at most %d a side)", width,
                       height, DATA_IMAGE_PIXELS_MAX, DATA_IMAGE_SIDE_MAX);
    return 0;
}

int data_image_reserve(struct data_image *image, uint32_t width, uint32_t height, struct err *err)
{
    const uint64_t bytes = (uint64_t)width * height * 3;
    uint8_t *rgb;

    if (data_image_check(width, height, err) < 0)
        return -1;
    if (bytes > image->capacity) {
        rgb = malloc(bytes);
        if (rgb == NULL)
            return err_set(err, ERR_MEMORY, "no memory for a picture of %u x %u pixels", width,
                           height);
        free(image->rgb);
        image->rgb = rgb;
        image->capacity = bytes;
    }
    image->width = (int)width;
    image->height = (int)height;
    image->x = image->y = 0;
    image->shrink = 1;
    image->whole =
        (struct data_shape){.width = (int)width, .height = (int)height, .orientation = 1};
    return 0;
}

void data_image_release(struct data_image *image)
{
    if (image == NULL)
        return;
    free(image->rgb);
    *image = (struct data_image){0};
}
