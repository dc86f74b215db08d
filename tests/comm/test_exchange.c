/* tests/comm/test_exchange.c -- CTest runs it with 1 to 8 ranks, which pretend to be of several
 * hosts. Every rank works out all leaves and the whole sum by itself and compares bits. Asserts
 * come last: one rank's must not leave the others waiting. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "comm/comm.h"
#include "comm/exchange.h"
#include "comm/tree.h"

#define LANES_MAX 13
#define RANKS_MAX 16

static struct comm comm;
static bool no_segments;    /* as on a host that allows no System V memory */
static unsigned dice_state; /* each rank's own: when gradients are ready is a matter of chance */

int shmget(key_t key, size_t bytes, int flags)
{
    if (!no_segments)
        return (int)syscall(SYS_shmget, key, bytes, flags);
    errno = ENOSPC;
    return -1;
}

static unsigned throw_dice(unsigned *state, unsigned sides)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % sides;
}

static unsigned dice(unsigned sides)
{
    return throw_dice(&dice_state, sides);
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

/* The last leaf comes in portions of any size; sums are read back to front, as forward does. */
static size_t run_step(struct comm_exchange *exchange, uint32_t lanes, size_t count,
                       uint32_t leaves, bool gives_up)
{
    static uint32_t step;
    const struct comm_leaves own = comm_tree_share(lanes, comm.rank, comm.size);
    struct err err = {0};
    int answers[RANKS_MAX], mine = comm.rank * 7;
    uint32_t next = own.begin;
    size_t wrong = 0;
    float *x;

    step++;
    wrong += comm_exchange_begin(exchange, leaves, 30, &err) != 0;
    for (; (x = comm_exchange_leaf(exchange)) != NULL && !(gives_up && dice(3) == 0); next++) {
        size_t ready = 0;

        for (size_t i = 0; i < count; i++)
            x[i] = leaf_at(next, i, step);
        while (ready < count) {
            ready += 1 + dice((unsigned)count);
            ready = ready < count ? ready : count;
            comm_exchange_ready(exchange, ready);
            if (dice(50) == 0)
                clock_sleep_s(1e-3);
        }
        comm_exchange_written(exchange);
    }
    comm_exchange_give_up(exchange);
    wrong += comm_exchange_gather(exchange, &mine, sizeof mine, answers, &err) != 0;
    for (int rank = 0; rank < comm.size; rank++)
        wrong += answers[rank] != rank * 7;
    for (size_t end = count; end > 0 && !gives_up;) {
        const size_t begin = end - 1 - dice((unsigned)end);

        wrong += comm_exchange_wait(exchange, begin, end, &err) != 0;
        for (size_t i = begin; i < end; i++) {
            const float want = naive_sum(0, leaves, i, step);

            wrong += memcmp(&want, comm_exchange_sum(exchange) + i, sizeof want) != 0;
        }
        end = begin;
    }
    if (dice(2) == 0)
        wrong += comm_exchange_settle(exchange, &err) != 0;
    return wrong;
}

/* The full step, shorter ones, one that some rank gives up, and the full one again. */
static size_t run_lanes(uint32_t lanes, size_t count, size_t bucket_floats, uint32_t shortest)
{
    const struct comm_exchange_options options = {
        .lanes = lanes, .count = count, .bucket_bytes = bucket_floats * sizeof(float)};
    const int host_of_last = comm.host_of[comm.size - 1];
    struct err err = {0};
    struct comm_exchange *const exchange = comm_exchange_new(&comm, &options, &err);
    size_t wrong = 0;

    if (exchange == NULL)
        comm_abort(&comm, 1);
    wrong += comm_exchange_shares(exchange) != (!no_segments || comm.size == 1);
    wrong += comm.host_of[comm.size - 1] != host_of_last;
    for (uint32_t leaves = lanes; leaves >= shortest; leaves--)
        wrong += run_step(exchange, lanes, count, leaves, false);
    wrong += run_step(exchange, lanes, count, lanes, true);
    wrong += run_step(exchange, lanes, count, lanes, false);
    wrong += comm_exchange_settle(exchange, &err) != 0;
    comm_barrier(&comm, &err); /* the caller's MPI, between two steps */
    comm_exchange_free(exchange);
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

/* Each rank exchanges as a host of its own then, and comm says as before who is of which host. */
static void sums_have_the_references_bits_where_no_memory_is_shared(void **state)
{
    size_t wrong = 0;

    (void)state;
    pretend_hosts(comm.size);
    no_segments = true;
    wrong += run_lanes(LANES_MAX, 1000, 256, LANES_MAX - 1);
    no_segments = false;
    assert_int_equal(wrong, 0);
}

/* Lanes, numbers, buckets and hosts by chance, the same for all ranks. */
static void sums_have_the_references_bits_whatever_is_drawn(void **state)
{
    unsigned draws = 20261122u;
    size_t wrong = 0;

    (void)state;
    for (int i = 0; i < 24; i++) {
        const uint32_t lanes = 1 + throw_dice(&draws, LANES_MAX);
        const size_t count = throw_dice(&draws, i % 4 == 0 ? 100004 : 5000);
        const size_t most = 1 + throw_dice(&draws, (unsigned)count + 100);

        pretend_hosts(1 + (int)throw_dice(&draws, (unsigned)comm.size));
        wrong += run_lanes(lanes, count, most < count / 200 ? count / 200 : most, lanes);
    }
    assert_int_equal(wrong, 0);
}

/* Buckets of 68,751 numbers, and behind them of 65,536, 32,768 and 16,384. */
static void sums_have_the_references_bits_with_small_last_buckets(void **state)
{
    size_t wrong = 0;

    (void)state;
    for (int ranks_of_host = 1; ranks_of_host <= 2; ranks_of_host++) {
        pretend_hosts(ranks_of_host);
        wrong += run_lanes(4, 1100007, 1u << 20, 4);
    }
    assert_int_equal(wrong, 0);
}

/* --- bf16 --- */

#define BF16_COUNT 1000
#define BF16_EXACT 37
#define BF16_STEPS 40

/* Gradients of many steps, the same in each, so that what rounding loses would add up. */
static float gradient_at(uint32_t leaf, size_t i)
{
    return (float)(1 + leaf) * (1.0f + (float)i / 977.0f);
}

/* Adds up the sums of all steps, and says whether they are those of the first rank. */
static size_t add_steps(struct comm_exchange *exchange, uint32_t lanes, double *total)
{
    static float firsts[BF16_COUNT];
    const struct comm_leaves own = comm_tree_share(lanes, comm.rank, comm.size);
    int answers[RANKS_MAX], mine = 0;
    struct err err = {0};
    size_t wrong = 0;
    float *x;

    for (int step = 0; step < BF16_STEPS; step++) {
        wrong += comm_exchange_begin(exchange, lanes, 30, &err) != 0;
        for (uint32_t leaf = own.begin; (x = comm_exchange_leaf(exchange)) != NULL; leaf++) {
            for (size_t i = 0; i < BF16_COUNT; i++)
                x[i] = gradient_at(leaf, i);
            comm_exchange_written(exchange);
        }
        wrong += comm_exchange_gather(exchange, &mine, sizeof mine, answers, &err) != 0 ||
                 comm_exchange_settle(exchange, &err) != 0;
        for (size_t i = 0; i < BF16_COUNT; i++)
            total[i] += comm_exchange_sum(exchange)[i];
        memcpy(firsts, comm_exchange_sum(exchange), sizeof firsts);
        wrong += comm_broadcast(&comm, firsts, sizeof firsts, 0, &err) != 0;
        wrong += memcmp(firsts, comm_exchange_sum(exchange), sizeof firsts) != 0;
    }
    return wrong;
}

/* What is true of the sums of all steps: the prefix is as of floats, and the rest is right to what
 * one rounding loses, though each step loses as much. */
static size_t check_totals(uint32_t lanes, bool rounded, const double *total)
{
    size_t wrong = 0, inexact = 0;

    for (size_t i = 0; i < BF16_COUNT; i++) {
        double want = 0;

        for (uint32_t leaf = 0; leaf < lanes; leaf++)
            want += gradient_at(leaf, i);
        inexact += fabs(total[i] - BF16_STEPS * want) > 1e-6 * BF16_STEPS * want;
        wrong += fabs(total[i] - BF16_STEPS * want) >
                 (i >= BF16_EXACT && rounded ? 0x1p-6 : 1e-6 * BF16_STEPS) * want;
    }
    return wrong + (rounded ? inexact < BF16_COUNT / 2 : inexact > 0);
}

static void bf16_sums_are_alike_on_all_ranks_and_lose_nothing_over_time(void **state)
{
    size_t wrong = 0;

    (void)state;
    for (int ranks_of_host = 1; ranks_of_host <= comm.size; ranks_of_host++) {
        const uint32_t lanes = (uint32_t)comm.size + 2;
        const struct comm_exchange_options options = {.lanes = lanes,
                                                      .count = BF16_COUNT,
                                                      .bucket_bytes = 400,
                                                      .wire = COMM_WIRE_BF16,
                                                      .exact = BF16_EXACT};
        double totals[2][BF16_COUNT] = {{0}};
        struct err err = {0};

        pretend_hosts(ranks_of_host);
        for (int run = 0; run < 2; run++) { /* the second has the bits of the first */
            struct comm_exchange *const exchange = comm_exchange_new(&comm, &options, &err);

            if (exchange == NULL)
                comm_abort(&comm, 1);
            wrong += add_steps(exchange, lanes, totals[run]);
            comm_exchange_free(exchange);
        }
        wrong += check_totals(lanes, ranks_of_host < comm.size, totals[0]);
        wrong += memcmp(totals[0], totals[1], sizeof totals[0]) != 0;
    }
    assert_int_equal(wrong, 0);
}

/* A rank that is at something else for longer than the deadline lives all the same. */
static void a_rank_that_is_elsewhere_is_not_given_up(void **state)
{
    const struct comm_exchange_options options = {
        .lanes = (uint32_t)comm.size, .count = 100, .bucket_bytes = 64};
    struct err err = {0};
    struct comm_exchange *exchange;
    int answers[RANKS_MAX] = {0}, mine = 1, wrong = 0;

    (void)state;
    pretend_hosts(1);
    exchange = comm_exchange_new(&comm, &options, &err);
    for (int step = 0; step < 2 && exchange != NULL; step++) {
        if (step == 1 && comm.rank == 0) {
            wrong += comm_exchange_settle(exchange, &err) != 0;
            comm_exchange_elsewhere(exchange, true);
            clock_sleep_s(1.5);
            comm_exchange_elsewhere(exchange, false);
        }
        wrong += comm_exchange_begin(exchange, (uint32_t)comm.size, 0.7, &err) != 0;
        comm_exchange_give_up(exchange);
        wrong += comm_exchange_gather(exchange, &mine, sizeof mine, answers, &err) != 0;
    }
    wrong += exchange == NULL || comm_exchange_settle(exchange, &err) != 0;
    comm_barrier(&comm, &err);
    comm_exchange_free(exchange);
    if (wrong > 0)
        fprintf(stderr, "rank %d: %s\n", comm.rank, err.msg);
    assert_int_equal(wrong, 0);
}

static void free_accepts_null(void **state)
{
    (void)state;
    comm_exchange_free(NULL);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_have_the_references_bits_for_every_step),
        cmocka_unit_test(sums_have_the_references_bits_for_every_bucket_size),
        cmocka_unit_test(sums_have_the_references_bits_where_no_memory_is_shared),
        cmocka_unit_test(sums_have_the_references_bits_whatever_is_drawn),
        cmocka_unit_test(sums_have_the_references_bits_with_small_last_buckets),
        cmocka_unit_test(bf16_sums_are_alike_on_all_ranks_and_lose_nothing_over_time),
        cmocka_unit_test(a_rank_that_is_elsewhere_is_not_given_up),
        cmocka_unit_test(free_accepts_null),
    };
    struct err err = {0};
    int failed;

    if (comm_open(&comm, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    dice_state = 12345u + (unsigned)comm.rank * 777u;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_close(&comm);
    return failed;
}
