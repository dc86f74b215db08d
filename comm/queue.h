/*
 * comm/queue.h -- what the computing thread and the communication thread of a rank hand each other.
 *
 * The computing thread says how far this step's vector is final, asks for a word with all ranks,
 * and waits for sums; the communication thread takes these wishes and says what is there. One mutex
 * guards all; no MPI, so that it can be run under a thread sanitizer alone.
 */
#ifndef COMM_QUEUE_H
#define COMM_QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* What the computing thread is at, for those who wonder whether this rank is alive. */
enum comm_doing {
    COMM_COMPUTES, /* its micro-batches show that it lives */
    COMM_WAITS,    /* for others, for input, for a save: the communication thread speaks for it */
};

/* What the communication thread sees of the computing one. */
struct comm_wishes {
    uint64_t step;   /* begun steps: 1 is the first */
    uint32_t leaves; /* of that step */
    double deadline_s;
    size_t ready;      /* floats of the vector that are final */
    uint64_t computed; /* micro-batches since the beginning */
    enum comm_doing doing;
    double doing_since_s; /* by clock_now_s() */
    bool answered;        /* this step's answer is given (comm_queue_answer) */
    bool closing;
};

struct comm_queue {
    pthread_mutex_t mutex;
    pthread_cond_t wished, changed; /* for the communication thread; for the computing one */
    struct comm_wishes wishes;
    int buckets;
    bool *there; /* (buckets) whose sums are there */
    bool heard;  /* everybody's answer of this step is there */
    bool settled;
    bool speaking;  /* the communication thread calls MPI between two steps */
    struct err err; /* code ERR_NONE while all is well */
};

void comm_queue_init(struct comm_queue *queue, int buckets);
void comm_queue_release(struct comm_queue *queue);

/* --- the computing thread's side; it never waits for long except where it says so --- */

/** A new step. Only when the last one is settled. */
void comm_queue_begin(struct comm_queue *queue, uint32_t leaves, double deadline_s);
/** Another micro-batch is done. */
void comm_queue_computed(struct comm_queue *queue);
void comm_queue_ready(struct comm_queue *queue, size_t floats);
/** The answer for all ranks is where the communication thread looks for it. */
void comm_queue_answer(struct comm_queue *queue);
/** Back at computing it waits until the communication thread has spoken. */
void comm_queue_doing(struct comm_queue *queue, enum comm_doing doing);
void comm_queue_close(struct comm_queue *queue);
/** Block until the sums of buckets [begin, end) are there, everybody's answer is, or nothing of the
 * step is left to do. -1 with the communication thread's error. */
int comm_queue_wait_sums(struct comm_queue *queue, int begin, int end, struct err *err);
int comm_queue_wait_answers(struct comm_queue *queue, struct err *err);
int comm_queue_wait_settled(struct comm_queue *queue, struct err *err);
/** -1 with the communication thread's error where it has failed; does not wait. */
int comm_queue_check(struct comm_queue *queue, struct err *err);

/* --- the communication thread's side --- */

/** The wishes after at most `seconds`, or as soon as one changed since `seen`. */
struct comm_wishes comm_queue_sleep(struct comm_queue *queue, const struct comm_wishes *seen,
                                    double seconds);
/** Between two steps: may it say that this rank lives? Until comm_queue_spoken the computing thread
 * does not come back from what it is at. */
bool comm_queue_speak(struct comm_queue *queue);
void comm_queue_spoken(struct comm_queue *queue);
void comm_queue_there(struct comm_queue *queue, int bucket);
void comm_queue_heard(struct comm_queue *queue);
void comm_queue_settled(struct comm_queue *queue);
void comm_queue_fail(struct comm_queue *queue, const struct err *err);

#endif
