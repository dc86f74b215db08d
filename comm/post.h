/*
 * comm/post.h -- messages under way, many at a time.
 *
 * Whoever posts a message gives the address of a counter: it is one higher until the message has
 * arrived or left. One call tests all messages. Only files of comm/ and their tests include it.
 */
#ifndef COMM_POST_H
#define COMM_POST_H

#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct comm;
struct err;

/* A message under way. */
struct comm_letter {
    int *under_way; /* the poster's counter */
    size_t bytes;
    int peer;
    bool incoming;
};

struct comm_post {
    struct comm *comm;
    MPI_Request *requests;
    struct comm_letter *letters; /* of each request */
    int *done;                   /* scratch of the test */
    MPI_Status *statuses;        /* the same */
    int count, room;
    double *heard_s;  /* (ranks): when a message from each was there, by clock_now_s() */
    uint64_t arrived; /* bytes */
};

void comm_post_init(struct comm_post *post, struct comm *comm);
/** Messages still under way are given up: only before comm_abort. Accepts all-zero. */
void comm_post_release(struct comm_post *post);

/** Send or receive `bytes` bytes (below 2 GiB); data stays the caller's and untouched until
 * *under_way is lowered. Messages of two ranks with one tag arrive in the order in which they were
 * sent. ERR_PEER. */
int comm_post_send(struct comm_post *post, const void *data, size_t bytes, int to, int tag,
                   int *under_way, struct err *err);
int comm_post_receive(struct comm_post *post, void *data, size_t bytes, int from, int tag,
                      int *under_way, struct err *err);

/** Test all messages once. *finished: how many were through. Does not block. ERR_PEER, with the
 * host to or from which one could not be brought. */
int comm_post_test(struct comm_post *post, int *finished, struct err *err);

#endif
