/* tests/comm/test_exchange.c -- CTest runs it with 1, 2, 3, 4 and 7 ranks; every rank works out all
 * leaves and the whole sum by itself and compares bits. Asserts come last in a case: one rank's
 * assert must not leave the others waiting. */
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

#include "base/err.h"
#include "comm/comm.h"
#include "comm/exchange.h"
#include "comm/tree.h"

#define LANES_MAX 11

static struct comm comm;

/* Element i of leaf v: magnitudes from 2^-20 to 2^20 and both signs, so that another shape of the
 * sum has other bits. */
static float leaf_at(uint32_t v, size_t i)
{
    const uint32_t h = (uint32_t)((i * 40503u + v + 1) * 2654435761u);
    const int exponent = (int)((h >> 7) % 41) - 20;

    return ldexpf((float)(int32_t)(h ^ (h << 13)), exponent - 31);
}

static float naive_sum(uint32_t begin, uint32_t end, size_t i)
{
    uint32_t k = 1;

    if (end - begin == 1)
        return leaf_at(begin, i);
    while (2 * k < end - begin)
        k *= 2;
    return naive_sum(begin, begin + k, i) + naive_sum(begin + k, end, i);
}

/* One step of `leaves` leaves; returns how many elements have other bits than the reference. */
static size_t run_step(struct comm_exchange *exchange, struct comm_tree_sum *sum, uint32_t lanes,
                       uint32_t leaves, bool in_place)
{
    float *out =
        in_place && sum->vectors > 0 ? sum->vector[0] : malloc((sum->count + 1) * sizeof *out);
    struct err err = {0};
    size_t wrong = 0;

    comm_tree_sum_begin(sum, leaves, comm_tree_share(lanes, comm.rank, comm.size));
    while (sum->next < sum->own.end) {
        float *x = comm_tree_sum_leaf(sum);

        for (size_t i = 0; i < sum->count; i++)
            x[i] = leaf_at(sum->next, i);
        comm_tree_sum_push(sum);
    }
    wrong += comm_exchange_sum(exchange, sum, out, &err) != 0;
    for (size_t i = 0; i < sum->count; i++) {
        const float want = naive_sum(0, leaves, i);

        wrong += memcmp(&want, &out[i], sizeof want) != 0;
    }
    if (sum->vectors == 0 || out != sum->vector[0])
        free(out);
    return wrong;
}

static float *memory; /* the sum's vectors */

static void make_sum(struct comm_tree_sum *sum, uint32_t lanes, size_t count)
{
    const struct comm_leaves own = comm_tree_share(lanes, comm.rank, comm.size);
    const size_t vectors = (size_t)comm_tree_sum_buffers(lanes, own);

    memory = malloc((vectors * comm_tree_stride(count) + 1) * sizeof *memory);
    comm_tree_sum_init(sum, lanes, own, count, memory);
}

/* The full step, every shorter one, and the full one again, by turns in place and not. */
static size_t run_lanes(uint32_t lanes, size_t count, size_t bucket_bytes, uint32_t shortest)
{
    struct comm_tree_sum sum;
    struct comm_exchange *exchange;
    struct err err = {0};
    size_t wrong = 0;

    make_sum(&sum, lanes, count);
    exchange = comm_exchange_new(&comm, lanes, count, bucket_bytes, &err);
    if (exchange == NULL)
        return 1;
    for (uint32_t leaves = lanes; leaves >= shortest; leaves--)
        wrong += run_step(exchange, &sum, lanes, leaves, leaves % 2);
    wrong += run_step(exchange, &sum, lanes, lanes, true);
    comm_exchange_free(exchange);
    free(memory);
    if (wrong > 0)
        fprintf(stderr, "rank %d of %d: %u lanes, %zu numbers, buckets of %zu bytes: %zu wrong\n",
                comm.rank, comm.size, lanes, count, bucket_bytes, wrong);
    return wrong;
}

static void sum_has_the_references_bits_for_every_step(void **state)
{
    static const size_t counts[] = {0, 1, 6, 7, 1000};
    size_t wrong = 0;

    (void)state;
    for (uint32_t lanes = 1; lanes <= LANES_MAX; lanes++) {
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
            wrong += run_lanes(lanes, counts[c], 1024, 1);
    }
    assert_int_equal(wrong, 0);
}

static void sum_has_the_references_bits_for_every_bucket_size(void **state)
{
    static const struct {
        size_t count, bucket_bytes;
    } cases[] = {
        {7, 4},        {100, 4},        {1000, 12},         {1000, 100},      {1000, 4096},
        {20011, 4000}, {100003, 65536}, {100003, 1u << 20}, {100003, 400012}, {270000, 1u << 20},
    };
    static const uint32_t lanes[] = {4, 11}; /* below and above 7 ranks */
    size_t wrong = 0;

    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        for (size_t v = 0; v < sizeof lanes / sizeof lanes[0]; v++)
            wrong += run_lanes(lanes[v], cases[c].count, cases[c].bucket_bytes, lanes[v]);
    }
    assert_int_equal(wrong, 0);
}

static void sum_of_fewer_numbers_than_the_scratch_is_for(void **state)
{
    struct comm_exchange *exchange;
    struct comm_tree_sum sum;
    struct err err = {0};
    size_t wrong = 0;

    (void)state;
    make_sum(&sum, 5, 777);
    exchange = comm_exchange_new(&comm, 5, 5000, 4096, &err);
    wrong += exchange == NULL || run_step(exchange, &sum, 5, 5, true) != 0;
    comm_exchange_free(exchange);
    free(memory);
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
        cmocka_unit_test(sum_has_the_references_bits_for_every_step),
        cmocka_unit_test(sum_has_the_references_bits_for_every_bucket_size),
        cmocka_unit_test(sum_of_fewer_numbers_than_the_scratch_is_for),
        cmocka_unit_test(free_accepts_null),
    };
    struct err err = {0};
    int failed;

    if (comm_open(&comm, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_close(&comm);
    return failed;
}
