#include "trainer/nn/conv/deal.h"

#include <string.h>

#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/simd.h"

#define GROUP        NN_TILE_ROWS
#define WIDE         8
#define ROWS_AT_ONCE 16 /* a few rows of many channels stay in L1 */
#define TOGETHER     4  /* panels, so that a row's piece is a few cache lines: half the time */

typedef float wide
    __attribute__((vector_size(WIDE * sizeof(float)), aligned(sizeof(float)), may_alias));

static inline void move_row(float *out, const float *in, size_t width)
{
    for (size_t i = 0; i < width; i += 2 * WIDE) {
        *(wide *)(out + i) = *(const wide *)(in + i);
        *(wide *)(out + i + WIDE) = *(const wide *)(in + i + WIDE);
    }
}

_Static_assert(GROUP == 6 && WIDE == 8, "the numbers below");

/* Two pixels of a group, at least a group apart, as one store of eight floats and one of four: the
 * stores take the time, above all such as overlap (measured: two of eight take 1.3 times as long).
 */
static inline void move_two(float *out, const float *in, size_t step)
{
    const float *second = in + step;
    const wide a = *(const wide *)in, b = *(const wide *)(second - GROUP);

    *(wide *)out = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 14, 15);
    memcpy(out + WIDE, second + 2, 4 * sizeof(*out));
}

static inline void move_group(float *out, const float *in, size_t step, size_t pixels)
{
    for (; pixels >= 2 && step >= GROUP; pixels -= 2, in += 2 * step, out += 2 * GROUP)
        move_two(out, in, step);
    for (; pixels > 0; pixels--, in += step, out += GROUP)
        memcpy(out, in, GROUP * sizeof(*out));
}

/* Fewer than a group. */
static inline void move_few(float *out, const float *in, size_t count)
{
    if (count & 4) {
        memcpy(out, in, 4 * sizeof(*out));
        out += 4;
        in += 4;
    }
    if (count & 2) {
        memcpy(out, in, 2 * sizeof(*out));
        out += 2;
        in += 2;
    }
    if (count & 1)
        *out = *in;
}

NN_CLONES void nn_deal_groups(const float *in, size_t step, size_t pixels, size_t count, float *out,
                              size_t distance)
{
    static const float zeros[WIDE];
    const size_t whole = count / GROUP, rest = count % GROUP;

    for (size_t i = 0; i < pixels; i += ROWS_AT_ONCE, in += ROWS_AT_ONCE * step) {
        const size_t rows = pixels - i < ROWS_AT_ONCE ? pixels - i : ROWS_AT_ONCE;
        float *group = out + i * GROUP;

        for (size_t j = 0; j < whole; j++, group += distance)
            move_group(group, in + j * GROUP, step, rows);
        for (size_t l = 0; l < rows && rest > 0; l++) {
            move_few(group + l * GROUP, in + l * step + whole * GROUP, rest);
            move_few(group + l * GROUP + rest, zeros, GROUP - rest);
        }
    }
}

NN_CLONES void nn_deal_panels(const float *in, size_t step, size_t pixels, size_t count,
                              size_t width, float *out, size_t distance)
{
    for (size_t i = 0; i < pixels; i += ROWS_AT_ONCE, in += ROWS_AT_ONCE * step) {
        const size_t rows = pixels - i < ROWS_AT_ONCE ? pixels - i : ROWS_AT_ONCE;
        float *panel = out + i * width;
        size_t j = 0;

        for (; j + TOGETHER * width <= count; j += TOGETHER * width, panel += TOGETHER * distance)
            for (size_t l = 0; l < rows; l++)
                for (size_t k = 0; k < TOGETHER; k++)
                    move_row(panel + k * distance + l * width, in + l * step + j + k * width,
                             width);
        for (; j + width <= count; j += width, panel += distance)
            for (size_t l = 0; l < rows; l++)
                move_row(panel + l * width, in + l * step + j, width);
        for (size_t l = 0; l < rows && j < count; l++)
            memcpy(panel + l * width, in + l * step + j, (count - j) * sizeof(*out));
    }
}

NN_CLONES void nn_deal_windows(const float *in, size_t step, size_t pixels, size_t line,
                               size_t lines, size_t count, float *out, size_t distance)
{
    size_t at = 0, few; /* at: of a window's floats */

    for (size_t y = 0; y < lines; y++)
        for (size_t j = 0; j < count; j += few, at += few) {
            const size_t before = at % GROUP; /* those from the line above */
            const float *from = in + y * line + j;
            float *to = out + at / GROUP * distance + before;

            few = GROUP - before < count - j ? GROUP - before : count - j;
            if (before == 0 && step == GROUP) /* one run; what is too much is overwritten */
                memcpy(to, from, ((pixels - 1) * GROUP + few) * sizeof(*out));
            else if (few == GROUP)
                move_group(to, from, step, pixels);
            else
                for (size_t i = 0; i < pixels; i++)
                    move_few(to + i * GROUP, from + i * step, few);
        }
    if (at % GROUP > 0)
        for (size_t i = 0; i < pixels; i++)
            memset(out + at / GROUP * distance + i * GROUP + at % GROUP, 0,
                   (GROUP - at % GROUP) * sizeof(*out));
}
