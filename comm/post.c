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
    post->statuses = realloc(post->statuses, (size_t)room * sizeof *post->statuses);
    if (post->requests == NULL || post->letters == NULL || post->done == NULL ||
        post->statuses == NULL)
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
    free(post->statuses);
    free(post->heard_s);
    *post = (struct comm_post){0};
}

static MPI_Request *new_request(struct comm_post *post, size_t bytes, int peer, bool incoming,
                                int *under_way)
{
    if (post->count == post->room)
        make_room(post, 2 * post->room);
    post->letters[post->count] = (struct comm_letter){
        .under_way = under_way, .bytes = bytes, .peer = peer, .incoming = incoming};
    ++*under_way;
    return &post->requests[post->count++];
}

/* A call of MPI about the last letter. One that failed left no request. */
static int posted(struct comm_post *post, int code, struct err *err)
{
    const int peer = post->letters[post->count - 1].peer;

    if (code == MPI_SUCCESS)
        return 0;
    --*post->letters[--post->count].under_way;
    comm_check(code, "send or receive", err);
    return err_wrap(err, "host '%s' (rank %d)", comm_host_name(post->comm, peer), peer);
}

int comm_post_send(struct comm_post *post, const void *data, size_t bytes, int to, int tag,
                   int *under_way, struct err *err)
{
    const struct comm_mpi *const mpi = post->comm->mpi;
    MPI_Request *const request = new_request(post, bytes, to, false, under_way);

    assert(bytes <= INT_MAX && to != post->comm->rank);
    return posted(post, MPI_Isend(data, (int)bytes, MPI_BYTE, to, tag, mpi->ranks, request), err);
}

int comm_post_receive(struct comm_post *post, void *data, size_t bytes, int from, int tag,
                      int *under_way, struct err *err)
{
    const struct comm_mpi *const mpi = post->comm->mpi;
    MPI_Request *const request = new_request(post, bytes, from, true, under_way);

    assert(bytes <= INT_MAX && from != post->comm->rank);
    return posted(post, MPI_Irecv(data, (int)bytes, MPI_BYTE, from, tag, mpi->ranks, request), err);
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

/* MPI_Testsome found that some letter cannot be brought. */
static int undeliverable(const struct comm_post *post, int count, struct err *err)
{
    for (int i = 0; i < count; i++) {
        const int peer = post->letters[post->done[i]].peer;

        if (comm_check(post->statuses[i].MPI_ERROR, "talk", err) < 0)
            return err_wrap(err, "host '%s' (rank %d)", comm_host_name(post->comm, peer), peer);
    }
    return err_set(err, ERR_PEER, "cannot talk to another rank");
}

int comm_post_test(struct comm_post *post, int *finished, struct err *err)
{
    const double now = clock_now_s();
    int count = 0, code;

    *finished = 0;
    if (post->count == 0)
        return 0;
    code = MPI_Testsome(post->count, post->requests, &count, post->done, post->statuses);
    if (code == MPI_ERR_IN_STATUS)
        return undeliverable(post, count, err);
    if (comm_check(code, "talk to the other ranks", err) < 0)
        return -1;
    assert(count != MPI_UNDEFINED);
    if (count == 0)
        return 0;
    for (int i = 0; i < count; i++) {
        const struct comm_letter *const letter = &post->letters[post->done[i]];

        --*letter->under_way;
        if (!letter->incoming)
            continue;
        post->heard_s[letter->peer] = now;
        post->arrived += letter->bytes;
    }
    compact(post);
    *finished = count;
    return 0;
}
