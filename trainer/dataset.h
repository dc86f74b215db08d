/*
 * trainer/dataset.h -- the pictures of a run: training, validation and test, known to every rank.
 */
#ifndef TRAIN_DATASET_H
#define TRAIN_DATASET_H

#include <stdbool.h>

#include "trainer/data/index/index.h"

struct err;
struct train_options;

struct train_dataset {
    struct data_index train, val, test;
    bool has_val, has_test;
};

/** Read the indices that the options name. Blocks while folders are listed; ERR_STOPPED when asked
 * to stop. Rank 0 calls it and hands the result on with train_dataset_encode: the other ranks need
 * not list the folders again. */
int train_dataset_open(struct train_dataset *dataset, const struct train_options *options,
                       struct err *err);
void train_dataset_release(struct train_dataset *dataset);

/** --val-split: set a share of the training pictures aside for validation
 * (trainer/data/index/split.h). Where that fails the dataset has no training pictures either. */
int train_dataset_split(struct train_dataset *dataset, double share, struct err *err);

/** Of training pictures: names that can be written, and as many as the job says there are. */
int train_dataset_check(const struct data_index *train, const struct train_options *options,
                        struct err *err);

/** Warn of the files that are left out of an index. Empty pictures are bad ones that show in the
 * listing: ERR_INPUT with stop_at_bad. */
int train_dataset_tell(const struct data_index *index, bool stop_at_bad, struct err *err);

/** For the other ranks. */
struct buf;
void train_dataset_encode(const struct train_dataset *dataset, struct buf *out);
int train_dataset_decode(struct train_dataset *dataset, const void *data, size_t bytes,
                         struct err *err);

#endif
