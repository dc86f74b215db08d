/* tests/nn/test_deal.c -- rows dealt into groups, panels and windows: every float where it belongs,
 * and nothing else touched. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "trainer/nn/conv/deal.h"
#include "trainer/nn/kernel/kernels.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define GROUP        NN_TILE_ROWS

static const size_t pixel_counts[] = {1, 2, 3, 15, 16, 17, 33};
static const size_t counts[] = {1, 5, 6, 7, 11, 12, 21, 64, 83};

/* Exactly `floats` on the heap, which the sanitizers watch: in[i] = i + 1. */
static float *rows_new(size_t floats)
{
    float *in = malloc(floats * sizeof(*in));

    assert_non_null(in);
    for (size_t i = 0; i < floats; i++)
        in[i] = (float)(i + 1);
    return in;
}

static float *blank_new(size_t floats)
{
    float *out = malloc(floats * sizeof(*out));

    assert_non_null(out);
    for (size_t i = 0; i < floats; i++)
        out[i] = NAN;
    return out;
}

/* The i-th float of `lines` runs of `count` of pixel p; 0 behind them. */
static float expected(size_t p, size_t i, size_t step, size_t line, size_t lines, size_t count)
{
    return i < lines * count ? (float)(p * step + i / count * line + i % count + 1) : 0;
}

/* Groups and windows: the columns of `out`, with one float between them that is nobody's. */
static void check_groups(const float *out, size_t distance, size_t pixels, size_t step, size_t line,
                         size_t lines, size_t count)
{
    const size_t groups = (lines * count + GROUP - 1) / GROUP;

    for (size_t g = 0; g < groups; g++) {
        for (size_t p = 0; p < pixels; p++)
            for (size_t i = 0; i < GROUP; i++)
                if (out[g * distance + p * GROUP + i] !=
                    expected(p, g * GROUP + i, step, line, lines, count))
                    fail_msg("group %zu, pixel %zu, float %zu is %g (step %zu, %zu runs of %zu)", g,
                             p, i, out[g * distance + p * GROUP + i], step, lines, count);
        assert_true(isnan(out[g * distance + pixels * GROUP]));
    }
}

static void groups_hold_every_channel_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(counts) * COUNT(pixel_counts); i++) {
        const size_t count = counts[i % COUNT(counts)], pixels = pixel_counts[i / COUNT(counts)];

        for (size_t gap = 0; gap < 20; gap += 7) {
            const size_t step = count + gap, distance = pixels * GROUP + 1;
            float *in = rows_new((pixels - 1) * step + count);
            float *out = blank_new((count + GROUP - 1) / GROUP * distance);

            nn_deal_groups(in, step, pixels, count, out, distance);
            check_groups(out, distance, pixels, step, count, 1, count);
            free(out);
            free(in);
        }
    }
}

/* Windows overlap: a step is smaller than a line of a window. */
static void windows_hold_their_lines(void **state)
{
    static const size_t steps[] = {1, 3, 5, 6, 7, 16};

    (void)state;
    for (size_t i = 0; i < COUNT(counts) * COUNT(pixel_counts) * COUNT(steps); i++) {
        const size_t count = counts[i % COUNT(counts)];
        const size_t pixels = pixel_counts[i / COUNT(counts) % COUNT(pixel_counts)];
        const size_t step = steps[i / COUNT(counts) / COUNT(pixel_counts)];
        const size_t line = pixels * step + count, distance = pixels * GROUP + 1;

        for (size_t lines = 1; lines < 8; lines += 3) {
            float *in = rows_new((lines - 1) * line + (pixels - 1) * step + count);
            float *out = blank_new((lines * count + GROUP - 1) / GROUP * distance);

            nn_deal_windows(in, step, pixels, line, lines, count, out, distance);
            check_groups(out, distance, pixels, step, line, lines, count);
            free(out);
            free(in);
        }
    }
}

static void panels_hold_every_channel_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(counts) * COUNT(pixel_counts); i++) {
        const size_t count = counts[i % COUNT(counts)], pixels = pixel_counts[i / COUNT(counts)];

        for (size_t width = NN_LANES; width <= 4 * NN_LANES; width *= 2) {
            const size_t step = count + 3, distance = pixels * width;
            const size_t floats = (count + width - 1) / width * distance;
            float *in = rows_new((pixels - 1) * step + count), *out = blank_new(floats);

            nn_deal_panels(in, step, pixels, count, width, out, distance);
            for (size_t j = 0; j < floats; j++) {
                const size_t channel = j / distance * width + j % width, p = j % distance / width;

                if (channel >= count)
                    assert_true(isnan(out[j]));
                else
                    assert_true(out[j] == (float)(p * step + channel + 1));
            }
            free(out);
            free(in);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_hold_every_channel_once),
        cmocka_unit_test(windows_hold_their_lines),
        cmocka_unit_test(panels_hold_every_channel_once),
    };

    return cmocka_run_group_tests_name("nn deal", tests, NULL, NULL);
}
