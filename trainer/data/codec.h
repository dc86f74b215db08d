/*
 * trainer/data/codec.h -- one file format each, beneath decode.h; for this folder's own sources.
 */
#ifndef DATA_CODEC_H
#define DATA_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct data_image;
struct err;

/** Whether the first bytes are the format's. */
bool data_jpeg_known(const unsigned char *data, size_t bytes);
bool data_png_known(const unsigned char *data, size_t bytes);

/** As data_decode, for data that begins as the format does. */
int data_jpeg_decode(const unsigned char *data, size_t bytes, struct data_image *image,
                     struct err *err);
int data_png_decode(const unsigned char *data, size_t bytes, struct data_image *image,
                    struct err *err);

/** Append the JPEG (4:2:0, `quality` 1..100) of (height, width, 3) pixels to `out`. */
int data_jpeg_encode(const uint8_t *rgb, int width, int height, int quality, struct buf *out,
                     struct err *err);

#endif
