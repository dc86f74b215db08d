/*
 * comm/exchange.c -- see exchange.h.
 *
 * A bucket's way: its pieces go to the owners of its chunks (send_pieces), each owner adds up its
 * chunk (add_pieces), the sums go to everybody (send_sums). Two buckets are on their way at a time:
 * while the sums of one travel, the pieces of the next do. Messages between two ranks with one tag
 * arrive in the order in which they were sent, which is that of buckets.
 */
#include "comm/exchange.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "comm/comm.h"
#include "comm/tree.h"
#include "comm/wait.h"

#define BLOCK_FLOATS                                                                               \
    2048 /* 8 KB of each piece: a few dozen pieces stay in the L2 cache while they are added up */
#define THREADS_BLOCKS   16         /* fewer are added up by one thread */
#define LINE_FLOATS      16         /* 64 bytes */
#define BUCKET_BYTES_MAX (1u << 30) /* MPI counts in int */

/* All pieces of a step, over all ranks, from left to right. Everybody can work them out; no message
 * carries them. */
struct piece {
    int rank, number; /* the number-th piece of this rank */
    struct comm_leaves leaves;
};

/* Add piece `from` to piece `to`, both being numbers in the list of pieces. */
struct merge {
    int to, from;
};

struct run {
    size_t begin, count;
};

#define SLOTS 2

/* One of the two buckets on their way. */
struct slot {
    struct run bucket;
    float *received; /* of the piece p of another rank: `stride` floats from p * stride on */
    float **chunk;   /* where this rank's chunk of piece p is, received or own */
    MPI_Request *requests;
    int request_count;
};

struct comm_exchange {
    struct comm *comm;
    unsigned lanes;
    size_t count_max, bucket_floats, stride;
    int pieces_max, requests_max;
    int *done;
    struct slot slots[SLOTS];

    /* of the current step */
    unsigned leaves; /* what pieces and merges are for; 0: none yet */
    struct piece *pieces;
    struct merge *merges;
    int piece_count, merge_count;
};

/* The part of a bucket that rank `owner` adds up: chunks differ by at most one float; some are
 * empty in a small bucket. */
static struct run chunk_of(struct run bucket, int owner, int ranks)
{
    const size_t p = (size_t)ranks, j = (size_t)owner;
    const size_t base = bucket.count / p,
                 extra = bucket.count % p; /* the first `extra` get one more */

    return (struct run){bucket.begin + j * base + (j < extra ? j : extra), base + (j < extra)};
}

static struct comm_leaves cut(struct comm_leaves own, unsigned leaves)
{
    own.begin = own.begin < leaves ? own.begin : leaves;
    own.end = own.end < leaves ? own.end : leaves;
    return own;
}

/* Pieces of rank `rank` in a step of `leaves` leaves. */
static int pieces_of(unsigned lanes, unsigned leaves, int rank, int ranks,
                     struct comm_leaves pieces[COMM_TREE_PIECES_MAX])
{
    return comm_tree_pieces(leaves, cut(comm_tree_share(lanes, rank, ranks), leaves), pieces);
}

/* The most of each over all steps, short ones included. */
struct worst_step {
    int pieces, requests; /* requests: of one rank */
};

static struct worst_step find_worst_step(unsigned lanes, int own, int ranks)
{
    struct comm_leaves pieces[COMM_TREE_PIECES_MAX];
    struct worst_step worst = {.requests = 2 * (ranks - 1)}; /* of the sums */

    for (unsigned leaves = 1; leaves <= lanes; leaves++) {
        int all = 0, mine = 0;

        for (int rank = 0; rank < ranks; rank++) {
            const int count = pieces_of(lanes, leaves, rank, ranks, pieces);

            all += count;
            mine = rank == own ? count : mine;
        }
        const int requests = all - mine + mine * (ranks - 1);

        worst.pieces = all > worst.pieces ? all : worst.pieces;
        worst.requests = requests > worst.requests ? requests : worst.requests;
    }
    return worst;
}

/* Floats from one received chunk to the next. */
static size_t stride_of(size_t count, size_t bucket_floats, int ranks)
{
    const size_t bucket = bucket_floats < count ? bucket_floats : count, p = (size_t)ranks;

    return ((bucket + p - 1) / p + LINE_FLOATS) / LINE_FLOATS * LINE_FLOATS;
}

/* Alone, a rank receives nothing. */
static size_t received_bytes(int pieces, size_t stride, int ranks)
{
    return ranks == 1 ? 0 : (size_t)pieces * stride * sizeof(float);
}

size_t comm_exchange_bytes(unsigned lanes, int ranks, size_t count, size_t bucket_bytes)
{
    if (ranks == 1)
        return 0;
    return SLOTS * received_bytes(find_worst_step(lanes, 0, ranks).pieces,
                                  stride_of(count, bucket_bytes / sizeof(float), ranks), ranks);
}

/* What depends on the ranks' number but not on the bytes: small. */
static void allocate_lists(struct comm_exchange *exchange)
{
    const size_t pieces = (size_t)exchange->pieces_max + 1; /* never of no bytes */
    const size_t requests = (size_t)exchange->requests_max + 1;

    exchange->pieces = calloc(pieces, sizeof *exchange->pieces);
    exchange->merges = calloc(pieces, sizeof *exchange->merges);
    exchange->done = calloc(requests, sizeof *exchange->done);
    if (exchange->pieces == NULL || exchange->merges == NULL || exchange->done == NULL)
        abort();
    for (int i = 0; i < SLOTS; i++) {
        exchange->slots[i].chunk = calloc(pieces, sizeof *exchange->slots[i].chunk);
        exchange->slots[i].requests = calloc(requests, sizeof(MPI_Request));
        if (exchange->slots[i].chunk == NULL || exchange->slots[i].requests == NULL)
            abort();
    }
}

static int allocate_received(struct comm_exchange *exchange, struct err *err)
{
    const size_t bytes =
        received_bytes(exchange->pieces_max, exchange->stride, exchange->comm->size);

    for (int i = 0; i < SLOTS && bytes > 0; i++) {
        exchange->slots[i].received = aligned_alloc(LINE_FLOATS * sizeof(float), bytes);
        if (exchange->slots[i].received == NULL)
            return err_set(err, ERR_MEMORY,
                           "cannot allocate %zu bytes for the exchange of gradients; smaller "
                           "buckets need less",
                           bytes);
    }
    return 0;
}

struct comm_exchange *comm_exchange_new(struct comm *comm, unsigned lanes, size_t count,
                                        size_t bucket_bytes, struct err *err)
{
    struct comm_exchange *exchange = calloc(1, sizeof *exchange);
    struct worst_step worst;

    assert(lanes > 0 && bucket_bytes > 0 && bucket_bytes % sizeof(float) == 0 &&
           bucket_bytes <= BUCKET_BYTES_MAX);
    if (exchange == NULL)
        abort();
    worst = find_worst_step(lanes, comm->rank, comm->size);
    *exchange = (struct comm_exchange){
        .comm = comm,
        .lanes = lanes,
        .count_max = count,
        .bucket_floats = bucket_bytes / sizeof(float),
        .stride = stride_of(count, bucket_bytes / sizeof(float), comm->size),
        .pieces_max = worst.pieces,
        .requests_max = worst.requests,
    };
    allocate_lists(exchange);
    if (allocate_received(exchange, err) < 0) {
        comm_exchange_free(exchange);
        return NULL;
    }
    return exchange;
}

void comm_exchange_free(struct comm_exchange *exchange)
{
    if (exchange == NULL)
        return;
    for (int i = 0; i < SLOTS; i++) {
        free(exchange->slots[i].received);
        free(exchange->slots[i].chunk);
        free(exchange->slots[i].requests);
    }
    free(exchange->pieces);
    free(exchange->merges);
    free(exchange->done);
    free(exchange);
}

/* The additions that make one sum of the pieces, in an order in which both sides of each are
 * complete: as in a rank's own part (tree.c), a stack of partial sums of which the two topmost
 * become one whenever they are a node's two children. */
static void plan_merges(struct comm_exchange *exchange)
{
    struct comm_leaves pieces[COMM_TREE_PIECES_MAX], stack_leaves[COMM_TREE_PIECES_MAX];
    int stack[COMM_TREE_PIECES_MAX];
    int held = 0;

    exchange->merge_count = 0;
    for (int p = 0; p < exchange->piece_count; p++) {
        assert(held < COMM_TREE_PIECES_MAX);
        stack[held] = p;
        stack_leaves[held++] = exchange->pieces[p].leaves;
        while (held >= 2) {
            const struct comm_leaves both = {stack_leaves[held - 2].begin,
                                             stack_leaves[held - 1].end};

            if (comm_tree_pieces(exchange->leaves, both, pieces) != 1)
                break;
            held--;
            exchange->merges[exchange->merge_count++] =
                (struct merge){.to = stack[held - 1], .from = stack[held]};
            stack_leaves[held - 1] = both;
        }
    }
    assert(held == 1 && stack[0] == 0);
}

static void plan_step(struct comm_exchange *exchange, unsigned leaves)
{
    struct comm_leaves pieces[COMM_TREE_PIECES_MAX];

    if (exchange->leaves == leaves)
        return;
    exchange->leaves = leaves;
    exchange->piece_count = 0;
    for (int rank = 0; rank < exchange->comm->size; rank++) {
        const int count = pieces_of(exchange->lanes, leaves, rank, exchange->comm->size, pieces);

        for (int number = 0; number < count; number++)
            exchange->pieces[exchange->piece_count++] =
                (struct piece){.rank = rank, .number = number, .leaves = pieces[number]};
    }
    assert(exchange->piece_count <= exchange->pieces_max);
    plan_merges(exchange);
}

static int send(struct comm_exchange *exchange, struct slot *slot, const float *x, struct run run,
                int rank, int tag, struct err *err)
{
    const struct comm_mpi *mpi = exchange->comm->mpi;

    if (run.count == 0)
        return 0;
    assert(slot->request_count < exchange->requests_max);
    return comm_check(MPI_Isend(x + run.begin, (int)run.count, MPI_FLOAT, rank, tag, mpi->ranks,
                                &slot->requests[slot->request_count++]),
                      "send gradients", err);
}

static int receive(struct comm_exchange *exchange, struct slot *slot, float *x, struct run run,
                   int rank, int tag, struct err *err)
{
    const struct comm_mpi *mpi = exchange->comm->mpi;

    if (run.count == 0)
        return 0;
    assert(slot->request_count < exchange->requests_max);
    return comm_check(MPI_Irecv(x + run.begin, (int)run.count, MPI_FLOAT, rank, tag, mpi->ranks,
                                &slot->requests[slot->request_count++]),
                      "receive gradients", err);
}

static int wait(struct comm_exchange *exchange, struct slot *slot, struct err *err)
{
    const int count = slot->request_count;

    slot->request_count = 0;
    return comm_wait_all(slot->requests, exchange->done, count, "exchange gradients", err);
}

/* Receive this rank's chunk of everybody's pieces and send everybody its chunk of ours. */
static int send_pieces(struct comm_exchange *exchange, struct slot *slot,
                       const struct comm_tree_sum *own, struct err *err)
{
    const int rank = exchange->comm->rank, size = exchange->comm->size;
    const struct run mine = chunk_of(slot->bucket, rank, size);

    for (int p = 0; p < exchange->piece_count; p++) {
        const struct piece *piece = &exchange->pieces[p];

        if (piece->rank == rank) {
            slot->chunk[p] = own->vector[piece->number] + mine.begin;
            continue;
        }
        slot->chunk[p] = slot->received + (size_t)p * exchange->stride;
        if (receive(exchange, slot, slot->chunk[p], (struct run){0, mine.count}, piece->rank,
                    COMM_TAG_PIECE + piece->number, err) < 0)
            return -1;
    }
    for (int step = 1; step < size; step++) { /* beginning with the neighbour, to spread the load */
        const int to = (rank + step) % size;

        for (int number = 0; number < own->held; number++) {
            if (send(exchange, slot, own->vector[number], chunk_of(slot->bucket, to, size), to,
                     COMM_TAG_PIECE + number, err) < 0)
                return -1;
        }
    }
    return 0;
}

/* All additions of one block; the sum ends in piece 0, from where it goes to out. Pieces are
 * overwritten: what was received is ours, and a rank's own part is used up by the exchange. */
static void add_block(const struct comm_exchange *exchange, float *const *chunk, size_t begin,
                      size_t end, float *out)
{
    for (int m = 0; m < exchange->merge_count; m++) {
        float *restrict to = chunk[exchange->merges[m].to];
        const float *restrict from = chunk[exchange->merges[m].from];

#pragma omp simd
        for (size_t i = begin; i < end; i++)
            to[i] += from[i];
    }
    if (out != chunk[0])
        memcpy(out + begin, chunk[0] + begin, (end - begin) * sizeof *out);
}

/* Sum up this rank's chunk. Blocks are independent, element by element, so threads change no bit.
 */
static void add_pieces(const struct comm_exchange *exchange, const struct slot *slot, float *out)
{
    const struct run mine = chunk_of(slot->bucket, exchange->comm->rank, exchange->comm->size);
    const size_t blocks = (mine.count + BLOCK_FLOATS - 1) / BLOCK_FLOATS;

#pragma omp parallel for schedule(static) if (blocks >= THREADS_BLOCKS)
    for (size_t block = 0; block < blocks; block++) {
        const size_t begin = block * BLOCK_FLOATS;
        const size_t end = begin + BLOCK_FLOATS < mine.count ? begin + BLOCK_FLOATS : mine.count;

        add_block(exchange, slot->chunk, begin, end, out + mine.begin);
    }
}

/* Send this rank's sum to everybody and receive theirs. Our pieces of this bucket have been sent,
 * so that out may be the memory they were in. */
static int send_sums(struct comm_exchange *exchange, struct slot *slot, float *out, struct err *err)
{
    const int rank = exchange->comm->rank, size = exchange->comm->size;

    for (int step = 1; step < size; step++) {
        const int to = (rank + step) % size, from = (rank + size - step) % size;

        if (receive(exchange, slot, out, chunk_of(slot->bucket, from, size), from, COMM_TAG_SUM,
                    err) < 0 ||
            send(exchange, slot, out, chunk_of(slot->bucket, rank, size), to, COMM_TAG_SUM, err) <
                0)
            return -1;
    }
    return 0;
}

static struct run bucket_at(const struct comm_exchange *exchange, size_t count, size_t number)
{
    const size_t begin = number * exchange->bucket_floats, left = count - begin;

    return (struct run){begin, left < exchange->bucket_floats ? left : exchange->bucket_floats};
}

static int exchange_buckets(struct comm_exchange *exchange, const struct comm_tree_sum *own,
                            float *out, struct err *err)
{
    const size_t buckets = (own->count + exchange->bucket_floats - 1) / exchange->bucket_floats;

    for (size_t b = 0; b <= buckets; b++) { /* the pieces of b set out, bucket b - 1 is summed up */
        struct slot *next = &exchange->slots[b % 2], *slot = &exchange->slots[(b + 1) % 2];

        if (wait(exchange, next, err) < 0) /* for the sums of bucket b - 2 */
            return -1;
        if (b < buckets) {
            next->bucket = bucket_at(exchange, own->count, b);
            if (send_pieces(exchange, next, own, err) < 0)
                return -1;
        }
        if (b == 0)
            continue;
        if (wait(exchange, slot, err) < 0)
            return -1;
        add_pieces(exchange, slot, out);
        if (send_sums(exchange, slot, out, err) < 0)
            return -1;
    }
    return wait(exchange, &exchange->slots[(buckets + 1) % 2], err);
}

int comm_exchange_sum(struct comm_exchange *exchange, struct comm_tree_sum *own, float *out,
                      struct err *err)
{
    const struct comm *comm = exchange->comm;

    assert(own->leaves > 0 && own->leaves <= exchange->lanes && own->next == own->own.end);
    assert(own->count <= exchange->count_max && (own->count == 0 || out != NULL));
    if (comm->size == 1) {
        assert(own->held == 1);
        if (out != own->vector[0] && own->count > 0)
            memcpy(out, own->vector[0], own->count * sizeof *out);
        return 0;
    }
    plan_step(exchange, own->leaves);
    if (exchange_buckets(exchange, own, out, err) < 0)
        return err_wrap(err, "cannot sum gradients over %d ranks", comm->size);
    return 0;
}
