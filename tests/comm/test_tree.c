/* tests/comm/test_tree.c -- the shape of the sum, against a naive reference that follows the
 * definition. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/philox.h"
#include "comm/tree.h"

#define LANES_MAX 40
#define COUNT     3

static float leaves_of_test[LANES_MAX][COUNT];

/* Magnitudes from 2^-40 to 2^40 and both signs: a sum in any other shape has other bits. */
static void make_leaves(void)
{
    struct philox philox;

    philox_init(&philox, 1, 2, 3, PHILOX_SYNTH);
    for (int v = 0; v < LANES_MAX; v++) {
        for (int i = 0; i < COUNT; i++)
            leaves_of_test[v][i] =
                ldexpf(philox_uniform(&philox) - 0.5f, (int)philox_below(&philox, 81) - 40);
    }
}

static uint32_t naive_split(uint32_t n)
{
    uint32_t k = 1;

    while (2 * k < n)
        k *= 2;
    return k;
}

static float naive_sum(uint32_t begin, uint32_t end, int i)
{
    if (end - begin == 1)
        return leaves_of_test[begin][i];
    const uint32_t middle = begin + naive_split(end - begin);

    return naive_sum(begin, middle, i) + naive_sum(middle, end, i);
}

static bool is_node(uint32_t begin, uint32_t end, struct comm_leaves run)
{
    if (run.begin == begin && run.end == end)
        return true;
    if (end - begin <= 1)
        return false;
    const uint32_t middle = begin + naive_split(end - begin);

    return run.end <= middle ? is_node(begin, middle, run)
                             : run.begin >= middle && is_node(middle, end, run);
}

/* The partial sums of all ranks, put together by descending from the root until a piece is met. */
struct parts {
    int count;
    struct comm_leaves leaves[LANES_MAX];
    float sum[LANES_MAX][COUNT];
};

static float parts_sum(const struct parts *parts, uint32_t begin, uint32_t end, int i)
{
    for (int p = 0; p < parts->count; p++) {
        if (parts->leaves[p].begin == begin && parts->leaves[p].end == end)
            return parts->sum[p][i];
    }
    if (end - begin <= 1)
        return NAN; /* a leaf that no piece covers */
    const uint32_t middle = begin + naive_split(end - begin);

    return parts_sum(parts, begin, middle, i) + parts_sum(parts, middle, end, i);
}

static void shares_cover_all_lanes_evenly(void **state)
{
    (void)state;
    for (uint32_t lanes = 1; lanes <= LANES_MAX; lanes++) {
        for (int ranks = 1; ranks <= (int)lanes + 2; ranks++) {
            uint32_t next = 0;

            for (int rank = 0; rank < ranks; rank++) {
                const struct comm_leaves share = comm_tree_share(lanes, rank, ranks);

                assert_int_equal(share.begin, next);
                assert_in_range(share.end - share.begin, lanes / (uint32_t)ranks,
                                lanes / (uint32_t)ranks + 1);
                next = share.end;
            }
            assert_int_equal(next, lanes);
        }
    }
    const struct comm_leaves last = comm_tree_share(UINT32_MAX, 999, 1000);

    assert_int_equal(last.end, UINT32_MAX);
}

static void pieces_are_the_maximal_nodes_of_a_run(void **state)
{
    struct comm_leaves pieces[COMM_TREE_PIECES_MAX];

    (void)state;
    for (uint32_t n = 1; n <= LANES_MAX; n++) {
        for (uint32_t begin = 0; begin <= n; begin++) {
            for (uint32_t end = begin; end <= n; end++) {
                const int count = comm_tree_pieces(n, (struct comm_leaves){begin, end}, pieces);
                uint32_t next = begin;

                for (int p = 0; p < count; p++) {
                    assert_int_equal(pieces[p].begin, next);
                    assert_true(is_node(0, n, pieces[p]));
                    next = pieces[p].end;
                    /* None could be larger: no node begins here and reaches further within the run.
                     */
                    for (uint32_t more = next + 1; more <= end; more++)
                        assert_false(is_node(0, n, (struct comm_leaves){pieces[p].begin, more}));
                }
                assert_int_equal(next, end);
            }
        }
    }
}

static void pieces_fit_for_the_widest_tree(void **state)
{
    struct comm_leaves pieces[COMM_TREE_PIECES_MAX];

    (void)state;
    assert_int_equal(comm_tree_pieces(UINT32_MAX, (struct comm_leaves){1, UINT32_MAX - 1}, pieces),
                     61);
    assert_int_equal(comm_tree_pieces(UINT32_MAX, (struct comm_leaves){0, UINT32_MAX}, pieces), 1);
}

static void make_sum(struct comm_tree_sum *sum, uint32_t lanes, struct comm_leaves own,
                     size_t count)
{
    const size_t vectors = (size_t)comm_tree_sum_buffers(lanes, own);

    comm_tree_sum_init(sum, lanes, own, count,
                       vectors == 0 ? NULL : malloc(vectors * comm_tree_stride(count) * 4));
}

/* A leaf goes in as backward brings it: in portions, some of them empty. */
static void push_in_portions(struct comm_tree_sum *sum)
{
    const size_t first = sum->count / 3;

    comm_tree_sum_push_until(sum, first);
    comm_tree_sum_push_until(sum, first);
    comm_tree_sum_push_until(sum, first + sum->next % 2);
    comm_tree_sum_push(sum);
}

/* One rank's part of a step; returns the most partial sums alive at once, the leaf in work
 * included. */
static int add_part(struct comm_tree_sum *sum, uint32_t leaves, struct comm_leaves own,
                    struct parts *parts)
{
    int most = 0;

    comm_tree_sum_begin(sum, leaves, own);
    while (sum->next < sum->own.end) {
        most = sum->held + 1 > most ? sum->held + 1 : most;
        memcpy(comm_tree_sum_leaf(sum), leaves_of_test[sum->next], sizeof leaves_of_test[0]);
        push_in_portions(sum);
    }
    for (int p = 0; p < sum->held; p++) {
        parts->leaves[parts->count] = sum->held_leaves[p];
        memcpy(parts->sum[parts->count++], sum->vector[p], sizeof parts->sum[0]);
    }
    return most;
}

/* All steps, the short ones too, of one number of lanes on one number of ranks; sums have room for
 * the ranks. */
static void check_lanes_on_ranks(uint32_t lanes, int ranks)
{
    struct comm_tree_sum sums[LANES_MAX + 2] = {0};
    int most[LANES_MAX + 2] = {0};

    for (int rank = 0; rank < ranks; rank++)
        make_sum(&sums[rank], lanes, comm_tree_share(lanes, rank, ranks), COUNT);
    for (uint32_t leaves = 1; leaves <= lanes; leaves++) {
        struct parts parts = {0};

        for (int rank = 0; rank < ranks; rank++) {
            const int held =
                add_part(&sums[rank], leaves, comm_tree_share(lanes, rank, ranks), &parts);

            most[rank] = held > most[rank] ? held : most[rank];
        }
        for (int i = 0; i < COUNT; i++) {
            const float want = naive_sum(0, leaves, i), got = parts_sum(&parts, 0, leaves, i);

            if (memcmp(&want, &got, sizeof want) != 0)
                fail_msg("%u lanes, %d ranks, %u leaves: %a, not %a", lanes, ranks, leaves, got,
                         want);
        }
    }
    for (int rank = 0; rank < ranks; rank++) {
        assert_int_equal(most[rank], sums[rank].vectors); /* the bound holds, and is not too high */
        free(sums[rank].vector[0]);
    }
}

static void sum_has_the_same_bits_however_lanes_are_shared(void **state)
{
    (void)state;
    for (uint32_t lanes = 1; lanes <= LANES_MAX; lanes++) {
        for (int ranks = 1; ranks <= (int)lanes + 2; ranks++)
            check_lanes_on_ranks(lanes, ranks);
    }
}

static void sum_needs_log2_buffers_where_a_share_is_a_power_of_two(void **state)
{
    static const struct {
        const char *name;
        uint32_t lanes;
        int ranks, buffers;
    } cases[] = {
        {"one lane", 1, 1, 1},
        {"a lane a rank", 7, 7, 1},
        {"two lanes a rank", 8, 4, 2},
        {"all of eight on one", 8, 1, 4},
        {"32 on each of three", 96, 3, 6},
        {"1024 on one", 1024, 1, 11},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int rank = 0; rank < cases[i].ranks; rank++) {
            const struct comm_leaves own = comm_tree_share(cases[i].lanes, rank, cases[i].ranks);

            if (comm_tree_sum_buffers(cases[i].lanes, own) != cases[i].buffers)
                fail_msg("%s: rank %d", cases[i].name, rank);
        }
    }
}

static void sum_adds_long_vectors_to_the_last_element(void **state)
{
    enum { LONG = 100003 }; /* above the length from which several threads add */
    struct comm_tree_sum sum;
    int wrong = 0;

    (void)state;
    make_sum(&sum, 3, (struct comm_leaves){0, 3}, LONG);
    comm_tree_sum_begin(&sum, 3, (struct comm_leaves){0, 3});
    for (int v = 0; v < 3; v++) {
        float *x = comm_tree_sum_leaf(&sum);

        for (int i = 0; i < LONG; i++)
            x[i] = (float)(i % 1000 * (v + 1));
        comm_tree_sum_push(&sum);
    }
    assert_int_equal(sum.held, 1);
    for (int i = 0; i < LONG; i++)
        wrong += sum.vector[0][i] != (float)(i % 1000 * 6);
    assert_int_equal(wrong, 0);
    free(sum.vector[0]);
}

static void portions_are_final_before_the_rest_is_written(void **state)
{
    enum { FLOATS = 40, FIRST = 25 };
    struct comm_tree_sum sum;
    float *x;

    (void)state;
    make_sum(&sum, 2, (struct comm_leaves){0, 2}, FLOATS);
    comm_tree_sum_begin(&sum, 2, (struct comm_leaves){0, 2});
    for (int v = 0; v < 2; v++) {
        x = comm_tree_sum_leaf(&sum);
        for (int i = 0; i < FLOATS; i++)
            x[i] = v == 0 ? 1 : 1000; /* the second leaf's end is not there yet */
        if (v == 0)
            comm_tree_sum_push(&sum);
    }
    for (int i = 0; i < FIRST; i++)
        x[i] = 2;
    comm_tree_sum_push_until(&sum, FIRST);
    for (int i = 0; i < FLOATS; i++)
        assert_true(sum.vector[0][i] == (i < FIRST ? 3 : 1));
    for (int i = FIRST; i < FLOATS; i++)
        x[i] = 4;
    comm_tree_sum_push(&sum);
    for (int i = 0; i < FLOATS; i++)
        assert_true(sum.vector[0][i] == (i < FIRST ? 3 : 5));
    assert_int_equal(sum.held, 1);
    free(sum.vector[0]);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_cover_all_lanes_evenly),
        cmocka_unit_test(pieces_are_the_maximal_nodes_of_a_run),
        cmocka_unit_test(pieces_fit_for_the_widest_tree),
        cmocka_unit_test(sum_has_the_same_bits_however_lanes_are_shared),
        cmocka_unit_test(sum_needs_log2_buffers_where_a_share_is_a_power_of_two),
        cmocka_unit_test(sum_adds_long_vectors_to_the_last_element),
        cmocka_unit_test(portions_are_final_before_the_rest_is_written),
    };

    make_leaves();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
