/*
 * trainer/pretrained.h -- weights that a run begins with: a file of PyTorch's or our own.
 */
#ifndef TRAIN_PRETRAINED_H
#define TRAIN_PRETRAINED_H

struct err;
struct nn_model;

/**
 * Copy the tensors of a file into a model that was initialised: all of its tensors by their names,
 * running statistics too. Those of the head ("fc.") that the file lacks or has in another shape
 * keep their initial values, and a line on stderr says so.
 *
 * path  a safetensors file or a PyTorch state_dict (weights/weights.h), or s3://BUCKET/KEY.
 *
 * Blocks. ERR_INPUT names the file, and the tensor that is missing or of another shape, or what
 * the file is instead of weights; ERR_IO, ERR_NET, ERR_MEMORY. The model's values are then
 * undefined.
 */
int train_pretrained_load(struct nn_model *model, const char *path, struct err *err);

#endif
