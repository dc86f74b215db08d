/*
 * trainer/nn/kernel/share.h -- the turns of a loop, shared out among threads: each has a run of
 * neighbouring turns, which it takes in order, since it fetched for the next one ahead; a thread
 * that is through takes the last turn of the run of which most is left. So nobody waits for a
 * thread whose core decodes a picture meanwhile. Which thread takes a turn is no part of the bits.
 */
#ifndef NN_SHARE_H
#define NN_SHARE_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NN_SHARE_RUNS 64 /* threads beyond share a run with another */

struct nn_share {
    size_t runs;
    struct {
        alignas(64) _Atomic uint64_t left; /* the first turn and, from bit 32 on, the end */
    } run[NN_SHARE_RUNS];
};

/** Before the threads begin: turns 0 to turns - 1, below 2^32, for one thread or more. */
void nn_share_out(struct nn_share *share, size_t turns, size_t threads);

/** The next turn for the thread of that number. False: all are taken. Each turn is handed out once.
 * Any number of threads at the same time. */
bool nn_share_next(struct nn_share *share, size_t thread, size_t *turn);

#endif
