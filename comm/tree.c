/* comm/tree.c -- see tree.h. */
#include "comm/tree.h"

#include <assert.h>
#include <stdbool.h>

#define LINE_FLOATS    16    /* 64 bytes: a cache line, and an AVX-512 register */
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

size_t comm_tree_stride(size_t count)
{
    return (count + LINE_FLOATS - 1) / LINE_FLOATS * LINE_FLOATS;
}

void comm_tree_sum_init(struct comm_tree_sum *sum, uint32_t lanes, struct comm_leaves own,
                        size_t count, float *memory)
{
    *sum = (struct comm_tree_sum){.count = count, .vectors = comm_tree_sum_buffers(lanes, own)};
    for (int i = 0; i < sum->vectors; i++)
        sum->vector[i] = memory + (size_t)i * comm_tree_stride(count);
}

void comm_tree_sum_begin(struct comm_tree_sum *sum, uint32_t leaves, struct comm_leaves own)
{
    assert(own.begin <= own.end);
    own.begin = own.begin < leaves ? own.begin : leaves;
    own.end = own.end < leaves ? own.end : leaves;
    sum->leaves = leaves;
    sum->own = own;
    sum->next = own.begin;
    sum->pushed = 0;
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

/* How many of the partial sums below the next leaf become one with it. What is held is maximal, so
 * leaves that together are a node's are its two children. */
static int completed_by_next(const struct comm_tree_sum *sum)
{
    struct comm_leaves pieces[COMM_TREE_PIECES_MAX];
    int completed = 0;

    while (completed < sum->held) {
        const struct comm_leaves both = {sum->held_leaves[sum->held - completed - 1].begin,
                                         sum->next + 1};

        if (comm_tree_pieces(sum->leaves, both, pieces) != 1)
            break;
        completed++;
    }
    return completed;
}

void comm_tree_sum_push_until(struct comm_tree_sum *sum, size_t floats)
{
    const int completed = completed_by_next(sum);

    assert(sum->next < sum->own.end && sum->held < sum->vectors);
    assert(floats >= sum->pushed && floats <= sum->count);
    for (int top = sum->held; top > sum->held - completed; top--)
        add(sum->vector[top - 1] + sum->pushed, sum->vector[top] + sum->pushed,
            floats - sum->pushed);
    sum->pushed = floats;
}

void comm_tree_sum_push(struct comm_tree_sum *sum)
{
    const int completed = completed_by_next(sum);

    comm_tree_sum_push_until(sum, sum->count);
    sum->held -= completed;
    if (completed == 0)
        sum->held_leaves[sum->held].begin = sum->next;
    sum->held_leaves[sum->held++].end = ++sum->next;
    sum->pushed = 0;
}

void comm_tree_sum_give_up(struct comm_tree_sum *sum)
{
    sum->next = sum->own.end;
    sum->pushed = 0;
}
