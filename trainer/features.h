/*
 * trainer/features.h -- rows of floats that are computed once and read many times: what the frozen
 * layers make of each picture.
 *
 * The first rows stay in memory, those that find no room there in a file without a name, which is
 * gone with the process. Each row has a CRC-32C and is checked as it is read.
 */
#ifndef TRAIN_FEATURES_H
#define TRAIN_FEATURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct train_features;

/** Bytes that so many rows take. */
uint64_t train_features_bytes(size_t rows, size_t floats);

/** Room for rows of `floats` floats, none of which is known yet; of them up to memory_bytes in
 * memory, the others in a file in `folder`, whose room is taken at once. NULL: ERR_MEMORY; ERR_IO
 * naming the folder (no permission, no room, or no disk but memory again). */
struct train_features *train_features_new(size_t rows, size_t floats, uint64_t memory_bytes,
                                          const char *folder, struct err *err);
/** Accepts NULL. */
void train_features_free(struct train_features *features);

/** How many of the rows have their place in memory. */
size_t train_features_in_memory(const struct train_features *features);

bool train_features_has(const struct train_features *features, size_t row);

/** Store `count` rows from `row` on. ERR_IO. */
int train_features_put(struct train_features *features, size_t row, size_t count,
                       const float *values, struct err *err);

/** Copy a row that is known to out (floats). ERR_IO: the file cannot be read, or the row is not
 * what was stored. */
int train_features_get(const struct train_features *features, size_t row, float *out,
                       struct err *err);

#endif
