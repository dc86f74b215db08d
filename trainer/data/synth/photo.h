/*
 * trainer/data/synth/photo.h -- drawn pictures with the sizes and the detail of photographs.
 *
 * A class's shape (draw.h) is drawn coarsely, a quarter of the size, which makes its edges as soft
 * as a lens does; over it lies grain, noise with as much variance in each octave of frequency, as
 * photographs have it (Field 1987, "Relations between the statistics of natural images and the
 * response properties of cortical cells"). So a JPEG of one has as many bytes a pixel as a
 * photograph's, and drawing one takes about as long as encoding it.
 */
#ifndef DATA_SYNTH_PHOTO_H
#define DATA_SYNTH_PHOTO_H

#include <stddef.h>
#include <stdint.h>

struct philox;

/* The grain that all pictures of a set share: each takes it from a place of its own. */
struct data_grain;
struct data_grain *data_grain_new(void);
void data_grain_free(struct data_grain *grain);

/** A size: half of all are `longer` x longer * 3/4, the others' longer side is 0.7 to 1.4 times
 * that and 1 to 1.6 times the shorter; a third stand upright. */
void data_photo_size(int longer, struct philox *random, int *width, int *height);

/** The most pixels that data_photo_size gives. */
size_t data_photo_pixels_max(int longer);

/** Draw (height, width, 3) pixels; all choices come from `random`. Allocates while it works; may
 * run on several threads with one grain. */
void data_photo_draw(const struct data_grain *grain, int class, int width, int height,
                     struct philox *random, uint8_t *rgb);

#endif
