/*
 * trainer/nn/loss.h -- softmax cross entropy of logits, its gradient, and what else is counted
 * about them.
 */
#ifndef NN_LOSS_H
#define NN_LOSS_H

#include <stdint.h>

struct nn_score;

/* A picture's loss is the sum over all classes c of -target(c) * log softmax(c). The target is
 * 1 - e for the label, and e / classes everywhere on top, each times the class's weight. A sum of
 * these over pictures, divided by the sum of their labels' weights, is what
 * torch.nn.CrossEntropyLoss(weight=, label_smoothing=) defines. */
struct nn_loss {
    int classes;
    float scale;                 /* of the gradient */
    float label_smoothing;       /* e */
    const double *class_weights; /* (classes); NULL: all 1 */
};

/* A finite loss counts as at most this much, so that a diverged run cannot overflow the sum. */
#define NN_LOSS_MAX 1e4

/** Score logits (n, classes) against labels (n) and, unless dlogits is NULL, write the gradient
 * scale * (softmax * (sum of the target) - target). Computed in double, class after class. Adds to
 * *score. */
void nn_loss_score(const struct nn_loss *loss, int n, const float *logits, const int32_t *labels,
                   float *dlogits, struct nn_score *score);

/** The class of the largest of one picture's logits (classes), the first of equals; -1 where the
 * label's loss is not a finite number. *before: how many classes come before the label. */
int nn_loss_guess(const float *logits, int classes, int32_t label, int *before);

#endif
