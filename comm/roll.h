/*
 * comm/roll.h -- the roll call of a step: every rank's answer on every rank, and signs of life
 * until it comes.
 *
 * An answer is a few bytes that a rank gives once a step, when its micro-batches are done. Before,
 * it sends beats: one when a micro-batch is done, or at intervals while it waits for something
 * else. A rank from which nothing came for longer than the deadline is taken for dead or frozen.
 *
 * Called by one thread at a time; never blocks. Only files of comm/ and their tests include it.
 */
#ifndef COMM_ROLL_H
#define COMM_ROLL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct comm;
struct comm_post;
struct err;

#define COMM_ROLL_BYTES_MAX 256

struct comm_roll_message {
    uint64_t is_answer; /* else a beat */
    unsigned char answer[COMM_ROLL_BYTES_MAX];
};

struct comm_roll {
    struct comm *comm;
    struct comm_post *post;
    struct comm_roll_message *in; /* (ranks) */
    struct comm_roll_message out, beat;
    int *incoming;          /* (ranks) messages under way from each */
    bool *there;            /* (ranks) whose answer is there */
    int missing;            /* answers of others */
    int answering, beating; /* messages under way to others */
    double begun_s, beaten_s;
};

void comm_roll_init(struct comm_roll *roll, struct comm *comm, struct comm_post *post);
/** Accepts all-zero. */
void comm_roll_release(struct comm_roll *roll);

/** Listen for this step's answers. The last step's are all there. */
int comm_roll_begin(struct comm_roll *roll, struct err *err);
/** Give this rank's answer; bytes <= COMM_ROLL_BYTES_MAX, the same everywhere. */
int comm_roll_answer(struct comm_roll *roll, const void *answer, size_t bytes, struct err *err);
/** Tell everybody that this rank lives, unless the last beat is still under way. */
int comm_roll_beat(struct comm_roll *roll, struct err *err);
/** Take what came. Call comm_post_test between two calls. */
int comm_roll_listen(struct comm_roll *roll, bool *moved, struct err *err);
/** Whether everybody's answer is there. */
bool comm_roll_is_complete(const struct comm_roll *roll);
/** Whether also our own have left. */
bool comm_roll_is_through(const struct comm_roll *roll);
/** Rank `rank`'s answer, when it is there. */
const void *comm_roll_answer_of(const struct comm_roll *roll, int rank);

/** The rank without an answer from which nothing came for longest, and for how many seconds; -1:
 * none is missing. */
int comm_roll_silent(const struct comm_roll *roll, double *seconds);

#endif
