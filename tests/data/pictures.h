/*
 * tests/data/pictures.h -- JPEGs and PNGs of every kind, made in memory.
 */
#ifndef TESTS_DATA_PICTURES_H
#define TESTS_DATA_PICTURES_H

#include <stdbool.h>
#include <stdint.h>

struct buf;

enum picture_colours { /* of a JPEG's stored components */
                       PICTURE_GREY,
                       PICTURE_RGB,
                       PICTURE_YCC,
                       PICTURE_CMYK,       /* no Adobe marker: ink as it is */
                       PICTURE_CMYK_ADOBE, /* inverted ink */
                       PICTURE_YCCK,       /* Adobe's, inverted */
};

struct picture {
    int width, height;
    enum picture_colours colours;
    bool progressive;
    int restart_rows; /* a restart marker every so many rows of blocks; 0 for none */
};

/* How else a JPEG may be written; all zero: as libjpeg does by itself. */
struct picture_form {
    int samples_x, samples_y; /* of the first component for one of the others; 0: 2 and 2 */
    bool busy;                /* with noise on it: no pixel tells of its neighbours */
    bool apart;               /* a scan for each component */
};

#define PICTURE_BLACK_LIGHT 200 /* of 255: what the black ink of the CMYK kinds lets through */

/** Smooth colours: pixel (x, y) of channel c; the same function for every test. */
uint8_t picture_value(int x, int y, int c);

/** Append the picture as a JPEG of quality 95. */
void picture_jpeg(const struct picture *picture, struct buf *out);
void picture_jpeg_formed(const struct picture *picture, const struct picture_form *form,
                         struct buf *out);

enum picture_png {
    PICTURE_PNG_RGB,
    PICTURE_PNG_RGBA,
    PICTURE_PNG_GREY,
    PICTURE_PNG_PALETTE,
    PICTURE_PNG_16
};

/** Append it as a PNG (PICTURE_PNG_GREY stores channel 0). */
void picture_png(int width, int height, enum picture_png kind, bool interlaced, struct buf *out);

#endif
