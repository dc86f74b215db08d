/*
 * trainer/class_weights.h -- what a picture of each class counts in the loss (--class-weights).
 *
 * The loss of a step is PyTorch's (torch.nn.CrossEntropyLoss with weight=): a sum over its
 * pictures, divided by the sum of their labels' weights, and not by their number. That sum must be
 * known before backward, while a rank has only its own lanes' pictures at hand. It needs no
 * exchange: which sample stands where in a step is arithmetic (data/order.h), and every rank has
 * the whole index with its labels. So each counts the classes of the whole step by itself, as
 * integers, and adds counts times weights in the order of classes: the same bits on every rank,
 * whatever their number.
 *
 * Pictures that cannot be decoded are in that sum, with and without weights: a gradient is divided
 * by what a step should have, so that it is smaller where some are missing. (PyTorch would divide
 * by what it has.) The mean loss that is reported is of the pictures that were there.
 */
#ifndef TRAIN_CLASS_WEIGHTS_H
#define TRAIN_CLASS_WEIGHTS_H

#include <stdbool.h>
#include <stdint.h>

struct comm;
struct data_index;
struct data_order;
struct err;

struct train_class_weights {
    int classes;
    double *weight;  /* (classes); NULL: all count the same */
    uint32_t *count; /* (classes) scratch of the sum */
    int64_t *met;    /* (classes) pictures of this rank in the step at hand */
};

/** Does --class-weights name a file? */
bool train_class_weights_is_file(const char *given);

/** What --class-weights names, as it is kept: "none", "balanced", or the weights themselves as
 * JSON, {"CLASS": WEIGHT, ...} with names sorted, which may be given like that or as a file of it.
 * Heap, the caller frees. NULL: ERR_USAGE or ERR_INPUT names the file and what is wrong. */
char *train_class_weights_text(const char *given, struct err *err);

/** From such a text and the training pictures. Balanced: pictures / (classes * pictures of the
 * class). All are multiplied by one power of two, so that the largest is at least 1 and below 2:
 * neither a gradient nor a mean loss changes by that. ERR_INPUT: a class without a weight, or a
 * weight without a class. Release accepts all-zero. */
int train_class_weights_init(struct train_class_weights *weights, const char *text,
                             const struct data_index *train, struct err *err);
void train_class_weights_release(struct train_class_weights *weights);

/** The sum of the labels' weights over all images of a step; their number where all count the
 * same. Begins a step: none of its pictures is met. */
double train_class_weights_sum(struct train_class_weights *weights, const struct data_index *train,
                               const struct data_order *order, uint32_t epoch, uint64_t step);

/** Count the labels of pictures that are there. */
void train_class_weights_meet(struct train_class_weights *weights, int n, const int32_t *labels);

/** The sum of the weights of the labels that all ranks met, `images` of them. Collective. */
int train_class_weights_met(struct train_class_weights *weights, struct comm *comm, int64_t images,
                            double *sum, struct err *err);

#endif
