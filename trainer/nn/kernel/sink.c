/*
 * trainer/nn/kernel/sink.c -- what happens to rows as a layer leaves them.
 *
 * Channels are worked on 16 at a time, with their sums in registers while some rows pass by: a sum
 * in memory would make each row wait for the one before. A few rows at a time, so that what lies
 * side by side in memory is used together.
 */
#include "trainer/nn/kernel/sink.h"

#include <assert.h>
#include <string.h>

#include "trainer/nn/kernel/simd.h"
#include "trainer/nn/kernel/size.h"

#define WIDTH        8 /* of a vector */
#define HALVES       2
#define LANES        (HALVES * WIDTH)
#define ROWS_AT_ONCE 16

typedef float vector __attribute__((vector_size(WIDTH * sizeof(float)), aligned(4), may_alias));
typedef int32_t bits __attribute__((vector_size(WIDTH * sizeof(float)), aligned(4), may_alias));

/* Whether the ReLU before the gradient was open is told by the sign of ... */
enum gate {
    GATE_OUT,         /* other: its result */
    GATE_NORM,        /* affine(x[0]) */
    GATE_JOIN,        /* affine(x[0]) + other */
    GATE_JOIN_SCALED, /* affine(x[0]) + other_affine(other) */
};

/* Some channels of a few rows; all pointers at the first of them. Sums in forward: of y - mean[0]
 * and, as a product, of its square. */
struct patch {
    size_t rows, step;
    float *y;
    const float *other, *x[2], *mean[2];
    struct nn_affine affine, other_affine;
    float *sum, *product[2];
    enum gate gate;
    int norms;
};

/* Compiled for each gate and number of norms. A copy of the patch: what is stored through its
 * pointers then cannot change it. */
static inline __attribute__((always_inline)) void mask_lanes(const struct patch *patch,
                                                             const enum gate gate, const int norms)
{
    const struct patch p = *patch;
    vector sum[HALVES], product[2][HALVES];

    for (int h = 0; h < HALVES; h++) {
        sum[h] = *(const vector *)(p.sum + h * WIDTH);
        for (int n = 0; n < norms; n++)
            product[n][h] = *(const vector *)(p.product[n] + h * WIDTH);
    }
    for (size_t i = 0; i < p.rows; i++) {
        for (int h = 0; h < HALVES; h++) {
            const size_t at = i * p.step + (size_t)h * WIDTH;
            const int j = h * WIDTH;
            vector g = *(const vector *)(p.y + at), z = {0};

            if (gate != GATE_NORM)
                z = *(const vector *)(p.other + at);
            if (gate == GATE_JOIN_SCALED)
                z = (z - *(const vector *)(p.other_affine.mean + j)) *
                        *(const vector *)(p.other_affine.scale + j) +
                    *(const vector *)(p.other_affine.bias + j);
            if (gate != GATE_OUT)
                z = (*(const vector *)(p.x[0] + at) - *(const vector *)(p.affine.mean + j)) *
                        *(const vector *)(p.affine.scale + j) +
                    *(const vector *)(p.affine.bias + j) + z;
            g = (vector)((bits)g & ~(bits)(z <= 0)); /* a NaN is no reason to shut */
            *(vector *)(p.y + at) = g;
            sum[h] += g;
            for (int n = 0; n < norms; n++)
                product[n][h] +=
                    g * (*(const vector *)(p.x[n] + at) - *(const vector *)(p.mean[n] + j));
        }
    }
    for (int h = 0; h < HALVES; h++) {
        *(vector *)(p.sum + h * WIDTH) = sum[h];
        for (int n = 0; n < norms; n++)
            *(vector *)(p.product[n] + h * WIDTH) = product[n][h];
    }
}

/* clang-format off */
NN_CLONES static void mask_out_1(const struct patch *p) { mask_lanes(p, GATE_OUT, 1); }
NN_CLONES static void mask_out_2(const struct patch *p) { mask_lanes(p, GATE_OUT, 2); }
NN_CLONES static void mask_norm_1(const struct patch *p) { mask_lanes(p, GATE_NORM, 1); }
NN_CLONES static void mask_norm_2(const struct patch *p) { mask_lanes(p, GATE_NORM, 2); }
NN_CLONES static void mask_join_1(const struct patch *p) { mask_lanes(p, GATE_JOIN, 1); }
NN_CLONES static void mask_join_2(const struct patch *p) { mask_lanes(p, GATE_JOIN, 2); }
NN_CLONES static void mask_scaled_1(const struct patch *p) { mask_lanes(p, GATE_JOIN_SCALED, 1); }
NN_CLONES static void mask_scaled_2(const struct patch *p) { mask_lanes(p, GATE_JOIN_SCALED, 2); }
/* clang-format on */

typedef void lanes_function(const struct patch *patch);
typedef void rest_function(const struct patch *patch, size_t count);

static lanes_function *const masks[][2] = {
    [GATE_OUT] = {mask_out_1, mask_out_2},
    [GATE_NORM] = {mask_norm_1, mask_norm_2},
    [GATE_JOIN] = {mask_join_1, mask_join_2},
    [GATE_JOIN_SCALED] = {mask_scaled_1, mask_scaled_2},
};

NN_CLONES static void measure_lanes(const struct patch *patch)
{
    const struct patch p = *patch;
    vector sum[HALVES], square[HALVES], pivot[HALVES];

    for (int h = 0; h < HALVES; h++) {
        sum[h] = *(const vector *)(p.sum + h * WIDTH);
        square[h] = *(const vector *)(p.product[0] + h * WIDTH);
        pivot[h] = *(const vector *)(p.mean[0] + h * WIDTH);
    }
    for (size_t i = 0; i < p.rows; i++) {
        for (int h = 0; h < HALVES; h++) {
            const vector d = *(const vector *)(p.y + i * p.step + (size_t)h * WIDTH) - pivot[h];

            sum[h] += d;
            square[h] += d * d;
        }
    }
    for (int h = 0; h < HALVES; h++) {
        *(vector *)(p.sum + h * WIDTH) = sum[h];
        *(vector *)(p.product[0] + h * WIDTH) = square[h];
    }
}

/* --- channels that are no whole patch, one by one --- */

static float affine_at(const struct nn_affine *affine, float x, size_t j)
{
    return (x - affine->mean[j]) * affine->scale[j] + affine->bias[j];
}

static void mask_rest(const struct patch *p, size_t count)
{
    for (size_t i = 0; i < p->rows; i++) {
        for (size_t j = 0; j < count; j++) {
            const size_t at = i * p->step + j;
            float z = p->gate == GATE_NORM ? 0 : p->other[at];

            if (p->gate == GATE_JOIN_SCALED)
                z = affine_at(&p->other_affine, z, j);
            if (p->gate != GATE_OUT)
                z = affine_at(&p->affine, p->x[0][at], j) + z;
            p->y[at] = z <= 0 ? 0 : p->y[at];
            p->sum[j] += p->y[at];
            for (int n = 0; n < p->norms; n++)
                p->product[n][j] += p->y[at] * (p->x[n][at] - p->mean[n][j]);
        }
    }
}

static void measure_rest(const struct patch *p, size_t count)
{
    for (size_t i = 0; i < p->rows; i++) {
        for (size_t j = 0; j < count; j++) {
            const float d = p->y[i * p->step + j] - p->mean[0][j];

            p->sum[j] += d;
            p->product[0][j] += d * d;
        }
    }
}

/* --- a sink's rows, patch by patch --- */

/* Where there is something. */
static const float *moved(const float *at, size_t by)
{
    return at == NULL ? NULL : at + by;
}

static struct nn_affine affine_moved(const struct nn_affine *affine, size_t by)
{
    return (struct nn_affine){moved(affine->mean, by), moved(affine->scale, by),
                              moved(affine->bias, by)};
}

static struct patch patch_at(const struct patch *p, size_t row, size_t rows, size_t channel)
{
    const size_t at = row * p->step + channel;
    struct patch patch = *p;

    patch.rows = rows;
    patch.y += at;
    patch.other = moved(p->other, at);
    patch.affine = affine_moved(&p->affine, channel);
    patch.other_affine = affine_moved(&p->other_affine, channel);
    patch.sum += channel;
    for (int n = 0; n < 2; n++) {
        patch.x[n] = moved(p->x[n], at);
        patch.mean[n] = moved(p->mean[n], channel);
        patch.product[n] = p->product[n] == NULL ? NULL : p->product[n] + channel;
    }
    return patch;
}

static void cover(const struct patch *p, size_t count, lanes_function *lanes, rest_function *rest)
{
    for (size_t row = 0; row < p->rows; row += ROWS_AT_ONCE) {
        const size_t rows = nn_size_least(ROWS_AT_ONCE, p->rows - row);
        size_t channel = 0;

        for (; channel + LANES <= count; channel += LANES) {
            const struct patch patch = patch_at(p, row, rows, channel);

            lanes(&patch);
        }
        if (channel < count) {
            const struct patch patch = patch_at(p, row, rows, channel);

            rest(&patch, count - channel);
        }
    }
}

static void mask_rows(const struct nn_sink *sink, float *sums, size_t at, size_t rows, size_t begin,
                      size_t count)
{
    struct patch p = {.rows = rows,
                      .step = sink->c,
                      .y = sink->y + at,
                      .other = moved(sink->out != NULL ? sink->out : sink->other, at),
                      .affine = affine_moved(&sink->affine, begin),
                      .other_affine = affine_moved(&sink->other_affine, begin),
                      .sum = sums + begin,
                      .gate = sink->out != NULL                 ? GATE_OUT
                              : sink->other == NULL             ? GATE_NORM
                              : sink->other_affine.mean == NULL ? GATE_JOIN
                                                                : GATE_JOIN_SCALED,
                      .norms = sink->norms};

    assert(sink->norms == 1 || sink->norms == 2);
    for (int n = 0; n < sink->norms; n++) {
        p.x[n] = sink->norm_x[n] + at;
        p.mean[n] = sink->norm_mean[n] + begin;
        p.product[n] = sums + (size_t)(1 + n) * sink->c + begin;
    }
    cover(&p, count, masks[p.gate][p.norms - 1], mask_rest);
}

static void measure_rows(const struct nn_sink *sink, float *sums, bool first, size_t at,
                         size_t rows, size_t begin, size_t count)
{
    const size_t c = sink->c;
    float *pivot = sums + 2 * c + begin;
    const struct patch p = {.rows = rows,
                            .step = c,
                            .y = sink->y + at,
                            .mean = {pivot, NULL},
                            .sum = sums + begin,
                            .product = {sums + c + begin, NULL}};

    if (first)
        memcpy(pivot, sink->y + at, count * sizeof(*pivot));
    cover(&p, count, measure_lanes, measure_rest);
}

NN_CLONES static void finish(size_t rows, size_t count, float *restrict y, size_t step,
                             const float *restrict bias, bool relu)
{
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < count; j++) {
            const float z = y[i * step + j] + bias[j];

            y[i * step + j] = relu && z < 0 ? 0 : z;
        }
    }
}

NN_CLONES static void finish_with(size_t rows, size_t count, float *restrict y, size_t step,
                                  const float *restrict bias, const float *restrict residual,
                                  bool relu)
{
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < count; j++) {
            const float z = y[i * step + j] + bias[j] + residual[i * step + j];

            y[i * step + j] = relu && z < 0 ? 0 : z;
        }
    }
}

static void finish_rows(const struct nn_sink *sink, size_t at, size_t rows, size_t begin,
                        size_t count)
{
    if (sink->residual == NULL)
        finish(rows, count, sink->y + at, sink->c, sink->bias + begin, sink->relu);
    else
        finish_with(rows, count, sink->y + at, sink->c, sink->bias + begin, sink->residual + at,
                    sink->relu);
}

void nn_sink_rows(const struct nn_sink *sink, size_t block, bool first, size_t row, size_t rows,
                  size_t begin, size_t count)
{
    const size_t c = sink->c, at = row * c + begin;
    const bool summing = sink->kind == NN_SINK_MEASURE || sink->kind == NN_SINK_MASK;
    float *sums = summing ? sink->sums + block * NN_BLOCK_SUMS * c : NULL;

    assert(begin + count <= c);
    if (summing && first)
        for (size_t i = 0; i < NN_BLOCK_SUMS; i++)
            memset(sums + i * c + begin, 0, count * sizeof(*sums));
    if (summing && begin == 0)
        sink->block_rows[block] = (first ? 0 : sink->block_rows[block]) + (uint32_t)rows;
    switch (sink->kind) {
    case NN_SINK_PLAIN:
        break;
    case NN_SINK_MEASURE:
        measure_rows(sink, sums, first, at, rows, begin, count);
        break;
    case NN_SINK_FINISH:
        finish_rows(sink, at, rows, begin, count);
        break;
    case NN_SINK_MASK:
        mask_rows(sink, sums, at, rows, begin, count);
        break;
    }
}
