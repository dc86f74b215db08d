/*
 * trainer/data/picture/png.c -- PNG by libpng.
 *
 * The file's colour space, gamma and transparency are left alone: the stored samples are the
 * picture.
 */
#include <setjmp.h>
#include <string.h>

#include <png.h>

#include "base/err.h"
#include "trainer/data/picture/codec.h"
#include "trainer/data/picture/image.h"

#define PNG_SIGNATURE_BYTES 8
#define PNG_LOOK_BYTES      24  /* signature, length and name of the first chunk, width, height */
#define PNG_MISSING_GREY    128 /* what rows show that a cut file does not have, as with JPEGs */

struct png_reader {
    png_structp png;
    png_infop info;
    struct data_image *image;
    struct err *err;
    jmp_buf escape;
    char message[128];
    bool refused;  /* err says why */
    bool row_read; /* at least one row is there */
    bool ended;    /* all of them are */
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

bool data_png_known(const unsigned char *data, size_t bytes)
{
    return bytes >= PNG_SIGNATURE_BYTES && png_sig_cmp(data, 0, PNG_SIGNATURE_BYTES) == 0;
}

static uint32_t png_be32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

int data_png_look(const unsigned char *data, size_t bytes, struct data_shape *shape,
                  struct err *err)
{
    uint32_t width, height;

    if (bytes < PNG_LOOK_BYTES)
        return err_set(err, ERR_INPUT, "a damaged PNG: the data ends early");
    if (memcmp(data + 12, "IHDR", 4) != 0)
        return err_set(err, ERR_INPUT, "a damaged PNG: no header");
    width = png_be32(data + 16);
    height = png_be32(data + 20);
    if (data_image_check(width, height, err) < 0)
        return -1;
    if (shape != NULL)
        *shape = (struct data_shape){.width = (int)width, .height = (int)height, .orientation = 1};
    return 0;
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

/* libpng has read what stands ahead of the rows. */
static void png_begin(png_structp png, png_infop info)
{
    struct png_reader *const reader = png_get_progressive_ptr(png);
    struct data_image *const image = reader->image;
    size_t row_bytes;

    if (data_image_reserve(image, png_get_image_width(png, info), png_get_image_height(png, info),
                           reader->err) < 0) {
        reader->refused = true;
        png_error(png, "refused");
    }
    row_bytes = (size_t)image->width * 3;
    memset(image->rgb, PNG_MISSING_GREY, row_bytes * (size_t)image->height);
    if (png_get_color_type(png, info) == PNG_COLOR_TYPE_PALETTE &&
        !png_get_valid(png, info, PNG_INFO_PLTE))
        png_error(png, "no palette");
    png_ask_for_rgb(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    if (png_get_rowbytes(png, info) != row_bytes)
        png_error(png, "rows of another length");
}

/* A row of a pass; NULL where the pass has none at this place. */
static void png_take_row(png_structp png, png_bytep row, png_uint_32 y, int pass)
{
    struct png_reader *const reader = png_get_progressive_ptr(png);
    struct data_image *const image = reader->image;

    (void)pass;
    if (row == NULL)
        return;
    png_progressive_combine_row(png, image->rgb + (size_t)y * (size_t)image->width * 3, row);
    reader->row_read = true;
}

static void png_end(png_structp png, png_infop info)
{
    struct png_reader *const reader = png_get_progressive_ptr(png);

    (void)info;
    reader->ended = true;
}

/* libpng pushes what it gets through, so that rows come as far as the data go. An error is left in
 * the reader. */
static void png_push(struct png_reader *reader, const unsigned char *data, size_t bytes)
{
    if (setjmp(reader->escape) != 0)
        return;
    png_set_progressive_read_fn(reader->png, reader, png_begin, png_take_row, png_end);
    png_process_data(reader->png, reader->info, (png_bytep)(uintptr_t)data, bytes);
}

int data_png_decode(const unsigned char *data, size_t bytes, struct data_image *image,
                    struct err *err)
{
    struct png_reader reader = {.image = image, .err = err, .message = "the data ends early"};
    int rc = -1;

    reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, png_fatal, png_silent);
    reader.info = reader.png != NULL ? png_create_info_struct(reader.png) : NULL;
    if (reader.info == NULL) {
        err_set(err, ERR_MEMORY, "no memory to read a PNG");
        goto out;
    }
    png_push(&reader, data, bytes);
    if (reader.refused)
        goto out;
    if (!reader.row_read) {
        err_set(err, ERR_INPUT, "a damaged PNG: %s", reader.message);
        goto out;
    }
    image->truncated = !reader.ended;
    rc = 0;
out:
    png_destroy_read_struct(&reader.png, &reader.info, NULL);
    return rc;
}
