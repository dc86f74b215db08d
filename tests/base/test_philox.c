/* tests/base/test_philox.c -- known answers, and that the streams are what base/philox.h promises.
 */
#include "base/philox.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void philox_block_gives_the_known_answers_of_random123(void **state)
{
    static const struct {
        const char *name;
        uint32_t counter[4], key[2], want[4];
    } cases[] = {
        {"zeros", {0}, {0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {"ones",
         {~0u, ~0u, ~0u, ~0u},
         {~0u, ~0u},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {"digits of pi",
         {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t got[4];

        philox_block(cases[i].counter, cases[i].key, got);
        if (memcmp(got, cases[i].want, sizeof got) != 0)
            fail_msg("%s: %08x %08x %08x %08x", cases[i].name, got[0], got[1], got[2], got[3]);
    }
}

static void philox_init_lays_out_key_and_counter_as_the_header_says(void **state)
{
    struct philox philox;

    (void)state;
    philox_init(&philox, 0x1122334455667788u, 0xabcd01020304u, 0x99aabbcc, PHILOX_AUGMENT);
    assert_int_equal(philox.key[0], 0x55667788);
    assert_int_equal(philox.key[1], 0x11223344);
    assert_int_equal(philox.counter[0], 0);
    assert_int_equal(philox.counter[1], 0x01020304);
    assert_int_equal(philox.counter[2], 0x99aabbcc);
    assert_int_equal(philox.counter[3], 0xabcd0003);
    assert_int_equal(philox.left, 0);
}

static void philox_u32_gives_the_blocks_in_order(void **state)
{
    const uint32_t key[2] = {7, 0};
    struct philox philox;

    (void)state;
    philox_init(&philox, 7, 5, 3, PHILOX_SYNTH);
    for (uint32_t block = 0; block < 3; block++) {
        const uint32_t counter[4] = {block, 5, 3, PHILOX_SYNTH};
        uint32_t want[4];

        philox_block(counter, key, want);
        for (int i = 0; i < 4; i++)
            assert_int_equal(philox_u32(&philox), want[i]);
    }
}

static void philox_uniform_stays_below_one_and_is_spread_evenly(void **state)
{
    struct philox philox;
    double sum = 0;

    (void)state;
    philox_init(&philox, 1, 2, 3, PHILOX_INIT);
    for (int i = 0; i < 100000; i++) {
        const float u = philox_uniform(&philox);

        assert_true(u >= 0 && u < 1);
        sum += (double)u;
    }
    assert_true(fabs(sum / 100000 - 0.5) < 0.005); /* 5 sigma */
}

static void philox_below_is_uniform_for_every_n(void **state)
{
    static const uint32_t limits[] = {1, 2, 3, 7, 10};
    struct philox philox;

    (void)state;
    philox_init(&philox, 9, 0, 0, PHILOX_ORDER);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        const uint32_t n = limits[i];
        int seen[10] = {0};

        for (uint32_t draw = 0; draw < 20000 * n; draw++) {
            const uint32_t x = philox_below(&philox, n);

            assert_true(x < n);
            seen[x]++;
        }
        for (uint32_t x = 0; x < n; x++)
            assert_true(abs(seen[x] - 20000) < 800); /* above 5 sigma */
    }
}

/* With n = 3 * 2^30 the plain high word gives every third number twice as often as the two beside
 * it. */
static void philox_below_rejects_when_n_does_not_divide_the_range(void **state)
{
    const uint32_t n = 3u << 30;
    int seen[3] = {0};
    struct philox philox;

    (void)state;
    philox_init(&philox, 4, 0, 0, PHILOX_ORDER);
    for (int draw = 0; draw < 60000; draw++)
        seen[philox_below(&philox, n) % 3]++;
    for (int i = 0; i < 3; i++)
        assert_true(abs(seen[i] - 20000) < 800);
}

static void philox_normal_has_mean_zero_and_variance_one(void **state)
{
    struct philox philox;
    double sum = 0, squares = 0, fourth = 0;
    const int count = 200000;

    (void)state;
    philox_init(&philox, 11, 1, 0, PHILOX_INIT);
    for (int i = 0; i < count; i++) {
        const double x = (double)philox_normal(&philox);

        assert_true(isfinite(x));
        sum += x;
        squares += x * x;
        fourth += x * x * x * x;
    }
    assert_true(fabs(sum / count) < 0.012);
    assert_true(fabs(squares / count - 1) < 0.016);
    assert_true(fabs(fourth / count - 3) < 0.11);
}

static void philox_streams_differ_in_every_part_of_their_name(void **state)
{
    static const struct {
        uint64_t seed, a, b;
        enum philox_purpose purpose;
    } names[] = {
        {1, 1, 1, PHILOX_INIT},
        {2, 1, 1, PHILOX_INIT},
        {1, 2, 1, PHILOX_INIT},
        {1, 1, 2, PHILOX_INIT},
        {1, 1, 1, PHILOX_ORDER},
        {1, 1ull << 32 | 1, 1, PHILOX_INIT},
        {1ull << 32 | 1, 1, 1, PHILOX_INIT},
    };
    const size_t count = sizeof names / sizeof names[0];
    uint32_t first[sizeof names / sizeof names[0]];

    (void)state;
    for (size_t i = 0; i < count; i++) {
        struct philox philox;

        philox_init(&philox, names[i].seed, names[i].a, names[i].b, names[i].purpose);
        first[i] = philox_u32(&philox);
        for (size_t k = 0; k < i; k++)
            assert_int_not_equal(first[i], first[k]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_block_gives_the_known_answers_of_random123),
        cmocka_unit_test(philox_init_lays_out_key_and_counter_as_the_header_says),
        cmocka_unit_test(philox_u32_gives_the_blocks_in_order),
        cmocka_unit_test(philox_uniform_stays_below_one_and_is_spread_evenly),
        cmocka_unit_test(philox_below_is_uniform_for_every_n),
        cmocka_unit_test(philox_below_rejects_when_n_does_not_divide_the_range),
        cmocka_unit_test(philox_normal_has_mean_zero_and_variance_one),
        cmocka_unit_test(philox_streams_differ_in_every_part_of_their_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
