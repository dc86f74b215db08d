/* tests/comm/test_pieces.c -- plays every host's and every owner's merges on numbers and compares
 * bits with the canonical tree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comm/layout.h"
#include "comm/pieces.h"

#define LANES_MAX 21
#define RANKS_MAX 7

/* Magnitudes from 1e-3 to 1e3: another shape of the sum has other bits. */
static float leaf_at(uint32_t v)
{
    static const float scale[] = {1e-3f, 1.f, 1e3f};

    return ((float)(v * 7919u % 1000u) - 313.7f) * scale[v % 3];
}

static float tree_sum(uint32_t begin, uint32_t end)
{
    uint32_t k = 1;

    if (end - begin == 1)
        return leaf_at(begin);
    while (2 * k < end - begin)
        k *= 2;
    return tree_sum(begin, begin + k) + tree_sum(begin + k, end);
}

/* The parts of `host`, numbered as comm_pieces says, behind the `count` there are. */
static int play_host(struct comm_pieces *pieces, const struct comm_layout *layout, int host,
                     uint32_t leaves, float *parts, int count)
{
    float local[LANES_MAX];

    pieces->leaves = 0; /* of another host than last time */
    comm_pieces_plan(pieces, layout, host, leaves);
    for (int i = 0; i < pieces->local_count; i++) {
        assert_int_equal(layout->host_of[pieces->local[i].of], host);
        local[i] = tree_sum(pieces->local[i].leaves.begin, pieces->local[i].leaves.end);
    }
    for (int m = 0; m < pieces->local_merge_count; m++)
        local[pieces->local_merges[m].to] += local[pieces->local_merges[m].from];
    for (int i = 0; i < pieces->local_part_count; i++) {
        assert_int_equal(pieces->parts[count + i].of, host);
        assert_int_equal(pieces->parts[count + i].number, i);
        parts[count + i] = local[pieces->local_parts[i]];
    }
    return count + pieces->local_part_count;
}

static float play_step(struct comm_pieces *pieces, const struct comm_layout *layout,
                       uint32_t leaves)
{
    float parts[LANES_MAX];
    int count = 0;

    for (int host = 0; host < layout->hosts; host++)
        count = play_host(pieces, layout, host, leaves, parts, count);
    assert_int_equal(count, pieces->part_count);
    assert_true(count <= comm_pieces_parts_max(layout, pieces->lanes, pieces->joined));
    for (int m = 0; m < pieces->merge_count; m++)
        parts[pieces->merges[m].to] += parts[pieces->merges[m].from];
    return parts[0];
}

static void check_lanes(const struct comm_layout *layout, uint32_t lanes, bool joined)
{
    struct comm_pieces pieces;

    comm_pieces_init(&pieces, layout, lanes, joined);
    for (uint32_t leaves = 1; leaves <= lanes; leaves++) {
        const float want = tree_sum(0, leaves), got = play_step(&pieces, layout, leaves);

        if (!joined && memcmp(&want, &got, sizeof want) != 0)
            fail_msg("%u leaves of %u on %d ranks, %d hosts: %a, not %a", leaves, lanes,
                     layout->ranks, layout->hosts, got, want);
        if (joined) /* another shape, but every leaf once */
            assert_true(got - want < 1 && want - got < 1);
    }
    comm_pieces_release(&pieces);
}

static void each_placement(bool joined)
{
    for (int ranks = 1; ranks <= RANKS_MAX; ranks++) {
        for (unsigned borders = 0; borders < 1u << (ranks - 1); borders++) {
            struct comm_layout layout;
            int host_of[RANKS_MAX] = {0};

            for (int rank = 1; rank < ranks; rank++)
                host_of[rank] = host_of[rank - 1] + ((borders >> (rank - 1)) & 1);
            comm_layout_init(&layout, ranks, host_of);
            for (uint32_t lanes = 1; lanes <= LANES_MAX; lanes++)
                check_lanes(&layout, lanes, joined);
            comm_layout_release(&layout);
        }
    }
}

static void merges_make_the_canonical_sum_on_any_hosts(void **state)
{
    (void)state;
    each_placement(false);
}

static void joined_parts_hold_every_leaf_once_and_are_one_a_host(void **state)
{
    static const int host_of[] = {0, 0, 1, 1, 1};
    struct comm_layout layout;

    (void)state;
    each_placement(true);
    comm_layout_init(&layout, 5, host_of);
    assert_int_equal(comm_pieces_parts_max(&layout, 13, true), 2);
    assert_true(comm_pieces_parts_max(&layout, 13, false) > 2);
    comm_layout_release(&layout);
}

static void release_accepts_all_zero(void **state)
{
    struct comm_pieces pieces = {0};

    (void)state;
    comm_pieces_release(&pieces);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_make_the_canonical_sum_on_any_hosts),
        cmocka_unit_test(joined_parts_hold_every_leaf_once_and_are_one_a_host),
        cmocka_unit_test(release_accepts_all_zero),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
