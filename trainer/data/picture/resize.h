/*
 * trainer/data/picture/resize.h -- a box of pixels resampled, antialiased, in whole numbers.
 *
 * Bilinear as PIL's: output i is a weighted sum of inputs, the weights a triangle as wide as the
 * scale (at least a pixel to either side) around its centre. Weights are whole numbers of sum
 * 2^RESIZE_WEIGHT_BITS, sums are kept to 1 / 2^RESIZE_LEVEL_BITS of a grey level between the two
 * passes and exactly after the second: whole numbers have no order of additions, so the bits are
 * the same with every instruction set.
 *
 * In a picture that is shrunk by DCT scaling a pixel is about the mean of a square of others: its
 * weight is the triangle's over that square, of a triangle that is a little narrower.
 */
#ifndef DATA_PICTURE_RESIZE_H
#define DATA_PICTURE_RESIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RESIZE_WEIGHT_BITS 14
#define RESIZE_LEVEL_BITS  7
#define RESIZE_LEVEL       (1.0f / (1 << (RESIZE_WEIGHT_BITS + RESIZE_LEVEL_BITS))) /* of a sum */
#define RESIZE_BEYOND      8                                                        /* values */

/* What is wanted along one axis of a stored picture. */
struct resize_want {
    int length;      /* of the picture, in pixels before it is shrunk */
    int begin, span; /* the box's, in those */
    int full;        /* what the box is resized to */
    int win;         /* where the outputs begin in that; may lie outside */
    bool flip;       /* the outputs run from the window's end to its begin */
    bool mirrored;   /* the axis runs the other way than begin and win count: from the picture's far
                        end */
};

/* Output i is the sum of weights[i * taps + k] times input begin[i] + k, k < count[i], in pixels of
 * the shrunk picture; count 0: padding. The weights behind are 0 up to taps, an even number. */
struct resize_axis {
    int size, taps;
    int *begin, *count;
    int16_t *weights;
    bool padded;    /* an output has count 0 */
    int first, end; /* the inputs that have weight in any output: first .. end - 1 */
};

/** Ints that resize_axis_init needs for its arrays. */
size_t resize_axis_ints(const struct resize_want *want, int size, int shrink);
/** Fill the axis, its arrays in `memory`, the caller's. Returns the ints that it took. */
size_t resize_axis_init(struct resize_axis *axis, const struct resize_want *want, int size,
                        int shrink, int *memory);
/** Only first and end. */
void resize_axis_range(const struct resize_want *want, int size, int shrink, int *first, int *end);

/* One way to compute the two passes; all give the same bits. */
struct resize_kernel {
    /* out[i], i < n, is the weighted sum of `count` rows: in[i], in[stride + i], ... */
    void (*down)(const uint8_t *in, size_t stride, const int16_t *weights, int count, size_t n,
                 int16_t *out);
    /* (size, 3) floats of each of two rows that down() made of pixels (x, 3), whose first is
     * axis->first: sum * scale[c] - shift[c], and 0 in the padding. rows[1] may be rows[0]. Reads
     * up to RESIZE_BEYOND values behind each. */
    void (*across)(const int16_t *const rows[2], const struct resize_axis *axis, const float *scale,
                   const float *shift, float *const out[2]);
};

extern const struct resize_kernel resize_kernel_generic;

/** AVX2's, or NULL where this processor or build has none. */
const struct resize_kernel *resize_kernel_avx2(void);
/** The fastest here. */
const struct resize_kernel *resize_kernel_best(void);

#endif
