/*
 * comm/outbox.h -- messages that wait to set out: the most urgent first, few bytes at a time.
 *
 * What MPI has taken leaves in an order of its own, and shares a connection with all that it has
 * taken. So it is given little: enough that the wire is busy, and so little that what becomes
 * urgent later, and the short messages beside the outbox, come soon.
 *
 * A message travels in segments that MPI sends whole, without asking the receiver first (comm_open
 * sees to it), as a question and its answer would each wait behind other segments. Over TCP a
 * segment is with MPI until the connection has taken it; one that comes before the receiver asks
 * for it is kept by the receiver's MPI. Elsewhere MPI may hold it until the receiver asks: so there
 * must be somebody who does, whatever becomes of other messages.
 *
 * Called by one thread at a time; never blocks. Only files of comm/ and their tests include it.
 */
#ifndef COMM_OUTBOX_H
#define COMM_OUTBOX_H

#include <stddef.h>

struct comm_post;
struct err;

struct comm_outgoing {
    const char *data; /* the caller's, untouched until *under_way is back where it was */
    size_t bytes;
    int to, tag;
    int place;      /* in the order of the step */
    int urgency;    /* higher ones first; among equals the one that was put first */
    int *under_way; /* the caller's counter: raised by the segments that have not left yet */
};

struct comm_outbox {
    struct comm_post *post;
    struct comm_outgoing *waiting;
    struct comm_segment *sent;     /* (those of all peers) */
    struct comm_outbox_peer *peer; /* (peers) */
    size_t window;
    int count, room, peers;
};

/** peers: ranks of the job. window: bytes for one of them that MPI has at a time, or one segment.
 */
void comm_outbox_init(struct comm_outbox *outbox, struct comm_post *post, int peers, size_t window);
/** Accepts all-zero. */
void comm_outbox_release(struct comm_outbox *outbox);
/** Does not send yet. */
void comm_outbox_put(struct comm_outbox *outbox, const struct comm_outgoing *message);
/** Ask for a message that another rank puts into its outbox, of the same bytes and tag. *under_way
 * is raised until all of it is there. ERR_PEER. */
int comm_outbox_receive(struct comm_post *post, void *data, size_t bytes, int from, int tag,
                        int *under_way, struct err *err);
/** Lower the counters of what has left since the last comm_post_test. */
void comm_outbox_settle(struct comm_outbox *outbox);
/** Hand MPI as many segments as it may have. helped: of the messages of this place one segment for
 * each peer may go beside the window; -1: none. ERR_PEER. */
int comm_outbox_send(struct comm_outbox *outbox, int helped, struct err *err);

#endif
