/*
 * trainer/guess.h -- what a network takes a picture for: the likeliest classes of its logits.
 */
#ifndef TRAIN_GUESS_H
#define TRAIN_GUESS_H

struct train_guess {
    int label;
    double probability; /* softmax, computed in double, class after class */
};

/**
 * Find the `count` likeliest classes, the likeliest first, of equals the lower label first.
 *
 * logits   (classes)
 * guesses  (classes) out: the first `count` (at most `classes`) are set, the others are scratch.
 *
 * Returns 0; or -1 where a logit is no finite number.
 */
int train_guess(const float *logits, int classes, int count, struct train_guess *guesses);

#endif
