/* comm/post.c -- see post.h. */
#include "comm/post.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "comm/comm.h"
#include "comm/wait.h"

#define ROOM_FIRST 64

/* Lists of this many; they only grow in the first steps. */
static void make_room(struct comm_post *post, int room)
{
    post->requests = realloc(post->requests, (size_t)room * sizeof *post->requests);
    post->letters = realloc(post->letters, (size_t)room * sizeof *post->letters);
    post->done = realloc(post->done, (size_t)room * sizeof *post->done);
    if (post->requests == NULL || post->letters == NULL || post->done == NULL)
        abort();
    post->room = room;
}

void comm_post_init(struct comm_post *post, struct comm *comm)
{
    *post = (struct comm_post){.comm = comm};
    make_room(post, ROOM_FIRST);
    post->heard_s = calloc((size_t)comm->size, sizeof *post->heard_s);
    if (post->heard_s == NULL)
        abort();
}

void comm_post_release(struct comm_post *post)
{
    free(post->requests);
    free(post->letters);
    free(post->done);
    free(post->heard_s);
    *post = (struct comm_post){0};
}

static MPI_Request *new_request(struct comm_post *post, int peer, bool incoming, int *under_way)
{
    if (post->count == post->room)
        make_room(post, 2 * post->room);
    post->letters[post->count] =
        (struct comm_letter){.under_way = under_way, .peer = peer, .incoming = incoming};
    ++*under_way;
    return &post->requests[post->count++];
}

int comm_post_send(struct comm_post *post, const void *data, size_t bytes, int to, int tag,
                   int *under_way, struct err *err)
{
    const struct comm_mpi *const mpi = post->comm->mpi;

    assert(bytes <= INT_MAX && to != post->comm->rank);
    return comm_check(MPI_Isend(data, (int)bytes, MPI_BYTE, to, tag, mpi->ranks,
                                new_request(post, to, false, under_way)),
                      "send to another rank", err);
}

int comm_post_receive(struct comm_post *post, void *data, size_t bytes, int from, int tag,
                      int *under_way, struct err *err)
{
    const struct comm_mpi *const mpi = post->comm->mpi;

    assert(bytes <= INT_MAX && from != post->comm->rank);
    return comm_check(MPI_Irecv(data, (int)bytes, MPI_BYTE, from, tag, mpi->ranks,
                                new_request(post, from, true, under_way)),
                      "receive from another rank", err);
}

/* Close the gaps that finished messages left. */
static void compact(struct comm_post *post)
{
    int kept = 0;

    for (int i = 0; i < post->count; i++) {
        if (post->requests[i] == MPI_REQUEST_NULL)
            continue;
        post->requests[kept] = post->requests[i];
        post->letters[kept++] = post->letters[i];
    }
    post->count = kept;
}

int comm_post_test(struct comm_post *post, int *finished, struct err *err)
{
    int count = 0;

    *finished = 0;
    if (post->count == 0)
        return 0;
    if (comm_check(
            MPI_Testsome(post->count, post->requests, &count, post->done, MPI_STATUSES_IGNORE),
            "talk to the other ranks", err) < 0)
        return -1;
    assert(count != MPI_UNDEFINED);
    if (count == 0)
        return 0;
    for (int i = 0; i < count; i++) {
        const struct comm_letter *const letter = &post->letters[post->done[i]];

        --*letter->under_way;
        post->heard_s[letter->peer] = clock_now_s();
    }
    compact(post);
    *finished = count;
    return 0;
}

int comm_post_stuck(const struct comm_post *post, double since_s, double *seconds)
{
    const double now = clock_now_s();
    int stuck = -1;

    *seconds = 0;
    for (int i = 0; i < post->count; i++) {
        const struct comm_letter *const letter = &post->letters[i];
        const double heard = post->heard_s[letter->peer];
        const double since = now - (heard > since_s ? heard : since_s);

        if (!letter->incoming || since < *seconds)
            continue;
        stuck = letter->peer;
        *seconds = since;
    }
    return stuck;
}
