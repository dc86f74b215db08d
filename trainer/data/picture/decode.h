/*
 * trainer/data/picture/decode.h -- JPEG and PNG bytes to RGB pixels.
 *
 * JPEG by libjpeg-turbo: greyscale, RGB, YCbCr, CMYK and YCCK (Adobe's inverted convention) become
 * RGB; the accurate integer DCT, so bits do not depend on the CPU. PNG by libpng: palette, grey, 16
 * bit and alpha (dropped) become RGB 8 bit. Pixels stay as they are stored; a JPEG's EXIF tag says
 * how to hold them.
 */
#ifndef DATA_PICTURE_DECODE_H
#define DATA_PICTURE_DECODE_H

#include <stddef.h>

#include "trainer/data/picture/image.h"

struct data_decoder;
struct err;

/** One picture after another; a thread has its own. Two calls decode one: begin, then part. */
struct data_decoder *data_decoder_new(void);
void data_decoder_free(struct data_decoder *decoder);

/** Look what the bytes are. The type is told by the first bytes, not by the name. They stay the
 * caller's and unchanged until data_decoder_part. shape may be NULL. ERR_INPUT: neither JPEG nor
 * PNG, damaged beyond use, too large, a JPEG of 12 bits. The message says what, not which file: the
 * caller wraps it. */
int data_decoder_begin(struct data_decoder *decoder, const void *data, size_t bytes,
                       struct data_shape *shape, struct err *err);

/**
 * Decode a part of it (which lies within the picture; shrink is 1 where the shape does not shrink)
 * or, with NULL, all. The image holds the part and may hold more around it; inside it is what the
 * whole picture has there, bit for bit.
 *
 * What is cut short or damaged at its end is shown as far as it goes, with `truncated` set,
 * whichever part is asked for: a JPEG from its first whole row of blocks on, a PNG from its first
 * row on; the rest is grey. Of a JPEG that has its end, damage below the part may not be noticed.
 * ERR_INPUT as data_decoder_begin.
 */
int data_decoder_part(struct data_decoder *decoder, const struct data_part *part,
                      struct data_image *image, struct err *err);

/** Both, of a whole picture. */
int data_decode(const void *data, size_t bytes, struct data_image *image, struct err *err);

#endif
