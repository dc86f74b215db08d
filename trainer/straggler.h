/*
 * trainer/straggler.h -- the rank that the others wait for, and by how much.
 */
#ifndef TRAIN_STRAGGLER_H
#define TRAIN_STRAGGLER_H

struct train_straggler {
    int rank;
    double busy_s; /* it waited for pictures and computed so long */
    double over_s; /* longer than the others in the mean: what waiting for it costs them */
};

/** busy_s: (ranks), 1 or more; of equals the first is taken. Of one rank over_s is 0. */
struct train_straggler train_straggler_of(const double *busy_s, int ranks);

#endif
