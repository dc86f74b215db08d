/*
 * trainer/pretrained.h -- weights that a run begins with: a file of PyTorch's or our own.
 */
#ifndef TRAIN_PRETRAINED_H
#define TRAIN_PRETRAINED_H

#include <stdint.h>

struct err;
struct nn_model;

/* What becomes of the head ("fc."). */
enum train_pretrained_head {
    TRAIN_HEAD_AUTO, /* the file's where it has one of this shape, else it begins anew */
    TRAIN_HEAD_NEW,  /* begins anew */
    TRAIN_HEAD_KEEP, /* the file's */
};

/**
 * Copy the tensors of a file into a model: all of its tensors by their names, running statistics
 * too. Those of a head that begins anew are drawn from the seed, as nn_model_init() draws them, and
 * a line on stderr says so.
 *
 * path  a safetensors file or a PyTorch state_dict, packed or in a folder (weights_source.h).
 *
 * Blocks. ERR_INPUT names the file, and the tensor that is missing or of another shape, or what
 * the file is instead of weights; ERR_IO, ERR_NET, ERR_MEMORY. The model's values are then
 * undefined.
 */
int train_pretrained_load(struct nn_model *model, const char *path, enum train_pretrained_head head,
                          uint64_t seed, struct err *err);

#endif
