/*
 * trainer/data/set/root.h -- what a folder that a user names holds, before anything of it is read.
 *
 * A data root holds a folder for each split: train; valid, validation or val; test. A dataset is
 * one split: a folder per class, or tar shards with their index. A class may be called "train"
 * (CIFAR-100 has one): a folder of that name that holds pictures itself is a class. Either may be
 * a folder of a bucket (place.h).
 */
#ifndef DATA_SET_ROOT_H
#define DATA_SET_ROOT_H

#include <signal.h>

struct err;

enum data_root_kind {
    DATA_ROOT_EMPTY,    /* none of the below */
    DATA_ROOT_SPLITS,   /* DIR/train is a dataset */
    DATA_ROOT_CLASSES,  /* DIR is a dataset: a folder per class */
    DATA_ROOT_SHARDS,   /* DIR is a dataset: shards with index.json */
    DATA_ROOT_TARS,     /* tar files without an index */
    DATA_ROOT_PICTURES, /* pictures, but in no class folder */
    DATA_ROOT_MANIFEST, /* no folder: a dataset that manifest.h reads */
};

enum data_split { DATA_SPLIT_TRAIN, DATA_SPLIT_VALIDATION, DATA_SPLIT_TEST, DATA_SPLITS };

/** Tell what the folder holds. Lists it and no more than it must of DIR/train. ERR_INPUT: missing,
 * or no folder, or nothing below that prefix; ERR_IO; what data_place_list says. ERR_STOPPED when
 * cancel (may be NULL) became non-zero while a bucket was listed. */
int data_root_look(const char *root, enum data_root_kind *kind, const volatile sig_atomic_t *cancel,
                   struct err *err);

/** The folder of a split below a data root: *path is heap (the caller frees), or NULL where there
 * is none. Validation may be called valid, validation or val; more than one of them is ERR_INPUT.
 */
int data_root_find(const char *root, enum data_split split, char **path, struct err *err);

#endif
