/* tests/data/pictures.c -- by libjpeg and libpng. */
#include "tests/data/pictures.h"

#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>
#include <png.h>

#include "base/buf.h"

uint8_t picture_value(int x, int y, int c)
{
    static const int slopes[3][2] = {{3, 1}, {-2, 2}, {1, -3}};
    const int wave_x = abs(x % 96 - 48) - 24, wave_y = abs(y % 96 - 48) - 24;
    const int v = 128 + slopes[c][0] * wave_x + slopes[c][1] * wave_y;

    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static int noise(int x, int y, int c)
{
    const uint32_t n =
        ((uint32_t)x * 73856093u) ^ ((uint32_t)y * 19349663u) ^ ((uint32_t)c * 83492791u);

    return (int)(n * 2654435761u >> 24);
}

static void picture_row(const struct picture *picture, bool busy, int y, uint8_t *row)
{
    const int n = picture->colours == PICTURE_GREY ? 1 : picture->colours >= PICTURE_CMYK ? 4 : 3;

    for (int x = 0; x < picture->width; x++)
        for (int c = 0; c < n; c++) {
            uint8_t v = c == 3 ? PICTURE_BLACK_LIGHT : picture_value(x, y, c);

            if (busy)
                v = (uint8_t)((v + noise(x, y, c)) / 2);
            if (picture->colours == PICTURE_CMYK) /* light to ink */
                v = (uint8_t)(255 - v);
            row[n * x + c] = v;
        }
}

static void picture_set_colours(struct jpeg_compress_struct *jpeg, enum picture_colours colours)
{
    static const J_COLOR_SPACE in[] = {JCS_GRAYSCALE, JCS_RGB,  JCS_RGB,
                                       JCS_CMYK,      JCS_CMYK, JCS_CMYK};
    static const J_COLOR_SPACE out[] = {JCS_GRAYSCALE, JCS_RGB,  JCS_YCbCr,
                                        JCS_CMYK,      JCS_CMYK, JCS_YCCK};
    static const int components[] = {1, 3, 3, 4, 4, 4};

    jpeg->in_color_space = in[colours];
    jpeg->input_components = components[colours];
    jpeg_set_defaults(jpeg);
    jpeg_set_colorspace(jpeg, out[colours]);
    if (colours == PICTURE_CMYK)
        jpeg->write_Adobe_marker = FALSE;
}

static void picture_set_scans(struct jpeg_compress_struct *jpeg, const struct picture *picture,
                              const struct picture_form *form)
{
    static const jpeg_scan_info apart[] = {
        {1, {0}, 0, 63, 0, 0}, {1, {1}, 0, 63, 0, 0}, {1, {2}, 0, 63, 0, 0}};

    if (form->samples_x > 0) {
        jpeg->comp_info[0].h_samp_factor = form->samples_x;
        jpeg->comp_info[0].v_samp_factor = form->samples_y;
    }
    if (picture->progressive)
        jpeg_simple_progression(jpeg);
    if (form->apart) {
        jpeg->scan_info = apart;
        jpeg->num_scans = jpeg->num_components;
    }
    jpeg->restart_in_rows = picture->restart_rows;
}

void picture_jpeg_formed(const struct picture *picture, const struct picture_form *form,
                         struct buf *out)
{
    struct jpeg_compress_struct jpeg = {0};
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL;
    unsigned long count = 0;
    uint8_t *row = calloc((size_t)picture->width, 4);

    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &bytes, &count);
    jpeg.image_width = (JDIMENSION)picture->width;
    jpeg.image_height = (JDIMENSION)picture->height;
    picture_set_colours(&jpeg, picture->colours);
    jpeg_set_quality(&jpeg, 95, TRUE);
    picture_set_scans(&jpeg, picture, form);
    jpeg_start_compress(&jpeg, TRUE);
    for (int y = 0; y < picture->height; y++) {
        picture_row(picture, form->busy, y, row);
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    buf_append(out, bytes, count);
    jpeg_destroy_compress(&jpeg);
    free(bytes);
    free(row);
}

void picture_jpeg(const struct picture *picture, struct buf *out)
{
    picture_jpeg_formed(picture, &(struct picture_form){0}, out);
}

static void picture_png_append(png_structp png, png_bytep data, size_t bytes)
{
    buf_append(png_get_io_ptr(png), data, bytes);
}

static void picture_png_flush(png_structp png)
{
    (void)png;
}

/* One row in the form that the kind stores; palette entry i is the colour at (i, 0). */
static void picture_png_row(int width, int y, enum picture_png kind, uint8_t *row)
{
    for (int x = 0; x < width; x++)
        for (int c = 0; c < 3; c++) {
            const uint8_t v = picture_value(x, y, c);

            if (kind == PICTURE_PNG_RGB)
                row[3 * x + c] = v;
            else if (kind == PICTURE_PNG_RGBA)
                row[4 * x + c] = v;
            else if (kind == PICTURE_PNG_16)
                row[6 * x + 2 * c] = row[6 * x + 2 * c + 1] = v;
            else if (c == 0)
                row[x] = kind == PICTURE_PNG_GREY ? v : (uint8_t)x;
        }
    for (int x = 0; kind == PICTURE_PNG_RGBA && x < width; x++)
        row[4 * x + 3] = (uint8_t)(x % 2 * 255); /* alpha, to be dropped */
}

void picture_png(int width, int height, enum picture_png kind, bool interlaced, struct buf *out)
{
    static const int types[] = {PNG_COLOR_TYPE_RGB, PNG_COLOR_TYPE_RGBA, PNG_COLOR_TYPE_GRAY,
                                PNG_COLOR_TYPE_PALETTE, PNG_COLOR_TYPE_RGB};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_color palette[256];
    uint8_t *row = calloc((size_t)width, 6);
    int passes;

    png_set_write_fn(png, out, picture_png_append, picture_png_flush);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height,
                 kind == PICTURE_PNG_16 ? 16 : 8, types[kind],
                 interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    for (int i = 0; i < 256; i++)
        palette[i] =
            (png_color){picture_value(i, 0, 0), picture_value(i, 0, 1), picture_value(i, 0, 2)};
    if (kind == PICTURE_PNG_PALETTE)
        png_set_PLTE(png, info, palette, width < 256 ? width : 256);
    png_write_info(png, info);
    passes = png_set_interlace_handling(png);
    for (int pass = 0; pass < passes; pass++)
        for (int y = 0; y < height; y++) {
            picture_png_row(width, y, kind, row);
            png_write_row(png, row);
        }
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    free(row);
}
