/*
 * trainer/early_stopping.h -- when a training ends before its last epoch because it no longer gets
 * better.
 *
 * Names and meaning are those of SageMaker's built-in image classification (Amazon SageMaker
 * Developer Guide, "Image Classification Hyperparameters"): an epoch improves when its validation
 * accuracy is above the best so far, and by at least `tolerance` times that best; after `patience`
 * epochs without improvement, and not before `min_epochs` epochs, the training ends.
 */
#ifndef TRAIN_EARLY_STOPPING_H
#define TRAIN_EARLY_STOPPING_H

#include <stdbool.h>
#include <stdint.h>

struct train_early_stopping {
    bool on;
    uint32_t patience, min_epochs; /* epochs */
    double tolerance;
};

/** Is an accuracy an improvement on the best so far? best below 0: there is none yet. */
bool train_early_stopping_improves(const struct train_early_stopping *stopping, double accuracy,
                                   double best);

/** Does the training end after epoch `epoch` (from 0), if the last to improve was `improved`? */
bool train_early_stopping_ends(const struct train_early_stopping *stopping, uint32_t epoch,
                               uint32_t improved);

#endif
