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
    const size_t ranks = (size_t)comm->size;

    *roll = (struct comm_roll){.comm = comm, .post = post};
    roll->in = calloc(ranks, sizeof *roll->in);
    roll->incoming = calloc(ranks, sizeof *roll->incoming);
    roll->there = calloc(ranks, sizeof *roll->there);
    if (roll->in == NULL || roll->incoming == NULL || roll->there == NULL)
        abort();
}

void comm_roll_release(struct comm_roll *roll)
{
    free(roll->in);
    free(roll->incoming);
    free(roll->there);
    *roll = (struct comm_roll){0};
}

static int listen_to(struct comm_roll *roll, int rank, struct err *err)
{
    return comm_post_receive(roll->post, &roll->in[rank], sizeof roll->in[rank], rank,
                             COMM_TAG_ROLL, &roll->incoming[rank], err);
}

int comm_roll_begin(struct comm_roll *roll, struct err *err)
{
    assert(roll->missing == 0);
    roll->begun_s = clock_now_s();
    memset(roll->there, 0, (size_t)roll->comm->size * sizeof *roll->there);
    roll->missing = roll->comm->size - 1;
    for (int rank = 0; rank < roll->comm->size; rank++)
        if (rank != roll->comm->rank && listen_to(roll, rank, err) < 0)
            return -1;
    return 0;
}

/* Beginning with the neighbour, so that nobody is flooded. */
static int tell_all(struct comm_roll *roll, const struct comm_roll_message *message, int *under_way,
                    struct err *err)
{
    for (int step = 1; step < roll->comm->size; step++)
        if (comm_post_send(roll->post, message, sizeof *message,
                           (roll->comm->rank + step) % roll->comm->size, COMM_TAG_ROLL, under_way,
                           err) < 0)
            return -1;
    roll->beaten_s = clock_now_s();
    return 0;
}

int comm_roll_answer(struct comm_roll *roll, const void *answer, size_t bytes, struct err *err)
{
    assert(bytes <= COMM_ROLL_BYTES_MAX && roll->answering == 0);
    roll->out.is_answer = 1;
    memcpy(roll->out.answer, answer, bytes);
    roll->in[roll->comm->rank] = roll->out;
    roll->there[roll->comm->rank] = true;
    return tell_all(roll, &roll->out, &roll->answering, err);
}

int comm_roll_beat(struct comm_roll *roll, struct err *err)
{
    return roll->beating > 0 ? 0 : tell_all(roll, &roll->beat, &roll->beating, err);
}

int comm_roll_listen(struct comm_roll *roll, bool *moved, struct err *err)
{
    *moved = false;
    for (int rank = 0; rank < roll->comm->size && roll->missing > 0; rank++) {
        if (rank == roll->comm->rank || roll->there[rank] || roll->incoming[rank] > 0)
            continue;
        *moved = true;
        if (roll->in[rank].is_answer) {
            roll->there[rank] = true;
            roll->missing--;
        } else if (listen_to(roll, rank, err) < 0) {
            return -1;
        }
    }
    return 0;
}

bool comm_roll_is_complete(const struct comm_roll *roll)
{
    return roll->missing == 0 && roll->there[roll->comm->rank];
}

bool comm_roll_is_through(const struct comm_roll *roll)
{
    return comm_roll_is_complete(roll) && roll->answering == 0;
}

const void *comm_roll_answer_of(const struct comm_roll *roll, int rank)
{
    assert(roll->there[rank]);
    return roll->in[rank].answer;
}

int comm_roll_silent(const struct comm_roll *roll, double *seconds)
{
    const double now = clock_now_s();
    int silent = -1;

    *seconds = 0;
    for (int rank = 0; rank < roll->comm->size && roll->missing > 0; rank++) {
        const double heard = roll->post->heard_s[rank];
        const double since = now - (heard > roll->begun_s ? heard : roll->begun_s);

        if (rank == roll->comm->rank || roll->there[rank] || since < *seconds)
            continue;
        silent = rank;
        *seconds = since;
    }
    return silent;
}
