/* comm/pieces.c -- see pieces.h. */
#include "comm/pieces.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "comm/layout.h"

static struct comm_leaves cut(struct comm_leaves own, uint32_t leaves)
{
    own.begin = own.begin < leaves ? own.begin : leaves;
    own.end = own.end < leaves ? own.end : leaves;
    return own;
}

/* The leaves of ranks [first, end). */
static struct comm_leaves leaves_of(const struct comm_layout *layout, uint32_t lanes,
                                    uint32_t leaves, int first, int end)
{
    const struct comm_leaves own = {comm_tree_share(lanes, first, layout->ranks).begin,
                                    comm_tree_share(lanes, end - 1, layout->ranks).end};

    return cut(own, leaves);
}

/* The parts of a host, behind the `count` there are. Returns how many there are then. */
static int add_parts(const struct comm_layout *layout, uint32_t lanes, uint32_t leaves, bool joined,
                     int host, struct comm_piece *parts, int count)
{
    struct comm_leaves found[COMM_TREE_PIECES_MAX];
    const struct comm_leaves own =
        leaves_of(layout, lanes, leaves, layout->first_of[host], layout->first_of[host + 1]);
    int n = comm_tree_pieces(leaves, own, found);

    if (joined && n > 0) {
        n = 1;
        found[0] = own;
    }
    for (int i = 0; i < n && parts != NULL; i++)
        parts[count + i] = (struct comm_piece){.of = host, .number = i, .leaves = found[i]};
    return count + n;
}

int comm_pieces_parts_max(const struct comm_layout *layout, uint32_t lanes, bool joined)
{
    int most = 0;

    for (uint32_t leaves = 1; leaves <= lanes; leaves++) {
        int count = 0;

        for (int host = 0; host < layout->hosts; host++)
            count = add_parts(layout, lanes, leaves, joined, host, NULL, count);
        most = count > most ? count : most;
    }
    return most;
}

static void *new_list(size_t count, size_t bytes)
{
    void *const list = calloc(count + 1, bytes); /* never of no bytes */

    if (list == NULL)
        abort();
    return list;
}

void comm_pieces_init(struct comm_pieces *pieces, const struct comm_layout *layout, uint32_t lanes,
                      bool joined)
{
    /* A rank's pieces are leaves of its own, so lanes are enough; so are a host's parts. */
    const size_t most = lanes;

    assert(lanes > 0 && layout->ranks > 0);
    *pieces = (struct comm_pieces){.lanes = lanes, .joined = joined};
    pieces->local = new_list(most, sizeof *pieces->local);
    pieces->local_merges = new_list(most, sizeof *pieces->local_merges);
    pieces->local_parts = new_list(most, sizeof *pieces->local_parts);
    pieces->parts = new_list(most, sizeof *pieces->parts);
    pieces->merges = new_list(most, sizeof *pieces->merges);
}

void comm_pieces_release(struct comm_pieces *pieces)
{
    free(pieces->local);
    free(pieces->local_merges);
    free(pieces->local_parts);
    free(pieces->parts);
    free(pieces->merges);
    *pieces = (struct comm_pieces){0};
}

/* Merge neighbours wherever they are the two children of a node of the tree of `leaves` leaves. As
 * in a rank's own part (tree.c), a stack of which the two topmost become one. `numbers` says what
 * the n stand for; what remains is left there, and how many are returned. */
static int merge(uint32_t leaves, const struct comm_leaves *ranges, int *numbers, int n,
                 struct comm_merge *merges, int *merge_count)
{
    struct comm_leaves pieces[COMM_TREE_PIECES_MAX];
    struct comm_leaves stack[2 * COMM_TREE_PIECES_MAX];
    int held = 0;

    for (int i = 0; i < n; i++) {
        assert(held < 2 * COMM_TREE_PIECES_MAX);
        numbers[held] = numbers[i];
        stack[held++] = ranges[i];
        while (held >= 2) {
            const struct comm_leaves both = {stack[held - 2].begin, stack[held - 1].end};

            if (comm_tree_pieces(leaves, both, pieces) != 1)
                break;
            held--;
            merges[(*merge_count)++] =
                (struct comm_merge){.to = numbers[held - 1], .from = numbers[held]};
            stack[held - 1] = both;
        }
    }
    return held;
}

/* As merge, of pieces that are the leaves of a tree themselves: one remains. */
static void merge_all(int *numbers, int n, struct comm_merge *merges, int *merge_count)
{
    struct comm_leaves *const ranges = new_list((size_t)n, sizeof *ranges);

    for (int i = 0; i < n; i++)
        ranges[i] = (struct comm_leaves){(uint32_t)i, (uint32_t)i + 1};
    if (n > 0 && merge((uint32_t)n, ranges, numbers, n, merges, merge_count) != 1)
        abort();
    free(ranges);
}

static void plan_local(struct comm_pieces *pieces, const struct comm_layout *layout, int host)
{
    struct comm_leaves found[COMM_TREE_PIECES_MAX];
    struct comm_leaves *const ranges = new_list(pieces->lanes, sizeof *ranges);

    pieces->local_count = pieces->local_merge_count = 0;
    for (int rank = layout->first_of[host]; rank < layout->first_of[host + 1]; rank++) {
        const struct comm_leaves own =
            leaves_of(layout, pieces->lanes, pieces->leaves, rank, rank + 1);
        const int count = comm_tree_pieces(pieces->leaves, own, found);

        for (int i = 0; i < count; i++) {
            pieces->local_parts[pieces->local_count] = pieces->local_count;
            ranges[pieces->local_count] = found[i];
            pieces->local[pieces->local_count++] =
                (struct comm_piece){.of = rank, .number = i, .leaves = found[i]};
        }
    }
    pieces->local_part_count =
        merge(pieces->leaves, ranges, pieces->local_parts, pieces->local_count,
              pieces->local_merges, &pieces->local_merge_count);
    if (pieces->joined && pieces->local_part_count > 1) {
        merge_all(pieces->local_parts, pieces->local_part_count, pieces->local_merges,
                  &pieces->local_merge_count);
        pieces->local_part_count = 1;
    }
    free(ranges);
}

static void plan_parts(struct comm_pieces *pieces, const struct comm_layout *layout)
{
    struct comm_leaves *const ranges = new_list(pieces->lanes, sizeof *ranges);
    int *const numbers = new_list(pieces->lanes, sizeof *numbers);

    pieces->part_count = pieces->merge_count = 0;
    for (int host = 0; host < layout->hosts; host++)
        pieces->part_count = add_parts(layout, pieces->lanes, pieces->leaves, pieces->joined, host,
                                       pieces->parts, pieces->part_count);
    for (int i = 0; i < pieces->part_count; i++) {
        numbers[i] = i;
        ranges[i] = pieces->parts[i].leaves;
    }
    if (pieces->joined)
        merge_all(numbers, pieces->part_count, pieces->merges, &pieces->merge_count);
    else if (merge(pieces->leaves, ranges, numbers, pieces->part_count, pieces->merges,
                   &pieces->merge_count) != 1)
        abort(); /* the leaves of all hosts are all leaves */
    free(ranges);
    free(numbers);
}

void comm_pieces_plan(struct comm_pieces *pieces, const struct comm_layout *layout, int host,
                      uint32_t leaves)
{
    assert(leaves > 0 && leaves <= pieces->lanes);
    if (pieces->leaves == leaves)
        return;
    pieces->leaves = leaves;
    plan_local(pieces, layout, host);
    plan_parts(pieces, layout);
}
