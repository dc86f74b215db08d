/*
 * trainer/data/png.c -- PNG by libpng.
 *
 * The file's colour space, gamma and transparency are left alone: the stored samples are the
 * picture.
 */
#include <setjmp.h>
#include <string.h>

#include <png.h>

#include "base/err.h"
#include "trainer/data/codec.h"
#include "trainer/data/image.h"

#define PNG_SIGNATURE_BYTES 8
#define PNG_MISSING_GREY    128 /* what rows show that a cut file does not have, as with JPEGs */

struct png_reader {
    png_structp png;
    png_infop info;
    const unsigned char *data;
    size_t left;
    jmp_buf escape;
    char message[128];
    bool ended;    /* the data ended before the picture did */
    bool row_read; /* at least one row is there */
};

static void png_fatal(png_structp png, png_const_charp message)
{
    struct png_reader *reader = png_get_error_ptr(png);

    strncpy(reader->message, message, sizeof reader->message - 1);
    longjmp(reader->escape, 1);
}

static void png_silent(png_structp png, png_const_charp message)
{
    (void)png, (void)message;
}

static void png_take(png_structp png, png_bytep out, size_t bytes)
{
    struct png_reader *reader = png_get_io_ptr(png);

    if (bytes > reader->left) {
        reader->ended = true;
        png_error(png, "the data ends early");
    }
    memcpy(out, reader->data, bytes);
    reader->data += bytes;
    reader->left -= bytes;
}

bool data_png_known(const unsigned char *data, size_t bytes)
{
    return bytes >= PNG_SIGNATURE_BYTES && png_sig_cmp(data, 0, PNG_SIGNATURE_BYTES) == 0;
}

/* Whatever the file holds, rows come out as RGB of 8 bits. */
static void png_ask_for_rgb(png_structp png)
{
    png_set_palette_to_rgb(png);
    png_set_expand_gray_1_2_4_to_8(png);
    png_set_scale_16(png);
    png_set_gray_to_rgb(png);
    png_set_strip_alpha(png);
}

/* May jump to escape. */
static int png_read_picture(struct png_reader *reader, struct data_image *image, struct err *err)
{
    png_structp png = reader->png;
    size_t row_bytes;
    int passes;

    png_read_info(png, reader->info);
    if (data_image_reserve(image, png_get_image_width(png, reader->info),
                           png_get_image_height(png, reader->info), err) < 0)
        return -1;
    row_bytes = (size_t)image->width * 3;
    memset(image->rgb, PNG_MISSING_GREY, row_bytes * (size_t)image->height);
    if (png_get_color_type(png, reader->info) == PNG_COLOR_TYPE_PALETTE &&
        !png_get_valid(png, reader->info, PNG_INFO_PLTE))
        png_error(png, "no palette");
    png_ask_for_rgb(png);
    passes = png_set_interlace_handling(png);
    png_read_update_info(png, reader->info);
    if (png_get_rowbytes(png, reader->info) != row_bytes)
        png_error(png, "rows of another length");
    for (int pass = 0; pass < passes; pass++)
        for (int y = 0; y < image->height; y++) {
            png_read_row(png, image->rgb + (size_t)y * row_bytes, NULL);
            reader->row_read = true;
        }
    return 0;
}

int data_png_decode(const unsigned char *data, size_t bytes, struct data_image *image,
                    struct err *err)
{
    struct png_reader reader = {.data = data, .left = bytes};
    int rc;

    if (setjmp(reader.escape) == 0) {
        reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, png_fatal, png_silent);
        reader.info = reader.png != NULL ? png_create_info_struct(reader.png) : NULL;
        if (reader.info != NULL) {
            png_set_read_fn(reader.png, &reader, png_take);
            rc = png_read_picture(&reader, image, err);
        } else {
            rc = err_set(err, ERR_MEMORY, "no memory to read a PNG");
        }
    } else if (reader.ended && reader.row_read) {
        image->truncated = true;
        rc = 0;
    } else {
        rc = err_set(err, ERR_INPUT, "a damaged PNG: %s", reader.message);
    }
    png_destroy_read_struct(&reader.png, &reader.info, NULL);
    return rc;
}
