/*
 * trainer/data/picture/codec.h -- one file format each, beneath decode.h; for this folder's own
 * sources.
 */
#ifndef DATA_PICTURE_CODEC_H
#define DATA_PICTURE_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct data_image;
struct data_jpeg;
struct data_part;
struct data_shape;
struct err;

/** Whether the first bytes are the format's. */
bool data_jpeg_known(const unsigned char *data, size_t bytes);
bool data_png_known(const unsigned char *data, size_t bytes);

/** As data_decoder_* (shape may be NULL), for data that begins as the format does. */
struct data_jpeg *data_jpeg_new(void);
void data_jpeg_free(struct data_jpeg *jpeg);
int data_jpeg_begin(struct data_jpeg *jpeg, const unsigned char *data, size_t bytes,
                    struct data_shape *shape, struct err *err);
int data_jpeg_part(struct data_jpeg *jpeg, const struct data_part *part, struct data_image *image,
                   struct err *err);

/** As data_decoder_begin (shape may be NULL); and all of it. */
int data_png_look(const unsigned char *data, size_t bytes, struct data_shape *shape,
                  struct err *err);
int data_png_decode(const unsigned char *data, size_t bytes, struct data_image *image,
                    struct err *err);

/** Append the JPEG (4:2:0, `quality` 1..100) of (height, width, 3) pixels to `out`. */
int data_jpeg_encode(const uint8_t *rgb, int width, int height, int quality, struct buf *out,
                     struct err *err);

#endif
