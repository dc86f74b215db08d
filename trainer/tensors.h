/*
 * trainer/tensors.h -- a network's tensors as entries of a safetensors file, and back.
 *
 * Names, shapes and order of elements are torchvision's (OIHW); every batch norm has its
 * num_batches_tracked, the number of optimizer steps. A checkpoint also has the optimizer's state
 * of each trained tensor: "optimizer.momentum.NAME" of SGD, "optimizer.exp_avg.NAME" and
 * "optimizer.exp_avg_sq.NAME" of Adam; and the best weights so far, where they are kept,
 * "best.NAME" of each tensor that training changes.
 */
#ifndef TRAIN_TENSORS_H
#define TRAIN_TENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/weights/safetensors.h"

struct err;
struct nn_model;
struct nn_tensor;
struct optim_state;
struct train_best;

#define TRAIN_TENSORS_WHY_CHARS 200

struct train_tensors {
    struct safetensors_entry *entries;
    size_t count;
    float *floats; /* copies in the order of files */
    char *names;   /* storage of the names that are not the model's */
    int64_t steps; /* what every num_batches_tracked points to */
};

/** Copy weights and running statistics, and the optimizer's state and the best weights where they
 * are not NULL and there. ERR_MEMORY. */
int train_tensors_gather(struct train_tensors *tensors, struct nn_model *model,
                         const struct optim_state *state, const struct train_best *best,
                         uint64_t steps, struct err *err);
/** Accepts all-zero. */
void train_tensors_release(struct train_tensors *tensors);

/** Copy a file's tensors into the model, and into state and best where they are not
 * NULL, and best->there. ERR_INPUT names
 * the tensor that is missing or of another shape, and `path`. On failure the model's values are
 * undefined. */
int train_tensors_restore(const struct safetensors *file, const char *path, struct nn_model *model,
                          struct optim_state *state, struct train_best *best, struct err *err);

/** Whether a file's tensor (NULL: it has none) is none that could be the network's: of another type
 * or shape. `why` receives the reason for people. */
bool train_tensors_differ(const struct safetensors_entry *entry, const struct nn_tensor *tensor,
                          char why[TRAIN_TENSORS_WHY_CHARS]);

#endif
