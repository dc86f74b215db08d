#include "trainer/data/image.h"

#include <stdlib.h>

#include "base/err.h"

int data_image_reserve(struct data_image *image, uint32_t width, uint32_t height, struct err *err)
{
    const uint64_t pixels = (uint64_t)width * height;
    uint8_t *rgb;

    if (pixels == 0 || pixels > DATA_IMAGE_PIXELS_MAX || width > DATA_IMAGE_SIDE_MAX ||
        height > DATA_IMAGE_SIDE_MAX)
        return err_set(err, ERR_INPUT,
                       "a picture of %u x %u pixels (1 to %u are read, at most %d a side)", width,
                       height, DATA_IMAGE_PIXELS_MAX, DATA_IMAGE_SIDE_MAX);
    if (pixels * 3 > image->capacity) {
        rgb = malloc(pixels * 3);
        if (rgb == NULL)
            return err_set(err, ERR_MEMORY, "no memory for a picture of %u x %u pixels", width,
                           height);
        free(image->rgb);
        image->rgb = rgb;
        image->capacity = pixels * 3;
    }
    image->width = (int)width;
    image->height = (int)height;
    return 0;
}

void data_image_release(struct data_image *image)
{
    if (image == NULL)
        return;
    free(image->rgb);
    *image = (struct data_image){0};
}
