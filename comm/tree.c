/* comm/tree.c -- see tree.h. */
#include "comm/tree.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define VECTOR_ALIGN   64    /* a cache line, and an AVX-512 register */
#define THREADS_FLOATS 32768 /* 128 KB: below, waking threads costs more than the addition */

struct comm_leaves comm_tree_share(uint32_t lanes, int rank, int ranks)
{
    assert(ranks > 0 && rank >= 0 && rank < ranks);
    return (struct comm_leaves){
        .begin = (uint32_t)((uint64_t)rank * lanes / (uint64_t)ranks),
        .end = (uint32_t)(((uint64_t)rank + 1) * lanes / (uint64_t)ranks),
    };
}

/* Where the tree of n > 1 leaves splits: the largest power of two below n. */
static uint32_t split(uint32_t n)
{
    return 1u << (31 - __builtin_clz(n - 1));
}

/* The pieces of `own` below the node that stands for `node`, put behind the first `count`. */
static int pieces_below(struct comm_leaves node, struct comm_leaves own, struct comm_leaves *pieces,
                        int count)
{
    if (own.end <= node.begin || own.begin >= node.end)
        return count;
    if (own.begin <= node.begin && own.end >= node.end) {
        assert(count < COMM_TREE_PIECES_MAX); /* at most two a level, of 32 levels */
        pieces[count] = node;
        return count + 1;
    }
    const uint32_t middle = node.begin + split(node.end - node.begin);

    count = pieces_below((struct comm_leaves){node.begin, middle}, own, pieces, count);
    return pieces_below((struct comm_leaves){middle, node.end}, own, pieces, count);
}

int comm_tree_pieces(uint32_t leaves, struct comm_leaves own,
                     struct comm_leaves pieces[COMM_TREE_PIECES_MAX])
{
    assert(own.begin <= own.end && own.end <= leaves);
    if (own.begin == own.end)
        return 0;
    return pieces_below((struct comm_leaves){0, leaves}, own, pieces, 0);
}

/* A left child is always a perfect tree that begins at a multiple of its size, and only nodes that
 * hold the last leaf may be anything else. So while leaves are still to come, what is held are the
 * aligned powers of two that make up [begin, next), whatever the number of leaves: a shorter step
 * never needs more than the full one. */
int comm_tree_sum_buffers(uint32_t lanes, struct comm_leaves own)
{
    struct comm_leaves pieces[COMM_TREE_PIECES_MAX];
    int most = 0;

    for (uint32_t next = own.begin; next < own.end; next++) {
        const int held = comm_tree_pieces(lanes, (struct comm_leaves){own.begin, next}, pieces);

        most = held + 1 > most ? held + 1 : most;
    }
    return most;
}

int comm_tree_sum_init(struct comm_tree_sum *sum, uint32_t lanes, struct comm_leaves own,
                       size_t count, struct err *err)
{
    const int buffers = comm_tree_sum_buffers(lanes, own);
    size_t bytes = 0;

    *sum = (struct comm_tree_sum){.count = count};
    if (__builtin_mul_overflow(count, sizeof(float), &bytes) ||
        __builtin_add_overflow(bytes, VECTOR_ALIGN, &bytes))
        return err_set(err, ERR_MEMORY, "cannot hold gradients of %zu numbers", count);
    bytes = bytes / VECTOR_ALIGN * VECTOR_ALIGN; /* at least one line, so count may be 0 */
    assert(buffers <= COMM_TREE_PIECES_MAX);
    for (; sum->vectors < buffers; sum->vectors++) {
        float *vector = aligned_alloc(VECTOR_ALIGN, bytes);

        if (vector == NULL) {
            comm_tree_sum_release(sum);
            return err_set(err, ERR_MEMORY,
                           "cannot allocate %d gradients of %zu bytes; a larger --micro-batch or "
                           "a smaller --global-batch needs fewer",
                           buffers, bytes);
        }
        sum->vector[sum->vectors] = vector;
    }
    return 0;
}

void comm_tree_sum_release(struct comm_tree_sum *sum)
{
    for (int i = 0; i < sum->vectors; i++)
        free(sum->vector[i]);
    *sum = (struct comm_tree_sum){0};
}

void comm_tree_sum_begin(struct comm_tree_sum *sum, uint32_t leaves, struct comm_leaves own)
{
    assert(own.begin <= own.end);
    own.begin = own.begin < leaves ? own.begin : leaves;
    own.end = own.end < leaves ? own.end : leaves;
    sum->leaves = leaves;
    sum->own = own;
    sum->next = own.begin;
    sum->held = 0;
}

float *comm_tree_sum_leaf(struct comm_tree_sum *sum)
{
    assert(sum->next < sum->own.end && sum->held < sum->vectors);
    return sum->vector[sum->held];
}

static void add(float *restrict x, const float *restrict y, size_t count)
{
#pragma omp parallel for simd schedule(static) if (parallel : count >= THREADS_FLOATS)
    for (size_t i = 0; i < count; i++)
        x[i] += y[i];
}

/* Whether the two topmost partial sums are the two children of one node. Both are maximal, so it is
 * enough that their leaves together are a node's. */
static bool top_completes_node(const struct comm_tree_sum *sum)
{
    struct comm_leaves pieces[COMM_TREE_PIECES_MAX];

    if (sum->held < 2)
        return false;
    const struct comm_leaves both = {sum->held_leaves[sum->held - 2].begin,
                                     sum->held_leaves[sum->held - 1].end};

    return comm_tree_pieces(sum->leaves, both, pieces) == 1;
}

void comm_tree_sum_push(struct comm_tree_sum *sum)
{
    assert(sum->next < sum->own.end && sum->held < sum->vectors);
    sum->held_leaves[sum->held++] = (struct comm_leaves){sum->next, sum->next + 1};
    sum->next++;
    while (top_completes_node(sum)) {
        sum->held--;
        add(sum->vector[sum->held - 1], sum->vector[sum->held], sum->count);
        sum->held_leaves[sum->held - 1].end = sum->held_leaves[sum->held].end;
    }
}
