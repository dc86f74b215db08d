/*
 * tests/nn/numbers.h -- what the layers' tests share: numbers to compute with, comparison, central
 * differences.
 */
#ifndef TESTS_NN_NUMBERS_H
#define TESTS_NN_NUMBERS_H

#include <stddef.h>
#include <stdint.h>

/** `count` floats in [-1, 1) that depend on seed only; the caller frees them. */
float *numbers_new(uint32_t seed, size_t count);
/** The same numbers into an array. */
void numbers_fill(uint32_t seed, float *x, size_t count);

struct nn_tensor;

/** Weights as large as nn_model_init would draw them, and running statistics near 0 and 1, but
 * faster: into vectors laid out as the tensors say. */
void numbers_fill_tensors(const struct nn_tensor *tensors, size_t count, float *weights,
                          float *running);

/** The sum of x[i] * y[i], in double. */
double numbers_dot(const float *x, const float *y, size_t count);

/** Is max|x - expected| <= tolerance * max|expected|? Prints `what` and the error where it is not.
 * Returns 1 then, else 0. */
int numbers_differ(const char *what, const float *x, const float *expected, size_t count,
                   double tolerance);

/** Compare dx with central differences of objective(context) at step h in some 100 elements of x,
 * relative to max|dx|. x is changed and restored. Returns 1 (and prints) if they differ, else 0. */
int numbers_gradient_differs(const char *what, double (*objective)(void *), void *context, float *x,
                             const float *dx, size_t count, float h, double tolerance);

#endif
