#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "comm/wire.h"

static float float_of(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint16_t round_one(float x, float *lost)
{
    uint16_t half;

    comm_wire_round(&half, &x, lost, 1);
    return half;
}

static float value_of(uint16_t half)
{
    float x;

    comm_wire_widen(&x, &half, 1);
    return x;
}

/* The nearest of the two neighbours, found by trying both; of equals the even one. */
static uint16_t nearest(float x)
{
    uint32_t bits;
    uint16_t low, high;
    double to_low, to_high;

    memcpy(&bits, &x, sizeof bits);
    low = (uint16_t)(bits >> 16);
    high = (uint16_t)(low + 1);
    to_low = fabs((double)x - (double)value_of(low));
    to_high = isinf(value_of(high)) ? ldexp(1, 128) - fabs((double)x)
                                    : fabs((double)value_of(high) - (double)x);
    if (to_low == to_high)
        return low % 2 == 0 ? low : high;
    return to_low < to_high ? low : high;
}

static void rounding_is_to_the_nearest_and_ties_to_even(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2000000; i++) {
        const uint32_t tie = i % 3 == 0 ? 0x8000u : i * 2654435761u >> 16;
        const float x = float_of((i * 40503u << 16) | (tie & 0xffffu));
        float lost = 0;

        if (isnan(x) || isinf(x))
            continue;
        assert_int_equal(round_one(x, &lost), nearest(x));
        if (!isinf(value_of(nearest(x))))
            assert_true(lost == x - value_of(nearest(x)));
    }
}

static void what_is_no_number_stays_none(void **state)
{
    static const uint32_t none[] = {0x7f800001u, 0x7fffffffu, 0xff800001u, 0xffffffffu,
                                    0x7fc00000u};
    float lost = 0;

    (void)state;
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        lost = 0;
        assert_true(isnan(value_of(round_one(float_of(none[i]), &lost))));
    }
    lost = 0;
    assert_true(isinf(value_of(round_one(INFINITY, &lost))));
    lost = 0;
    assert_true(isinf(value_of(round_one(-FLT_MAX, &lost))));
}

static void what_was_lost_is_sent_later(void **state)
{
    const float x = 1.001f; /* between 1 and 1 + 2^-7 */
    double sent = 0;
    float lost = 0;

    (void)state;
    for (int step = 1; step <= 10000; step++) {
        sent += value_of(round_one(x, &lost));
        assert_true(fabs(sent + lost - step * (double)x) < 1e-7 * step);
        assert_true(fabsf(lost) <= 0x1p-8f);
    }
}

static void every_bf16_is_itself(void **state)
{
    (void)state;
    for (uint32_t half = 0; half < 65536; half++) {
        float lost = 0;
        const float x = value_of((uint16_t)half);

        if (isnan(x) || half == 0x8000) /* -0 and nothing lost is +0 */
            continue;
        assert_int_equal(round_one(x, &lost), half);
        assert_true(isinf(x) || lost == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounding_is_to_the_nearest_and_ties_to_even),
        cmocka_unit_test(what_is_no_number_stays_none),
        cmocka_unit_test(what_was_lost_is_sent_later),
        cmocka_unit_test(every_bf16_is_itself),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
