/*
 * trainer/tally.h -- an evaluation counted by classes: how often each label met each guess.
 *
 * Integers, of each rank's own pictures, then summed: the same on any number of ranks.
 */
#ifndef TRAIN_TALLY_H
#define TRAIN_TALLY_H

#include <stddef.h>
#include <stdint.h>

struct comm;
struct err;
struct report_tables;

/* Of more classes there is no confusion matrix: it takes the square of them, here 8 MB a rank. */
#define TRAIN_TALLY_MATRIX_CLASSES 1024

struct train_tally {
    int classes;
    size_t count;
    int64_t *counts; /* (count): pictures, correct, correct5, guessed; (classes, classes) */
};

/** Zeros. Release accepts all-zero. */
void train_tally_init(struct train_tally *tally, int classes);
void train_tally_release(struct train_tally *tally);

/** Count n pictures by their logits (n, classes) and labels. One whose loss is not a finite number
 * has no guess. */
void train_tally_add(struct train_tally *tally, int n, const float *logits, const int32_t *labels);

/** Replace the counts by the sums over all ranks. Collective. */
int train_tally_sum(struct train_tally *tally, struct comm *comm, struct err *err);

/** The tally as the report wants it; its fields point into the tally. */
struct report_tables train_tally_tables(const struct train_tally *tally, char *const *names);

#endif
