/*
 * trainer/nn/conv/conv.h -- convolution (cross-correlation) without bias, forward and backward.
 *
 * Pictures are (N, H, W, C), filters (K, R, R, C). What stands before and behind a convolution in a
 * residual network (batch norm, addition, ReLU) is done to its rows as it reads and leaves them:
 * kernel/sink.h.
 *
 * Several algorithms can do it (algorithm.h); a table chooses one for each layer and direction by
 * the CPU's features and the layer's shape, never by timing. Which rows are summed together, and in
 * which order, depends on shapes and the set of kernels only, never on the number of threads; and
 * forward treats each image by itself, so an image's result depends neither on its batch nor on its
 * place in it.
 */
#ifndef NN_CONV_H
#define NN_CONV_H

#include <stdbool.h>
#include <stddef.h>

#include "trainer/nn/kernel/sink.h"

struct err;
struct nn_scratch;

struct nn_conv {
    int c, h, w; /* of the input */
    int k, r;    /* filters, and their height and width */
    int stride, pad;
    int oh, ow; /* of the output */
};

enum nn_direction { NN_FORWARD, NN_BACKWARD_DATA, NN_BACKWARD_WEIGHTS };

struct nn_conv nn_conv_make(int c, int h, int w, int k, int r, int stride);

/** Of one shape: then everything that a direction takes is the same too. */
bool nn_conv_is_same(const struct nn_conv *a, const struct nn_conv *b);

/* Filters as an algorithm reads them, for layers whose w and scale stay as they are: made by the
 * first call that is given them, and read by the next ones. */
struct nn_conv_packed {
    float *floats; /* nn_conv_size().filters of them, for any n */
    bool ready;
};

/** y (n, OH, OW, K) from x (n, H, W, C) and w. */
struct nn_conv_forward {
    const struct nn_conv *conv;
    int n;
    struct nn_source x;
    const float *w;                /* (K, R, R, C) */
    const float *scale;            /* (K): filter k is multiplied by scale[k] first; NULL: not */
    struct nn_conv_packed *packed; /* NULL: packed anew in scratch */
    struct nn_sink y;
};

/** dx (n, H, W, C) from dy (n, OH, OW, K). With dx.add it is added to what dx holds, else it is
 * overwritten. */
struct nn_conv_backward_data {
    const struct nn_conv *conv;
    int n;
    struct nn_source dy;
    const float *w;
    struct nn_sink dx;
};

/** dw (K, R, R, C), overwritten, from x and dy. Each row of dy is read (and stored, where the
 * source says so) exactly once; rows of x may be read more often, so x.store is NULL. */
struct nn_conv_backward_weights {
    const struct nn_conv *conv;
    int n;
    struct nn_source x, dy;
    float *dw;
};

void nn_conv_forward(const struct nn_conv_forward *args, const struct nn_scratch *scratch);
void nn_conv_backward_data(const struct nn_conv_backward_data *args,
                           const struct nn_scratch *scratch);
void nn_conv_backward_weights(const struct nn_conv_backward_weights *args,
                              const struct nn_scratch *scratch);

/* What a direction takes. */
struct nn_conv_size {
    size_t shared, private; /* scratch, floats; private: of each thread */
    size_t filters; /* packed, of forward: floats of struct nn_conv_packed, and so many of shared
                       are not needed with it; 0: none are packed */
    size_t blocks;  /* in which images leave through the sink of forward or of backward to the data:
                       sink.sums and sink.block_rows have this many. 0 for backward to the filters */
};

/** For n images, not fewer. */
struct nn_conv_size nn_conv_size(const struct nn_conv *conv, enum nn_direction direction, int n);
/** For any number of images from 1 to n: the most of each. */
struct nn_conv_size nn_conv_size_most(const struct nn_conv *conv, enum nn_direction direction,
                                      int n);

/** The name of the algorithm that the table says: "winograd4", "direct", ... */
const char *nn_conv_algorithm_name(const struct nn_conv *conv, enum nn_direction direction);

/** Is CONVOY_CONV, if it is set, the name of an algorithm? 0, or -1 with err set (ERR_USAGE). */
int nn_conv_check(struct err *err);

#endif
