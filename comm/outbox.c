/* comm/outbox.c -- see outbox.h. */
#include "comm/outbox.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "comm/post.h"
#include "comm/wait.h"

#define ROOM_FIRST    64
#define SEGMENTS_PEER 16 /* of however few bytes, and one that is helped */

/* A segment that MPI has, or the place for one. */
struct comm_segment {
    int posted; /* comm_post's counter */
    int to;
    size_t bytes;
    bool helped;
    int *under_way; /* NULL: free */
};

/* What MPI has for a peer, but for what is helped. */
struct comm_outbox_peer {
    size_t bytes;
    int segments;
    bool helped; /* it has such a segment */
};

void comm_outbox_init(struct comm_outbox *outbox, struct comm_post *post, int peers, size_t window)
{
    assert(peers > 0);
    *outbox = (struct comm_outbox){
        .post = post,
        .waiting = calloc(ROOM_FIRST, sizeof *outbox->waiting),
        .sent = calloc((size_t)peers * (SEGMENTS_PEER + 1), sizeof *outbox->sent),
        .peer = calloc((size_t)peers, sizeof *outbox->peer),
        .room = ROOM_FIRST,
        .peers = peers,
        .window = window,
    };
    if (outbox->waiting == NULL || outbox->sent == NULL || outbox->peer == NULL)
        abort();
}

void comm_outbox_release(struct comm_outbox *outbox)
{
    free(outbox->waiting);
    free(outbox->sent);
    free(outbox->peer);
    *outbox = (struct comm_outbox){0};
}

static int segments_of(size_t bytes)
{
    return (int)((bytes + COMM_SEGMENT_BYTES - 1) / COMM_SEGMENT_BYTES);
}

/* Of the next segment of so many bytes: all of about the same length. */
static size_t next_segment(size_t bytes)
{
    const size_t segments = (size_t)segments_of(bytes);

    return (bytes + segments - 1) / segments;
}

void comm_outbox_put(struct comm_outbox *outbox, const struct comm_outgoing *message)
{
    assert(message->bytes > 0 && message->to < outbox->peers);
    if (outbox->count == outbox->room) {
        outbox->room *= 2;
        outbox->waiting = realloc(outbox->waiting, (size_t)outbox->room * sizeof *outbox->waiting);
        if (outbox->waiting == NULL)
            abort();
    }
    *message->under_way += segments_of(message->bytes);
    outbox->waiting[outbox->count++] = *message;
}

int comm_outbox_receive(struct comm_post *post, void *data, size_t bytes, int from, int tag,
                        int *under_way, struct err *err)
{
    char *at = data;
    size_t left = bytes;

    while (left > 0) {
        const size_t segment = next_segment(left);

        if (comm_post_receive(post, at, segment, from, tag, under_way, err) < 0)
            return -1;
        at += segment;
        left -= segment;
    }
    return 0;
}

static int places_of(const struct comm_outbox *outbox)
{
    return outbox->peers * (SEGMENTS_PEER + 1);
}

void comm_outbox_settle(struct comm_outbox *outbox)
{
    for (int i = 0; i < places_of(outbox); i++) {
        struct comm_segment *const segment = &outbox->sent[i];
        struct comm_outbox_peer *const peer = &outbox->peer[segment->to];

        if (segment->under_way == NULL || segment->posted > 0)
            continue;
        --*segment->under_way;
        segment->under_way = NULL;
        if (segment->helped) {
            peer->helped = false;
            continue;
        }
        peer->bytes -= segment->bytes;
        peer->segments--;
    }
}

static bool has_room(const struct comm_outbox *outbox, const struct comm_outgoing *message)
{
    const struct comm_outbox_peer *const peer = &outbox->peer[message->to];

    return peer->segments == 0 || (peer->segments < SEGMENTS_PEER &&
                                   peer->bytes + next_segment(message->bytes) <= outbox->window);
}

/* Of the messages whose peers have room. NULL: there is none. */
static struct comm_outgoing *most_urgent(struct comm_outbox *outbox)
{
    struct comm_outgoing *best = NULL;

    for (int i = 0; i < outbox->count; i++) {
        struct comm_outgoing *const message = &outbox->waiting[i];

        if ((best == NULL || message->urgency > best->urgency) && has_room(outbox, message))
            best = message;
    }
    return best;
}

/* One of that place whose peer has no such segment yet. NULL: there is none. */
static struct comm_outgoing *to_help(struct comm_outbox *outbox, int place)
{
    for (int i = 0; i < outbox->count && place >= 0; i++) {
        struct comm_outgoing *const message = &outbox->waiting[i];

        if (message->place == place && !outbox->peer[message->to].helped)
            return message;
    }
    return NULL;
}

/* A segment of it has been given to MPI. */
static void shorten(struct comm_outbox *outbox, struct comm_outgoing *message, size_t bytes)
{
    message->data += bytes;
    message->bytes -= bytes;
    if (message->bytes > 0)
        return;
    outbox->count--;
    memmove(message, message + 1,
            (size_t)(outbox->waiting + outbox->count - message) * sizeof *message);
}

/* Its next segment. */
static int give(struct comm_outbox *outbox, struct comm_segment *segment,
                struct comm_outgoing *message, bool helped, struct err *err)
{
    const size_t bytes = next_segment(message->bytes);
    struct comm_outbox_peer *const peer = &outbox->peer[message->to];

    if (comm_post_send(outbox->post, message->data, bytes, message->to, message->tag,
                       &segment->posted, err) < 0)
        return -1;
    segment->under_way = message->under_way;
    segment->to = message->to;
    segment->bytes = bytes;
    segment->helped = helped;
    if (helped) {
        peer->helped = true;
    } else {
        peer->bytes += bytes;
        peer->segments++;
    }
    shorten(outbox, message, bytes);
    return 0;
}

int comm_outbox_send(struct comm_outbox *outbox, int helped, struct err *err)
{
    for (int i = 0; i < places_of(outbox) && outbox->count > 0; i++) {
        struct comm_segment *const segment = &outbox->sent[i];
        struct comm_outgoing *message;
        bool helps;

        if (segment->under_way != NULL)
            continue;
        message = most_urgent(outbox);
        helps = message == NULL;
        if (helps && (message = to_help(outbox, helped)) == NULL)
            return 0;
        if (give(outbox, segment, message, helps, err) < 0)
            return -1;
    }
    return 0;
}
