/*
 * trainer/hyperparameters.h -- SageMaker's hyperparameters: names that people know from the
 * built-in Image Classification algorithm and from training scripts, as options of ours.
 *
 * Source: Amazon SageMaker Developer Guide, "Image Classification Hyperparameters".
 * They are variables SM_HP_<NAME> of the environment, which the launcher makes from
 * hyperparameters.json. Our own option names are hyperparameters too (base/option.h); where both
 * are given, ours counts. README.md of this folder has the table for users.
 */
#ifndef TRAIN_HYPERPARAMETERS_H
#define TRAIN_HYPERPARAMETERS_H

#include <stdint.h>

#include "base/option.h"

struct err;

#define TRAIN_HP_PREFIX "SM_HP_"

/* What hyperparameters say about the data; 0: nothing. */
struct train_expected {
    int classes;
    uint64_t samples;
};

/** Assign what the environment's hyperparameters mean to options that have no value from the
 * command line. A batch per host is multiplied with CONVOY_HOSTS and gives way to a checkpoint's.
 * ERR_USAGE names the hyperparameter: a bad value, something that we do not have yet. */
int train_hyperparameters_read(struct option_set *set, struct train_expected *expected,
                               struct err *err);

/** `resize` against what the run does with pictures, known once image size and network are.
 * shorter_side: what evaluation scales the shorter side to. ERR_USAGE. */
int train_hyperparameters_check_resize(int shorter_side, struct err *err);

/** Warn of hyperparameters that have no effect: unknown ones, and those for which another counts.
 */
void train_hyperparameters_warn(const struct option_set *set);

/** The name of an unknown one, as the variable "SM_HP_X=...", for --strict; NULL: there is none.
 * *at is 0 to begin. */
const char *train_hyperparameters_unknown(const struct option_set *set, size_t *at);

#endif
