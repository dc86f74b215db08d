/*
 * trainer/nn/conv/deal.h -- rows of channels dealt into the columns that nn_outer reads.
 *
 * A group is (pixels, NN_TILE_ROWS), a panel (pixels, width): `distance` floats from one to the
 * next. Groups are written in vectors of WIDE floats, each over the end of the one before it; so
 * what follows a group's last pixel so far is lost, pixels are dealt in their order, and behind the
 * last one there are NN_DEAL_SPARE floats.
 */
#ifndef NN_CONV_DEAL_H
#define NN_CONV_DEAL_H

#include <stddef.h>

#define NN_DEAL_SPARE                                                                              \
    8 /* floats behind a group's last pixel, and behind nn_deal_windows' lines                     \
       */

/** `pixels` rows of `count` floats, `step` apart, into groups; what the last one lacks is 0. */
void nn_deal_groups(const float *in, size_t step, size_t pixels, size_t count, float *out,
                    size_t distance);

/** The same into panels of `width`, a multiple of NN_LANES; what the last one lacks stays as it is.
 */
void nn_deal_panels(const float *in, size_t step, size_t pixels, size_t count, size_t width,
                    float *out, size_t distance);

/** Windows of `lines` runs of `count` floats each, `line` apart, dealt into groups as if they lay
 * behind one another. There are `pixels` windows, `step` apart. */
void nn_deal_windows(const float *in, size_t step, size_t pixels, size_t line, size_t lines,
                     size_t count, float *out, size_t distance);

#endif
