/*
 * trainer/pace.h -- how long a micro-batch takes, and after how much silence a rank is given up.
 */
#ifndef TRAIN_PACE_H
#define TRAIN_PACE_H

#include <stdint.h>

#define TRAIN_PACE_KEPT   31
#define TRAIN_PACE_FACTOR 10 /* micro-batches that a rank may be silent for */
#define TRAIN_PACE_S_MIN  60

struct train_pace {
    double seconds[TRAIN_PACE_KEPT]; /* of the last ones: [i % TRAIN_PACE_KEPT] */
    uint64_t count;                  /* that there were */
};

/** A micro-batch took so long. */
void train_pace_add(struct train_pace *pace, double seconds);

/** The median of the last ones; 0 before the first. */
double train_pace_median(const struct train_pace *pace);

/** Seconds without a sign of progress after which a rank is given up: asked_s (--step-timeout), or
 * where that is 0 TRAIN_PACE_FACTOR medians, at least TRAIN_PACE_S_MIN. */
double train_pace_deadline(const struct train_pace *pace, double asked_s);

#endif
