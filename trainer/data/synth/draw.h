/*
 * trainer/data/synth/draw.h -- one picture of a class: a shape filled with a texture, on a
 * cluttered ground.
 *
 * A class is a shape, a texture, the texture's scale and a mark (none, a rim, a core of another
 * colour). The first classes differ in shape and texture both; the further one goes, the finer the
 * differences.
 */
#ifndef DATA_SYNTH_DRAW_H
#define DATA_SYNTH_DRAW_H

#include <stddef.h>
#include <stdint.h>

struct philox;

/** How many classes there are. */
int data_draw_classes(void);

/** "disc-stripes", "star-dots-fine-rim": class 0 .. data_draw_classes() - 1. */
void data_draw_name(int class, char *name, size_t bytes);

/** Draw (size, size, 3) pixels; place, size, angle, colours, light, clutter and noise come from
 * `random`. */
void data_draw(int class, int size, struct philox *random, uint8_t *rgb);

/** What a photograph of a class shows, without detail: (height, width, 4) floats, red, green and
 * blue of about 0 .. 1, and the share of the pixel that is the class's shape. The shape has two
 * colours that are its class's own, more or less. No noise. */
void data_draw_coarse(int class, int width, int height, struct philox *random, float *rgba);

#endif
