/*
 * trainer/best.h -- the weights of the epoch with the best validation accuracy (--keep-model best).
 *
 * Rank 0 keeps a copy of what training changes: trained weights and running statistics. It goes
 * into every checkpoint as "best.NAME", rather than into a file beside it: a checkpoint and the
 * best weights that it speaks of then appear in one commit, in a folder and in S3, and whatever is
 * killed when, a resumed run ends with the same model. The price is a checkpoint half as large
 * again (with Adam a third), and only where it is asked for; frozen weights cost nothing.
 */
#ifndef TRAIN_BEST_H
#define TRAIN_BEST_H

#include <stdbool.h>
#include <stddef.h>

struct err;
struct nn_model;

struct train_best {
    size_t trained, running_count; /* floats */
    float *weights, *running;      /* NULL: none is kept by this rank */
    bool there;                    /* an epoch was validated */
    bool swapped;                  /* the best stand in the model, the last here */
};

/** Room for the best of a model whose first `trained` weights are trained. ERR_MEMORY. Release
 * accepts all-zero. */
int train_best_init(struct train_best *best, const struct nn_model *model, size_t trained,
                    struct err *err);
void train_best_release(struct train_best *best);

/** The model's weights are the best so far. Nothing happens where none are kept. */
void train_best_take(struct train_best *best, struct nn_model *model);

/** Exchange the model's weights with the best, and back at the next call. Nothing happens where
 * there are none. */
void train_best_swap(struct train_best *best, struct nn_model *model);

#endif
