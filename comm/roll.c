/* comm/roll.c -- see roll.h. */
#include "comm/roll.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "comm/comm.h"
#include "comm/post.h"
#include "comm/wait.h"

void comm_roll_init(struct comm_roll *roll, struct comm *comm, struct comm_post *post)
{
    *roll = (struct comm_roll){.comm = comm,
                               .post = post,
                               .answer.kind = COMM_ROLL_ANSWER,
                               .beat.kind = COMM_ROLL_BEAT,
                               .through.kind = COMM_ROLL_THROUGH};
    roll->peers = calloc((size_t)comm->size, sizeof *roll->peers);
    if (roll->peers == NULL)
        abort();
}

void comm_roll_release(struct comm_roll *roll)
{
    free(roll->peers);
    *roll = (struct comm_roll){0};
}

static int listen_to(struct comm_roll *roll, int rank, struct err *err)
{
    struct comm_roll_peer *const peer = &roll->peers[rank];

    return comm_post_receive(roll->post, &peer->in, sizeof peer->in, rank, COMM_TAG_ROLL,
                             &peer->incoming, err);
}

int comm_roll_begin(struct comm_roll *roll, struct err *err)
{
    assert(roll->not_through == 0);
    roll->begun_s = clock_now_s();
    roll->unanswered = roll->not_through = roll->comm->size - 1;
    for (int rank = 0; rank < roll->comm->size; rank++) {
        roll->peers[rank].answered = roll->peers[rank].through = false;
        if (rank != roll->comm->rank && listen_to(roll, rank, err) < 0)
            return -1;
    }
    return 0;
}

static int tell(struct comm_roll *roll, const struct comm_roll_message *message, int rank,
                int *under_way, struct err *err)
{
    return comm_post_send(roll->post, message, sizeof *message, rank, COMM_TAG_ROLL, under_way,
                          err);
}

/* Beginning with the neighbour, so that nobody is flooded. */
static int tell_all(struct comm_roll *roll, const struct comm_roll_message *message,
                    struct err *err)
{
    for (int step = 1; step < roll->comm->size; step++) {
        const int rank = (roll->comm->rank + step) % roll->comm->size;

        if (tell(roll, message, rank, &roll->peers[rank].leaving, err) < 0)
            return -1;
    }
    roll->beaten_s = clock_now_s();
    return 0;
}

int comm_roll_answer(struct comm_roll *roll, const void *answer, size_t bytes, struct err *err)
{
    struct comm_roll_peer *const self = &roll->peers[roll->comm->rank];

    assert(bytes <= COMM_ROLL_BYTES_MAX && !self->answered);
    memcpy(roll->answer.answer, answer, bytes);
    self->answer = roll->answer;
    self->answered = true;
    return tell_all(roll, &roll->answer, err);
}

int comm_roll_beat(struct comm_roll *roll, struct err *err)
{
    for (int rank = 0; rank < roll->comm->size; rank++)
        if (rank != roll->comm->rank && roll->peers[rank].beating == 0 &&
            tell(roll, &roll->beat, rank, &roll->peers[rank].beating, err) < 0)
            return -1;
    roll->beaten_s = clock_now_s();
    return 0;
}

int comm_roll_through(struct comm_roll *roll, struct err *err)
{
    struct comm_roll_peer *const self = &roll->peers[roll->comm->rank];

    assert(self->answered && !self->through);
    self->through = true;
    return tell_all(roll, &roll->through, err);
}

int comm_roll_listen(struct comm_roll *roll, bool *moved, struct err *err)
{
    *moved = false;
    for (int rank = 0; rank < roll->comm->size && roll->not_through > 0; rank++) {
        struct comm_roll_peer *const peer = &roll->peers[rank];

        if (rank == roll->comm->rank || peer->through || peer->incoming > 0)
            continue;
        *moved = true;
        if (peer->in.kind == COMM_ROLL_THROUGH) {
            peer->through = true;
            roll->not_through--;
            continue;
        }
        if (peer->in.kind == COMM_ROLL_ANSWER) {
            peer->answer = peer->in;
            peer->answered = true;
            roll->unanswered--;
        }
        if (listen_to(roll, rank, err) < 0)
            return -1;
    }
    return 0;
}

bool comm_roll_is_complete(const struct comm_roll *roll)
{
    return roll->unanswered == 0 && roll->peers[roll->comm->rank].answered;
}

bool comm_roll_is_beating(const struct comm_roll *roll)
{
    for (int rank = 0; rank < roll->comm->size; rank++)
        if (roll->peers[rank].beating > 0)
            return true;
    return false;
}

/* Whether nothing is left between this rank and another. */
static bool is_done(const struct comm_roll_peer *peer)
{
    return peer->through && peer->leaving == 0 && peer->beating == 0;
}

bool comm_roll_is_settled(const struct comm_roll *roll)
{
    for (int rank = 0; rank < roll->comm->size; rank++)
        if (!is_done(&roll->peers[rank]))
            return false;
    return true;
}

const void *comm_roll_answer_of(const struct comm_roll *roll, int rank)
{
    assert(roll->peers[rank].answered);
    return roll->peers[rank].answer.answer;
}

int comm_roll_silent(const struct comm_roll *roll, double now_s, double *seconds)
{
    int silent = -1;

    *seconds = 0;
    for (int rank = 0; rank < roll->comm->size; rank++) {
        const double heard = roll->post->heard_s[rank];
        const double since = now_s - (heard > roll->begun_s ? heard : roll->begun_s);

        if (rank == roll->comm->rank || is_done(&roll->peers[rank]) || since < *seconds)
            continue;
        silent = rank;
        *seconds = since;
    }
    return silent;
}

void comm_roll_forgive(struct comm_roll *roll, double now_s)
{
    roll->begun_s = now_s;
}
