/*
 * trainer/noted.h -- pictures that are not as they should be: counted on each rank, told once.
 *
 * Counted are times that one was decoded: in each epoch anew, but for a view that the feature cache
 * keeps only once.
 */
#ifndef TRAIN_NOTED_H
#define TRAIN_NOTED_H

#include <stdint.h>

struct data_stream;
struct err;
struct train_run;

struct train_noted {
    int64_t count;
    char first[264]; /* the first that this rank met, "" if none */
};

/** Add what a stream met to run->truncated and run->left_out. A stream may be NULL. */
void train_note_odd(struct train_run *run, struct data_stream *stream);

/** Rank 0 warns of all ranks' run->truncated and run->left_out; their sums are on every rank.
 * Collective. */
int train_tell_odd(struct train_run *run, int64_t *truncated, int64_t *left_out, struct err *err);

#endif
