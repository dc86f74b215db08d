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

static inline void move_wide(float *out, const float *in)
{
    *(wide *)out = *(const wide *)in;
}

static inline void move_row(float *out, const float *in, size_t width)
{
    for (size_t i = 0; i < width; i += NN_LANES) {
        move_wide(out + i, in + i);
        move_wide(out + i + WIDE, in + i + WIDE);
    }
}

/* Up to 7 floats. */
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
    const size_t whole = count / GROUP, rest = count % GROUP;
    const size_t in_row =
        count < WIDE ? 0 : (count - WIDE) / GROUP + 1; /* have WIDE floats there */

    for (size_t i = 0; i < pixels; i += ROWS_AT_ONCE, in += ROWS_AT_ONCE * step) {
        const size_t rows = pixels - i < ROWS_AT_ONCE ? pixels - i : ROWS_AT_ONCE;
        float *group = out + i * GROUP;
        size_t j = 0;

        for (; j < in_row; j++, group += distance)
            for (size_t l = 0; l < rows; l++)
                move_wide(group + l * GROUP, in + l * step + j * GROUP);
        for (; j < whole; j++, group += distance)
            for (size_t l = 0; l < rows; l++)
                memcpy(group + l * GROUP, in + l * step + j * GROUP, GROUP * sizeof(*out));
        for (size_t l = 0; l < rows && rest > 0; l++) {
            memset(group + l * GROUP, 0, GROUP * sizeof(*out));
            move_few(group + l * GROUP, in + l * step + j * GROUP, rest);
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
            if (before == 0)
                for (size_t i = 0; i < pixels; i++)
                    move_wide(to + i * GROUP, from + i * step);
            else
                for (size_t i = 0; i < pixels; i++)
                    move_few(to + i * GROUP, from + i * step, few);
        }
}
