/* tests/fuzz/picture.c -- any bytes as a picture: every pixel of what is decoded comes from them, a
 * part of it is what the whole has there, a JPEG without damage is what libjpeg makes of it, and it
 * becomes finite numbers for a network. */
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include "base/digest.h"
#include "base/err.h"
#include "fuzz.h"
#include "trainer/data/picture/codec.h"
#include "trainer/data/picture/decode.h"
#include "trainer/data/picture/exif.h"
#include "trainer/data/picture/image.h"
#include "trainer/data/picture/transform.h"

#define SIZE       8       /* of a network's input */
#define PIXELS_MAX 0x10000 /* of what is decoded: larger ones say no more and take long */

int __real_data_image_check(uint32_t width, uint32_t height, struct err *err);
int __wrap_data_image_check(uint32_t width, uint32_t height, struct err *err);

/* All that is decoded comes through here first (ld's --wrap). */
int __wrap_data_image_check(uint32_t width, uint32_t height, struct err *err)
{
    if (__real_data_image_check(width, height, err) < 0)
        return -1;
    return (uint64_t)width * height <= PIXELS_MAX
               ? 0
               : err_set(err, ERR_INPUT, "larger than this target looks at");
}

/* --- libjpeg by itself --- */

struct reference {
    struct jpeg_decompress_struct cinfo;
    struct jpeg_error_mgr errors;
    jmp_buf escape;
};

static void escape(j_common_ptr cinfo)
{
    longjmp(((struct reference *)cinfo->client_data)->escape, 1);
}

static void silent(j_common_ptr cinfo, int level)
{
    if (level < 0)
        cinfo->err->num_warnings++;
}

/* Into `rgb`, which has room; false: not a JPEG in colours that are RGB's, or damaged. */
static bool reference_decode(const uint8_t *data, size_t bytes, uint8_t *rgb)
{
    struct reference reference = {0};
    struct jpeg_decompress_struct *const cinfo = &reference.cinfo;
    bool whole = false;

    cinfo->err = jpeg_std_error(&reference.errors);
    reference.errors.error_exit = escape;
    reference.errors.emit_message = silent;
    cinfo->client_data = &reference;
    if (setjmp(reference.escape) == 0) {
        jpeg_create_decompress(cinfo);
        jpeg_mem_src(cinfo, data, (unsigned long)bytes);
        jpeg_read_header(cinfo, TRUE);
        cinfo->dct_method = JDCT_ISLOW;
        cinfo->out_color_space = JCS_RGB;
        jpeg_start_decompress(cinfo);
        while (cinfo->output_scanline < cinfo->output_height) {
            JSAMPROW row = rgb + (size_t)cinfo->output_scanline * cinfo->output_width * 3;

            jpeg_read_scanlines(cinfo, &row, 1);
        }
        whole = reference.errors.num_warnings == 0;
    }
    jpeg_destroy_decompress(cinfo);
    return whole;
}

static void check_reference(const uint8_t *data, size_t bytes, const struct data_image *image)
{
    const size_t count = 3 * (size_t)image->width * (size_t)image->height;
    uint8_t *const rgb = malloc(count);

    if (rgb == NULL)
        abort();
    if (reference_decode(data, bytes, rgb))
        fuzz_must_equal(rgb, count, image->rgb, count);
    free(rgb);
}

/* --- ours --- */

/* Into memory that holds `filler`; part NULL: all. */
static int decode(const uint8_t *data, size_t bytes, const struct data_part *part, int filler,
                  struct data_image *image)
{
    struct data_decoder *const decoder = data_decoder_new();
    struct data_shape shape;
    struct err err = {0};
    int rc;

    *image = (struct data_image){.rgb = malloc(3 * PIXELS_MAX), .capacity = 3 * PIXELS_MAX};
    if (image->rgb == NULL)
        abort();
    memset(image->rgb, filler, image->capacity);
    rc = data_decoder_begin(decoder, data, bytes, &shape, &err);
    if (rc == 0) {
        fuzz_must(shape.width > 0 && shape.height > 0);
        fuzz_must(shape.orientation >= 1 && shape.orientation <= 8);
        rc = data_decoder_part(decoder, part, image, &err);
    }
    fuzz_must_say(rc, &err, FUZZ_INPUT);
    data_decoder_free(decoder);
    return rc;
}

static const uint8_t *row(const struct data_image *image, int x, int y)
{
    return image->rgb +
           3 * ((size_t)(y - image->y) * (size_t)image->width + (size_t)(x - image->x));
}

/* A part against one that holds it. */
static void compare_part(const struct data_part *part, const struct data_image *small,
                         const struct data_image *large)
{
    fuzz_must(small->shrink == part->shrink && large->shrink == part->shrink);
    fuzz_must(large->truncated || !small->truncated); /* damage may lie beside a part */
    fuzz_must(small->x <= part->x && small->x + small->width >= part->x + part->width);
    fuzz_must(small->y <= part->y && small->y + small->height >= part->y + part->height);
    for (int y = part->y; y < part->y + part->height; y++)
        fuzz_must_equal(row(small, part->x, y), 3 * (size_t)part->width, row(large, part->x, y),
                        3 * (size_t)part->width);
}

/* `draw` chooses which part. */
static void check_part(const uint8_t *data, size_t bytes, const struct data_shape *shape,
                       uint32_t draw)
{
    const int shrink = shape->shrinks ? 1 << draw % 4 : 1;
    const struct data_part all = {.width = (shape->width + shrink - 1) / shrink,
                                  .height = (shape->height + shrink - 1) / shrink,
                                  .shrink = shrink};
    struct data_part part = all;
    struct data_image small, large;
    int rc;

    part.x = (int)(draw >> 2) % all.width;
    part.y = (int)(draw >> 9) % all.height;
    part.width = 1 + (int)(draw >> 16) % (all.width - part.x);
    part.height = 1 + (int)(draw >> 24) % (all.height - part.y);
    rc = decode(data, bytes, &all, 0, &large);
    fuzz_must(decode(data, bytes, &part, 255, &small) == rc);
    if (rc == 0)
        compare_part(&part, &small, &large);
    data_image_release(&small);
    data_image_release(&large);
}

static void transform(const uint8_t *data, size_t bytes)
{
    static const enum data_transform_kind kinds[] = {DATA_TRANSFORM_RESIZED_CROP,
                                                     DATA_TRANSFORM_PAD_CROP, DATA_TRANSFORM_CENTER,
                                                     DATA_TRANSFORM_RESIZE};
    struct data_transform transform = {.size = SIZE, .std = {1, 1, 1}, .seed = 1};
    struct data_decoder *const decoder = data_decoder_new();
    struct data_scratch scratch = {0};
    struct data_image image = {0};
    float out[SIZE * SIZE * 3];
    struct err err = {0};

    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        transform.kind = kinds[k];
        fuzz_must(data_transform_decode(&transform, decoder, data, bytes, 1, 1, &image, &err) == 0);
        data_transform_apply(&transform, &image, 1, 1, &scratch, out);
        for (size_t i = 0; i < sizeof out / sizeof out[0]; i++)
            fuzz_must(isfinite(out[i]) && out[i] > -0.01F && out[i] < 1.01F);
    }
    data_scratch_release(&scratch);
    data_image_release(&image);
    data_decoder_free(decoder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct data_image image, again;
    const int rc = decode(data, bytes, NULL, 0, &image);

    if (data_jpeg_known(data, bytes)) {
        const int orientation = data_exif_orientation(data, bytes);

        fuzz_must(orientation >= 1 && orientation <= 8);
    }
    fuzz_must(decode(data, bytes, NULL, 255, &again) == rc);
    if (rc == 0) {
        const size_t count = 3 * (size_t)image.width * (size_t)image.height;

        fuzz_must(image.width > 0 && image.height > 0 && image.truncated == again.truncated);
        fuzz_must(image.width == again.width && image.height == again.height);
        fuzz_must_equal(image.rgb, count, again.rgb, count);
        check_reference(data, bytes, &image);
        check_part(data, bytes, &image.whole, digest_crc32c(0, data, bytes));
        transform(data, bytes);
    }
    data_image_release(&image);
    data_image_release(&again);
    return 0;
}
