/*
 * tests/nn/rows_bed.h -- rows and per-channel vectors for a source to read and a sink to leave, and
 * the formulas in double.
 */
#ifndef TESTS_NN_ROWS_BED_H
#define TESTS_NN_ROWS_BED_H

#include <stdbool.h>
#include <stddef.h>

#include "trainer/nn/kernel/sink.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define ROWS         37
#define C            23 /* no multiple of a vector */

enum { MEAN, SCALE, BIAS, OTHER_MEAN, OTHER_SCALE, OTHER_BIAS, SHARE, PULL, SLOPE, VECTORS };

/* Channels. */
struct range {
    size_t begin, count;
};

struct bed {
    float x[ROWS * C], other[ROWS * C], y[ROWS * C];
    float vectors[VECTORS][C];
    struct nn_source inner; /* ReLU(other_affine(other)) */
};

/** The same numbers each time. */
void bed_fill(struct bed *bed);

/** The vectors `first` (MEAN or OTHER_MEAN) and the two behind it. */
struct nn_affine affine_at(const struct bed *bed, int first);
/** What they make of x in channel j. */
double affine_value(const struct bed *bed, int first, double x, size_t j);
double rectified(double x);

/** Up to the rounding of a few operations in float. */
bool is_near(double found, double expected);

#endif
