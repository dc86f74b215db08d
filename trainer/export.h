/*
 * trainer/export.h -- `convoy export`: a model's weights as a file for other programs.
 *
 * PyTorch's .pth is a state_dict that torch.load(weights_only=True) reads and torchvision's network
 * of the same name takes with strict=True. With a head of hidden layers the names are those of
 * fc = nn.Sequential(Linear, ReLU, ..., Linear).
 */
#ifndef TRAIN_EXPORT_H
#define TRAIN_EXPORT_H

#include <stdio.h>

struct err;

/** All of --help. */
void train_export_help(FILE *out);

/**
 * Read the words behind the verb, and write the file.
 *
 * --model names a model (model_dir.h), whose config.json tells the network, or any weights that
 * weights_source.h reads. The network's tensors are written in the order of torchvision's
 * state_dict; without config.json, those of the file in its order. Of a checkpoint the optimizer's
 * state and the best weights are left out.
 *
 * The file appears whole or not at all. Blocks. ERR_USAGE, ERR_INPUT (what is wrong with the model,
 * or a tensor that is not as config.json says), ERR_IO, ERR_NET, ERR_MEMORY.
 */
int train_export(int argc, char *const *argv, struct err *err);

#endif
