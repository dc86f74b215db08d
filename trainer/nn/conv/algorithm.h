/*
 * trainer/nn/conv/algorithm.h -- the ways to compute a convolution, and which is taken when.
 *
 * Each algorithm is a file with one table of functions; conv.c chooses between them.
 */
#ifndef NN_CONV_ALGORITHM_H
#define NN_CONV_ALGORITHM_H

#include "trainer/nn/conv/conv.h"

struct nn_conv_algorithm {
    const char *name; /* as CONVOY_CONV spells it */
    /* Can it do this direction of this layer at all? */
    bool (*takes)(const struct nn_conv *conv, enum nn_direction direction);
    int channels_min; /* of the input; with fewer it is taken only when it is asked for */
    struct nn_conv_size (*size)(const struct nn_conv *conv, enum nn_direction direction, int n);
    void (*forward)(const struct nn_conv_forward *args, const struct nn_scratch *scratch);
    void (*backward_data)(const struct nn_conv_backward_data *args,
                          const struct nn_scratch *scratch);
    void (*backward_weights)(const struct nn_conv_backward_weights *args,
                             const struct nn_scratch *scratch);
};

extern const struct nn_conv_algorithm nn_conv_gemm; /* columns.c: im2col and OpenBLAS; takes all */
extern const struct nn_conv_algorithm nn_conv_direct;    /* direct.c: packed filters, own product */
extern const struct nn_conv_algorithm nn_conv_winograd4; /* winograd.c: F(4x4, 3x3), stride 1 */
extern const struct nn_conv_algorithm nn_conv_winograd4s2; /* winograd.c: stride 2, forward only */
extern const struct nn_conv_algorithm nn_conv_winograd2;   /* winograd.c: F(2x2, 3x3), stride 1 */

/** Where a call finds its packed filters, or makes them: what is kept, or shared scratch. */
float *nn_conv_filters(const struct nn_conv_packed *packed, const struct nn_scratch *scratch);
/** Must they be made? They are regarded as made from now on. */
bool nn_conv_must_pack(struct nn_conv_packed *packed);

/** A stride-1 convolution's backward to the data is a convolution too, of dy, with the filters
 * turned by 180 degrees and their roles of c and k exchanged: this one. */
struct nn_conv nn_conv_mirror(const struct nn_conv *conv);

#endif
