/*
 * trainer/vector_sizes.h -- sizes of the vectors that `convoy bench comm` sums, as text.
 */
#ifndef TRAIN_VECTOR_SIZES_H
#define TRAIN_VECTOR_SIZES_H

#include <stddef.h>

struct err;

#define TRAIN_VECTOR_SIZES_MAX 16

struct train_vector_sizes {
    size_t bytes[TRAIN_VECTOR_SIZES_MAX]; /* (count), whole floats, all different */
    int count;
};

/** "64kB,1MB,100MB", "4MiB" or bare bytes. ERR_USAGE. */
int train_vector_sizes_read(const char *text, struct train_vector_sizes *sizes, struct err *err);

#endif
