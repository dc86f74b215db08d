/*
 * trainer/nn/conv/deal.h -- rows of channels dealt into the columns that the kernels read.
 *
 * A group is (pixels, NN_TILE_ROWS), a panel (pixels, width): `distance` floats from one to the
 * next. Nothing before the first row or behind the last one is read (what lies between rows may
 * be), and nothing beside groups and panels is written.
 */
#ifndef NN_CONV_DEAL_H
#define NN_CONV_DEAL_H

#include <stddef.h>

/** `pixels` rows of `count` floats, `step` apart, into groups; what the last one lacks is 0. */
void nn_deal_groups(const float *in, size_t step, size_t pixels, size_t count, float *out,
                    size_t distance);

/** The same into panels of `width`, a multiple of NN_LANES; what the last one lacks stays as it is.
 */
void nn_deal_panels(const float *in, size_t step, size_t pixels, size_t count, size_t width,
                    float *out, size_t distance);

/** Windows of `lines` runs of `count` floats each, `line` apart, dealt into groups as if they lay
 * behind one another; what the last group lacks is 0. There are `pixels` windows, `step` apart. */
void nn_deal_windows(const float *in, size_t step, size_t pixels, size_t line, size_t lines,
                     size_t count, float *out, size_t distance);

#endif
