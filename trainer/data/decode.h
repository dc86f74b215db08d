/*
 * trainer/data/decode.h -- JPEG and PNG bytes to RGB pixels.
 *
 * JPEG by libjpeg-turbo: greyscale, RGB, YCbCr, CMYK and YCCK (Adobe's inverted convention) become
 * RGB; the accurate integer DCT, so bits do not depend on the CPU. PNG by libpng: palette, grey, 16
 * bit and alpha (dropped) become RGB 8 bit.
 */
#ifndef DATA_DECODE_H
#define DATA_DECODE_H

#include <stddef.h>

#include "trainer/data/image.h"

struct err;

/** Decode. The type is told by the first bytes, not by the name. What is cut short or damaged at
 * its end is shown as far as it goes, with `truncated` set: a JPEG from its first whole row of
 * blocks on, a PNG from its first row on; the rest is grey. ERR_INPUT: neither JPEG nor PNG,
 * damaged beyond use, too large, a JPEG of 12 bits. Orientation tags, colour profiles and gamma are
 * left alone. The message says what, not which file: the caller wraps it. May run on several
 * threads, an image each. */
int data_decode(const void *data, size_t bytes, struct data_image *image, struct err *err);

#endif
