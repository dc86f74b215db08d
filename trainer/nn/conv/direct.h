/*
 * trainer/nn/conv/direct.h -- what the files of the algorithm "direct" share: how a direction of a
 * layer is cut.
 *
 * Forward and backward to the data are the same: pixels of a result whose windows on an input are
 * multiplied with packed filters.
 *
 * Backward to the data with stride s: the pixels of dx fall into s * s classes by (y mod s, x mod
 * s). Within a class each pixel sees the same taps of the filters, and its neighbour in the class
 * sees the neighbouring pixel of dy, so that each class is a convolution of stride 1 that writes
 * every s-th pixel. A class may see no taps at all.
 */
#ifndef NN_CONV_DIRECT_H
#define NN_CONV_DIRECT_H

#include <stddef.h>

#include "trainer/nn/conv/conv.h"
#include "trainer/nn/conv/pack.h"
#include "trainer/nn/conv/strip.h"

struct nn_scratch;

#define NN_DIRECT_STRIDE_MAX  3
#define NN_DIRECT_CLASSES_MAX (NN_DIRECT_STRIDE_MAX * NN_DIRECT_STRIDE_MAX)

/* The pixels (first_y + out_step * i, first_x + out_step * j) of the result. */
struct nn_direct_class {
    int first_y, first_x;
    int low_y, low_x; /* the window of pixel 0, 0 begins here */
    struct nn_pack pack;
    size_t panels_at; /* of all classes' packed filters, floats */
};

struct nn_direct_plan {
    struct nn_strips strips; /* of each class; one without taps sees nothing of them */
    size_t in_c, out_c, chunk, width, panels; /* chunk: channels at a time */
    size_t out_h, out_w, out_step;            /* of all classes together */
    size_t filter_floats;                     /* packed */
    size_t classes;
    struct nn_direct_class class[NN_DIRECT_CLASSES_MAX];
};

/** NN_FORWARD or NN_BACKWARD_DATA; backward: stride <= NN_DIRECT_STRIDE_MAX. */
struct nn_direct_plan nn_direct_plan_of(const struct nn_conv *conv, enum nn_direction direction,
                                        int n);

/** Taps of the filters that a pixel of the class sees. */
size_t nn_direct_taps(const struct nn_direct_class *class);

/** The pixels of y and the input that their windows see; not cut yet. */
struct nn_strips nn_direct_forward_strips(const struct nn_conv *conv, int n);

/* direct_weights.c: backward to the filters. */
struct nn_conv_size nn_direct_weights_size(const struct nn_conv *conv, int n);
void nn_direct_weights(const struct nn_conv_backward_weights *args,
                       const struct nn_scratch *scratch);

#endif
