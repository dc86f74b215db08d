/* tests/fuzz/picture.c -- any bytes as a picture: every pixel of what is decoded comes from them,
 * and it becomes finite numbers for a network. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "fuzz.h"
#include "trainer/data/decode.h"
#include "trainer/data/image.h"
#include "trainer/data/transform.h"

#define SIZE       8       /* of a network's input */
#define PIXELS_MAX 0x10000 /* of what is decoded: larger ones say no more and take long */

int __real_data_image_reserve(struct data_image *image, uint32_t width, uint32_t height,
                              struct err *err);
int __wrap_data_image_reserve(struct data_image *image, uint32_t width, uint32_t height,
                              struct err *err);

/* All that is decoded comes through here (ld's --wrap). */
int __wrap_data_image_reserve(struct data_image *image, uint32_t width, uint32_t height,
                              struct err *err)
{
    if ((uint64_t)width * height > PIXELS_MAX && (uint64_t)width * height <= DATA_IMAGE_PIXELS_MAX)
        return err_set(err, ERR_INPUT, "larger than this target looks at");
    return __real_data_image_reserve(image, width, height, err);
}

/* Into memory that holds `filler`. */
static int decode(const uint8_t *data, size_t bytes, struct data_image *image, int filler,
                  struct err *err)
{
    *image = (struct data_image){.rgb = malloc(3 * PIXELS_MAX), .capacity = 3 * PIXELS_MAX};
    if (image->rgb == NULL)
        abort();
    memset(image->rgb, filler, image->capacity);
    return data_decode(data, bytes, image, err);
}

static void transform(const struct data_image *image)
{
    static const enum data_transform_kind kinds[] = {DATA_TRANSFORM_RESIZED_CROP,
                                                     DATA_TRANSFORM_PAD_CROP, DATA_TRANSFORM_CENTER,
                                                     DATA_TRANSFORM_RESIZE};
    struct data_transform transform = {.size = SIZE, .std = {1, 1, 1}, .seed = 1};
    struct data_scratch scratch = {0};
    float out[SIZE * SIZE * 3];

    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        transform.kind = kinds[k];
        data_transform_apply(&transform, image, 1, 1, &scratch, out);
        for (size_t i = 0; i < sizeof out / sizeof out[0]; i++)
            fuzz_must(isfinite(out[i]) && out[i] > -0.01F && out[i] < 1.01F);
    }
    data_scratch_release(&scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct data_image image, again;
    struct err err = {0}, again_err = {0};
    const int rc = decode(data, bytes, &image, 0, &err);
    const int again_rc = decode(data, bytes, &again, 255, &again_err);

    fuzz_must_say(rc, &err);
    fuzz_must(rc == again_rc);
    if (rc == 0) {
        fuzz_must(image.width > 0 && image.height > 0);
        fuzz_must(image.width == again.width && image.height == again.height);
        fuzz_must(image.truncated == again.truncated);
        fuzz_must(memcmp(image.rgb, again.rgb, 3 * (size_t)image.width * (size_t)image.height) ==
                  0);
        transform(&image);
    }
    data_image_release(&image);
    data_image_release(&again);
    return 0;
}
