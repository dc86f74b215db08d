/*
 * comm/clock.h -- how far the clocks of the ranks are apart.
 *
 * CLOCK_MONOTONIC counts from the start of its host: readings of two hosts mean nothing to each
 * other. A rank asks rank 0 for its time and takes the middle of asking and answer for the moment
 * at which that was read. Of several rounds the quickest counts; the truth is off by half of it at
 * most. Source: Cristian, "Probabilistic clock synchronization", Distributed Computing 3, 1989.
 *
 * Two measurements give the drift between them, which is some microseconds a second.
 */
#ifndef COMM_CLOCK_H
#define COMM_CLOCK_H

struct comm;
struct err;

#define COMM_CLOCK_ROUNDS 16

struct comm_clock {
    double at_s;     /* of this rank's clock (clock_now_s): when it was measured */
    double offset_s; /* what has to be added to it to have rank 0's; 0 there */
    double round_s;  /* the quickest round: offset_s is right within half of it */
};

/** Measure. Collective; rank 0 answers one rank after the other. ERR_PEER. */
int comm_clock_measure(struct comm *comm, struct comm_clock *clock, struct err *err);

/* One round, by two clocks: `answered` is rank 0's. */
struct comm_clock_round {
    double asked_s, answered_s, received_s;
};

/** What count >= 1 rounds say. */
struct comm_clock comm_clock_of(const struct comm_clock_round *rounds, int count);

#endif
