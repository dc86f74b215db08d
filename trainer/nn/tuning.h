/*
 * trainer/nn/tuning.h -- which part of a residual network is trained, and what it ends in.
 *
 * A network's parts from its input on are the stem, layer1, layer2, ... and the head, which is all
 * behind the average pool. The first parts may be frozen: their weights stay as they are, and no
 * gradient goes through them.
 */
#ifndef NN_TUNING_H
#define NN_TUNING_H

#include <stdbool.h>

struct err;

#define NN_HIDDEN_MAX  4
#define NN_FROZEN_BODY 99 /* all but the head */

/* All zero: every layer is trained, and the head is one fully connected layer. */
struct nn_tuning {
    int frozen; /* parts: 0 none, 1 the stem, 2 the stem and layer1, ..., or NN_FROZEN_BODY */
    bool frozen_batch; /* the frozen batch norms take mean and variance from the micro-batch and
                          update their running statistics, as PyTorch's do in training mode; else
                          they are the functions that their running statistics make them */
    int hidden[NN_HIDDEN_MAX]; /* outputs of the head's layers before the last, a ReLU behind each
                                */
    int hidden_count;
};

/** Read "all", "head" or "from:layer3" into frozen. network: a name that nn_model_check takes.
 * ERR_USAGE. */
int nn_tuning_parse_layers(struct nn_tuning *tuning, const char *network, const char *text,
                           struct err *err);

/** Read "linear", or the sizes of a head with hidden layers, from its inputs on: "2048-128-relu"
 * has one of 128 outputs. ERR_USAGE: as above, and inputs that are not the network's. */
int nn_tuning_parse_head(struct nn_tuning *tuning, const char *network, const char *text,
                         struct err *err);

#endif
