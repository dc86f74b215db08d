/* tests/comm/test_traffic.c -- CTest runs it with 1 to 8 ranks, which pretend to be of several
 * hosts. Every rank works out all leaves and the whole sum by itself and compares bits. Asserts
 * come last: one rank's must not leave the others waiting. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "comm/comm.h"
#include "comm/post.h"
#include "comm/shared.h"
#include "comm/traffic.h"

#define LANES_MAX  13
#define RANKS_MAX  16
#define PATIENCE_S 60.0

static struct comm comm;
static unsigned dice_state; /* each rank's own: when buckets are ready is a matter of chance */

static unsigned dice(unsigned sides)
{
    dice_state = dice_state * 1664525u + 1013904223u;
    return (dice_state >> 16) % sides;
}

/* Element i of leaf v: magnitudes from 2^-20 to 2^20 and both signs, so that another shape of the
 * sum has other bits. */
static float leaf_at(uint32_t v, size_t i, uint32_t step)
{
    const uint32_t h = (uint32_t)((i * 40503u + v + 1 + step * 977u) * 2654435761u);
    const int exponent = (int)((h >> 7) % 41) - 20;

    return ldexpf((float)(int32_t)(h ^ (h << 13)), exponent - 31);
}

static float naive_sum(uint32_t begin, uint32_t end, size_t i, uint32_t step)
{
    uint32_t k = 1;

    if (end - begin == 1)
        return leaf_at(begin, i, step);
    while (2 * k < end - begin)
        k *= 2;
    return naive_sum(begin, begin + k, i, step) + naive_sum(begin + k, end, i, step);
}

/* A rank's share of a host's memory: its board, its partial sums, and on a host's first rank the
 * sum where there are several ranks or no partial sum. */
struct stage {
    struct comm_shared shared;
    struct comm_post post;
    struct comm_traffic traffic;
    struct comm_board *boards[RANKS_MAX];
    float **vectors[RANKS_MAX];
    struct comm_tree_sum tree; /* this rank's */
    float *sum;
    uint32_t lanes, step;
};

static int slots;             /* of comm_traffic_options */
static size_t window;         /* the same */
static unsigned portions = 1; /* in which a vector is computed, at least */

static size_t board_room(int buckets)
{
    return (comm_board_bytes(buckets) + 63) / 64 * 64;
}

static size_t part_bytes(uint32_t lanes, size_t count, int buckets)
{
    return board_room(buckets) +
           (LANES_MAX + 1) * comm_tree_stride(count) * sizeof(float) * (lanes > 0);
}

static int set_stage(struct stage *stage, uint32_t lanes, size_t count, size_t bucket_floats)
{
    const struct comm_buckets cut = {
        .floats = count, .most = bucket_floats, .last = (bucket_floats + 7) / 8};
    const int buckets = comm_buckets_count(&cut);
    const size_t stride = comm_tree_stride(count), bytes = part_bytes(lanes, count, buckets);
    struct err err = {0};

    *stage = (struct stage){.lanes = lanes};
    if (comm_shared_open(&comm, bytes, bytes, &stage->shared, &err) < 0 || !stage->shared.together)
        return -1;
    for (int i = 0; i < stage->shared.count; i++) {
        const int rank = stage->shared.first + i;
        const struct comm_leaves own = comm_tree_share(lanes, rank, comm.size);
        unsigned char *const part = comm_shared_part(&stage->shared, rank);
        float *const memory = (float *)(void *)(part + board_room(buckets));
        struct comm_tree_sum tree;

        comm_tree_sum_init(&tree, lanes, own, count, memory);
        stage->boards[i] = (void *)part;
        stage->vectors[i] = calloc(LANES_MAX + 1, sizeof(float *));
        memcpy(stage->vectors[i], tree.vector, LANES_MAX * sizeof(float *));
        if (i == 0)
            stage->sum = stage->shared.count == 1 ? memory : memory + LANES_MAX * stride;
        if (rank == comm.rank)
            stage->tree = tree;
    }
    comm_post_init(&stage->post, &comm);
    return comm_traffic_init(
        &stage->traffic, &comm, &stage->post,
        &(struct comm_traffic_options){.lanes = lanes,
                                       .buckets = cut,
                                       .group_of = stage->shared.group_of,
                                       .boards = stage->boards,
                                       .vectors = (float *const *const *)stage->vectors,
                                       .sum = stage->sum,
                                       .slots = slots,
                                       .window = window},
        &err);
}

static void strike_stage(struct stage *stage)
{
    struct err err = {0};

    for (int i = 0; i < stage->shared.count; i++)
        free(stage->vectors[i]);
    comm_traffic_release(&stage->traffic);
    comm_post_release(&stage->post);
    comm_barrier(&comm, &err); /* nobody reads this rank's part any more */
    comm_shared_close(&stage->shared);
}

static int drive(struct stage *stage)
{
    struct err err = {0};
    bool moved = false;
    int finished = 0;

    return comm_post_test(&stage->post, &finished, &err) < 0 ||
                   comm_traffic_advance(&stage->traffic, &moved, &err) < 0
               ? -1
               : 0;
}

/* The last leaf comes in portions of any size, with traffic in between. */
static int compute(struct stage *stage)
{
    struct comm_tree_sum *const tree = &stage->tree;
    size_t ready = 0;

    while (tree->next < tree->own.end) {
        float *const x = comm_tree_sum_leaf(tree);

        for (size_t i = 0; i < tree->count; i++)
            x[i] = leaf_at(tree->next, i, stage->step);
        while (tree->next + 1 == tree->own.end && ready < tree->count) {
            ready += 1 + dice((unsigned)tree->count / portions);
            ready = ready < tree->count ? ready : tree->count;
            comm_tree_sum_push_until(tree, ready);
            comm_traffic_ready(&stage->traffic, ready);
            for (unsigned polls = dice(4); polls > 0; polls--)
                if (drive(stage) < 0)
                    return -1;
        }
        comm_tree_sum_push(tree);
    }
    comm_traffic_ready(&stage->traffic, tree->count);
    return 0;
}

static bool is_settled(const struct stage *stage)
{
    for (int bucket = 0; bucket < stage->traffic.buckets; bucket++)
        if (!comm_traffic_is_there(&stage->traffic, bucket))
            return false;
    return comm_traffic_is_through(&stage->traffic);
}

/* One step of `leaves` leaves; returns how many elements have other bits than the reference. */
static size_t run_step(struct stage *stage, uint32_t leaves)
{
    const double late = clock_now_s() + PATIENCE_S;
    struct err err = {0};
    size_t wrong = 0;

    stage->step++;
    comm_tree_sum_begin(&stage->tree, leaves, comm_tree_share(stage->lanes, comm.rank, comm.size));
    wrong += comm_traffic_begin(&stage->traffic, leaves, &err) != 0;
    wrong += compute(stage) != 0;
    while (wrong == 0 && !is_settled(stage)) {
        wrong += drive(stage) != 0;
        if (clock_now_s() > late) {
            fprintf(stderr, "rank %d: step %u hangs, %d of %d buckets through\n", comm.rank,
                    stage->step, stage->traffic.through, stage->traffic.buckets);
            comm_abort(&comm, 1);
        }
    }
    for (size_t i = 0; i < stage->tree.count; i++) {
        const float want = naive_sum(0, leaves, i, stage->step);

        wrong += memcmp(&want, &stage->sum[i], sizeof want) != 0;
    }
    return wrong;
}

/* The full step, shorter ones, and the full one again. */
static size_t run_lanes(uint32_t lanes, size_t count, size_t bucket_floats, uint32_t shortest)
{
    static struct stage stage;
    size_t wrong = 0;

    if (set_stage(&stage, lanes, count, bucket_floats) < 0)
        comm_abort(&comm, 1);
    for (uint32_t leaves = lanes; leaves >= shortest; leaves--)
        wrong += run_step(&stage, leaves);
    wrong += run_step(&stage, lanes);
    strike_stage(&stage);
    if (wrong > 0)
        fprintf(stderr,
                "rank %d of %d, %d hosts: %u lanes, %zu numbers, buckets of %zu: %zu wrong\n",
                comm.rank, comm.size, comm.host_of[comm.size - 1] + 1, lanes, count, bucket_floats,
                wrong);
    return wrong;
}

static void pretend_hosts(int ranks_of_host)
{
    for (int rank = 0; rank < comm.size; rank++)
        comm.host_of[rank] = rank / ranks_of_host;
}

static void sums_have_the_references_bits_for_every_step(void **state)
{
    static const size_t counts[] = {0, 1, 6, 7, 1000};
    size_t wrong = 0;

    (void)state;
    for (int ranks_of_host = 1; ranks_of_host <= comm.size; ranks_of_host++) {
        pretend_hosts(ranks_of_host);
        for (uint32_t lanes = 1; lanes <= LANES_MAX; lanes += ranks_of_host > 2 ? 3 : 1)
            for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
                wrong += run_lanes(lanes, counts[c], 256, lanes > 8 ? lanes - 3 : 1);
    }
    assert_int_equal(wrong, 0);
}

static void sums_have_the_references_bits_for_every_bucket_size(void **state)
{
    static const struct {
        size_t count, bucket_floats;
    } cases[] = {
        {7, 1}, {100, 1}, {1000, 3}, {1000, 1024}, {20011, 1000}, {100003, 16384}, {100003, 100003},
    };
    static const uint32_t lanes[] = {4, 11}; /* below and above 8 ranks */
    size_t wrong = 0;

    (void)state;
    for (int ranks_of_host = 1; ranks_of_host <= 3; ranks_of_host++) {
        pretend_hosts(ranks_of_host);
        for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
            for (size_t v = 0; v < sizeof lanes / sizeof lanes[0]; v++)
                wrong += run_lanes(lanes[v], cases[c].count, cases[c].bucket_floats, lanes[v]);
    }
    assert_int_equal(wrong, 0);
}

/* One segment for a peer at a time, and far fewer slots than buckets: what is urgent always comes
 * before what others wait for. */
static void narrow_windows_and_few_slots_lock_nobody(void **state)
{
    size_t wrong = 0;

    (void)state;
    window = 1;
    portions = 100;
    for (int ranks_of_host = 1; ranks_of_host <= 2; ranks_of_host++) {
        pretend_hosts(ranks_of_host);
        for (slots = 1; slots <= 3; slots++)
            for (uint32_t lanes = 4; lanes <= 11; lanes += 7)
                wrong += run_lanes(lanes, 100003, 1000, lanes);
    }
    window = 0;
    slots = 0;
    portions = 1;
    assert_int_equal(wrong, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_have_the_references_bits_for_every_step),
        cmocka_unit_test(sums_have_the_references_bits_for_every_bucket_size),
        cmocka_unit_test(narrow_windows_and_few_slots_lock_nobody),
    };
    struct err err = {0};
    int failed;

    /* MPI asks the receiver before nearly all messages: nobody may rely on its buffers. */
    setenv("OMPI_MCA_btl_vader_eager_limit", "256", 1);
    if (comm_open(&comm, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    dice_state = 12345u + (unsigned)comm.rank * 777u;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_close(&comm);
    return failed;
}
