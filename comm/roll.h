/*
 * comm/roll.h -- the roll call of a step: every rank's answer on every rank, and signs of life.
 *
 * An answer is a few bytes that a rank gives once a step, when its micro-batches are done. At the
 * end it says that it is through: it waits for nobody any more. In between it sends beats: one when
 * a micro-batch is done, and at intervals while it waits for something, be it input or others. So
 * who waits is heard, and a rank that is not through and from which nothing came for longer than
 * the deadline is dead, frozen, cut off, or stuck in reading or saving.
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

enum comm_roll_kind {
    COMM_ROLL_BEAT,
    COMM_ROLL_ANSWER,
    COMM_ROLL_THROUGH,
};

struct comm_roll_message {
    uint64_t kind;
    unsigned char answer[COMM_ROLL_BYTES_MAX];
};

/* What this rank knows of another in a step. */
struct comm_roll_peer {
    struct comm_roll_message in;
    struct comm_roll_message answer;
    int incoming;  /* messages under way from it */
    int beating;   /* beats under way to it */
    int leaving;   /* an answer and a last word */
    bool answered; /* its answer is there */
    bool through;
};

struct comm_roll {
    struct comm *comm;
    struct comm_post *post;
    struct comm_roll_peer *peers; /* (ranks) */
    struct comm_roll_message answer, beat, through;
    int unanswered, not_through; /* others */
    double begun_s, beaten_s;
};

void comm_roll_init(struct comm_roll *roll, struct comm *comm, struct comm_post *post);
/** Accepts all-zero. */
void comm_roll_release(struct comm_roll *roll);

/** Listen to the others in a new step. The last one is settled. */
int comm_roll_begin(struct comm_roll *roll, struct err *err);
/** Give this rank's answer; bytes <= COMM_ROLL_BYTES_MAX, the same everywhere. */
int comm_roll_answer(struct comm_roll *roll, const void *answer, size_t bytes, struct err *err);
/** Tell everybody that this rank lives, but those to whom the last beat is still under way. */
int comm_roll_beat(struct comm_roll *roll, struct err *err);
/** Tell everybody that this rank waits for nobody any more in this step. */
int comm_roll_through(struct comm_roll *roll, struct err *err);
/** Take what came. Call comm_post_test between two calls. */
int comm_roll_listen(struct comm_roll *roll, bool *moved, struct err *err);
/** Whether everybody's answer is there. */
bool comm_roll_is_complete(const struct comm_roll *roll);
/** Whether also everybody is through, and nothing of ours is under way. */
bool comm_roll_is_settled(const struct comm_roll *roll);
/** Whether beats are under way. */
bool comm_roll_is_beating(const struct comm_roll *roll);
/** Rank `rank`'s answer, when it is there. */
const void *comm_roll_answer_of(const struct comm_roll *roll, int rank);

/** The rank from which nothing came for longest, of those that are not through or did not take what
 * was sent to them, and for how many seconds up to now_s; -1: there is none. */
int comm_roll_silent(const struct comm_roll *roll, double now_s, double *seconds);
/** Whoever was silent up to now_s may have been unheard: count from then on. */
void comm_roll_forgive(struct comm_roll *roll, double now_s);

#endif
