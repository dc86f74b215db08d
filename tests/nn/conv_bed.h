/*
 * tests/nn/conv_bed.h -- a convolution with everything that a residual network puts before and
 * behind it, and the same in plain loops in double.
 */
#ifndef TESTS_NN_CONV_BED_H
#define TESTS_NN_CONV_BED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/nn/conv/algorithm.h"
#include "trainer/nn/kernel/scratch.h"

struct form {
    const char *name;
    int n, c, h, w, k, r, stride;
};

/* What one call reads and leaves; which of it counts depends on the direction. */
struct use {
    const char *name;
    enum nn_direction direction;
    enum nn_source_kind x, dy;
    bool both;     /* NN_SOURCE_JOINED: other_affine */
    bool store;    /* forward: x, else dy */
    bool in_place; /* store over what the source reads */
    bool scale;
    enum nn_sink_kind sink;
    bool add, residual, relu, by_output, by_join;
    int norms;
};

#define BED_ARRAYS 40

/* Floats directly in front of a page that may not be touched. */
struct guarded {
    float *at;
    char *pages;
    size_t bytes; /* with the guard */
};

struct bed {
    struct nn_conv conv;
    int n;
    size_t x_rows, y_rows, x_count, y_count, w_count, result_count;
    struct nn_source x, dy;
    struct nn_sink sink;
    const float *w, *scale;
    float *result; /* y, dx or dw */
    float *before; /* what result holds first */
    float *read;   /* what the stored source holds as it is read, or NULL */
    const float *stored;
    size_t blocks;
    struct guarded arrays[BED_ARRAYS];
    size_t used;
};

/** Everything for one use of a form, filled with numbers that depend on the form only. */
void bed_open(struct bed *bed, const struct form *form, const struct use *use,
              const struct nn_conv_algorithm *algorithm);
void bed_close(struct bed *bed);

/** Run it on so many threads; scratch and, without add, the result hold NaN before. */
void bed_run(struct bed *bed, const struct use *use, const struct nn_conv_algorithm *algorithm,
             int threads);

/** The exact result (result_count), sink included; the caller frees it. Asked before bed_run(). */
double *bed_exact(const struct bed *bed, const struct use *use);

/** Do the sums of all blocks together say what the result says? Returns 1 (and prints) if not. */
int bed_sums_differ(const struct bed *bed, const struct use *use, const char *what);

#endif
