/*
 * trainer/nn/kernel/sink.c -- what happens to rows as a layer leaves them.
 *
 * Channels are worked on 16 at a time, with their sums in registers while some rows pass by: a sum
 * in memory would make each row wait for the one before. A few rows at a time, so that what lies
 * side by side in memory is used together.
 */
#include <assert.h>
#include <string.h>

#include "trainer/nn/kernel/simd.h"
#include "trainer/nn/kernel/sink.h"

#define WIDTH        8 /* of a vector */
#define HALVES       2
#define LANES        (HALVES * WIDTH)
#define ROWS_AT_ONCE 16
#define MASK_FLOATS  2048 /* of a ReLU's output that is computed again: a quarter of L1 */

typedef float vector __attribute__((vector_size(WIDTH * sizeof(float)), aligned(4), may_alias));
typedef int32_t bits __attribute__((vector_size(WIDTH * sizeof(float)), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

/* What decides whether the ReLU before the gradient was open. */
enum gate {
    GATE_OPEN,
    GATE_OUT,    /* its output is there: out */
    GATE_NORM,   /* affine(x[0]) */
    GATE_JOIN,   /* affine(x[0]) + out */
    GATE_JOIN_2, /* affine(x[0]) + other_affine(x[1]) */
};

/* LANES channels of a few rows; all pointers at the first of them. */
struct patch {
    size_t rows, step;
    float *y;
    const float *out, *x[2];
    struct nn_affine affine, other;
    const float *mean[2];
    float *sum, *product[2];
};

/* A copy of the patch: what is stored through its pointers then cannot change it. */
INLINE void backward_patch(const struct patch *patch, const enum gate gate, const int norms)
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
            vector g = *(const vector *)(p.y + at), z = g;

            if (gate == GATE_OUT)
                z = *(const vector *)(p.out + at);
            if (gate >= GATE_NORM)
                z = (*(const vector *)(p.x[0] + at) - *(const vector *)(p.affine.mean + j)) *
                        *(const vector *)(p.affine.scale + j) +
                    *(const vector *)(p.affine.bias + j);
            if (gate == GATE_JOIN)
                z += *(const vector *)(p.out + at);
            if (gate == GATE_JOIN_2)
                z += (*(const vector *)(p.x[1] + at) - *(const vector *)(p.other.mean + j)) *
                         *(const vector *)(p.other.scale + j) +
                     *(const vector *)(p.other.bias + j);
            if (gate != GATE_OPEN) {
                g = (vector)((bits)g & ~(bits)(z <= 0)); /* a NaN is no reason to shut */
                *(vector *)(p.y + at) = g;
            }
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

NN_CLONES static void backward_out_1(const struct patch *p)
{
    backward_patch(p, GATE_OUT, 1);
}

NN_CLONES static void backward_out_2(const struct patch *p)
{
    backward_patch(p, GATE_OUT, 2);
}

NN_CLONES static void backward_norm(const struct patch *p)
{
    backward_patch(p, GATE_NORM, 1);
}

NN_CLONES static void backward_join(const struct patch *p)
{
    backward_patch(p, GATE_JOIN, 1);
}

NN_CLONES static void backward_join_2(const struct patch *p)
{
    backward_patch(p, GATE_JOIN_2, 2);
}

NN_CLONES static void backward_open(const struct patch *p)
{
    backward_patch(p, GATE_OPEN, 1);
}

NN_CLONES static void backward_open_2(const struct patch *p)
{
    backward_patch(p, GATE_OPEN, 2);
}

NN_CLONES static void measure_patch(const struct patch *patch)
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

/* --- channels that are no whole patch --- */

static float gate_at(const struct patch *p, enum gate gate, size_t at, size_t j)
{
    float z = p->out != NULL ? p->out[at] : 1;

    if (gate >= GATE_NORM)
        z = (p->x[0][at] - p->affine.mean[j]) * p->affine.scale[j] + p->affine.bias[j];
    if (gate == GATE_JOIN)
        z += p->out[at];
    if (gate == GATE_JOIN_2)
        z += (p->x[1][at] - p->other.mean[j]) * p->other.scale[j] + p->other.bias[j];
    return z;
}

static void backward_rest(const struct patch *p, enum gate gate, int norms, size_t count)
{
    for (size_t i = 0; i < p->rows; i++) {
        for (size_t j = 0; j < count; j++) {
            const size_t at = i * p->step + j;

            if (gate != GATE_OPEN && gate_at(p, gate, at, j) <= 0)
                p->y[at] = 0;
            p->sum[j] += p->y[at];
            for (int n = 0; n < norms; n++)
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

/* --- sinks --- */

static const struct {
    enum gate gate;
    int norms;
    void (*run)(const struct patch *patch);
} patches[] = {
    {GATE_OUT, 1, backward_out_1},     {GATE_OUT, 2, backward_out_2},
    {GATE_NORM, 1, backward_norm},     {GATE_JOIN, 1, backward_join},
    {GATE_JOIN_2, 2, backward_join_2}, {GATE_OPEN, 1, backward_open},
    {GATE_OPEN, 2, backward_open_2},
};

/* The same patch `rows` and `channels` further. */
static struct patch patch_at(const struct patch *p, size_t row, size_t channel)
{
    const size_t at = row * p->step + channel;
    struct patch moved = *p;

    moved.y += at;
    moved.out = p->out == NULL ? NULL : p->out + at;
    moved.sum += channel;
    moved.affine.mean = p->affine.mean == NULL ? NULL : p->affine.mean + channel;
    moved.affine.scale = p->affine.scale == NULL ? NULL : p->affine.scale + channel;
    moved.affine.bias = p->affine.bias == NULL ? NULL : p->affine.bias + channel;
    moved.other.mean = p->other.mean == NULL ? NULL : p->other.mean + channel;
    moved.other.scale = p->other.scale == NULL ? NULL : p->other.scale + channel;
    moved.other.bias = p->other.bias == NULL ? NULL : p->other.bias + channel;
    for (int n = 0; n < 2; n++) {
        moved.x[n] = p->x[n] == NULL ? NULL : p->x[n] + at;
        moved.mean[n] = p->mean[n] == NULL ? NULL : p->mean[n] + channel;
        moved.product[n] = p->product[n] == NULL ? NULL : p->product[n] + channel;
    }
    return moved;
}

/* All rows and channels of p; run is NULL where only the plain loop will do. */
static void backward(const struct patch *p, size_t count, enum gate gate, int norms)
{
    void (*run)(const struct patch *patch) = NULL;
    size_t whole = count / LANES * LANES;

    for (size_t i = 0; i < sizeof(patches) / sizeof(*patches); i++)
        if (patches[i].gate == gate && patches[i].norms == norms)
            run = patches[i].run;
    whole = run == NULL ? 0 : whole;
    for (size_t row = 0; row < p->rows; row += ROWS_AT_ONCE) {
        struct patch some = *p;

        some.rows = p->rows - row < ROWS_AT_ONCE ? p->rows - row : ROWS_AT_ONCE;
        for (size_t channel = 0; channel < whole; channel += LANES) {
            const struct patch here = patch_at(&some, row, channel);

            run(&here);
        }
        if (whole < count) {
            const struct patch rest = patch_at(&some, row, whole);

            backward_rest(&rest, gate, norms, count - whole);
        }
    }
}

static void measure(const struct patch *p, size_t count)
{
    const size_t whole = count / LANES * LANES;

    for (size_t row = 0; row < p->rows; row += ROWS_AT_ONCE) {
        struct patch some = *p;

        some.rows = p->rows - row < ROWS_AT_ONCE ? p->rows - row : ROWS_AT_ONCE;
        for (size_t channel = 0; channel < whole; channel += LANES) {
            const struct patch here = patch_at(&some, row, channel);

            measure_patch(&here);
        }
        if (whole < count) {
            const struct patch rest = patch_at(&some, row, whole);

            measure_rest(&rest, count - whole);
        }
    }
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

NN_CLONES static void mask_by_output(size_t rows, size_t count, float *restrict y, size_t step,
                                     const float *restrict out, size_t out_step)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < count; j++)
            y[i * step + j] = out[i * out_step + j] <= 0 ? 0 : y[i * step + j];
}

/* A part of the rows at a time, so that they stay in L1. */
static void mask_by_source(const struct nn_sink *sink, size_t row, size_t rows, size_t begin,
                           size_t count)
{
    float out[MASK_FLOATS];

    for (size_t j = 0; j < count; j += MASK_FLOATS) {
        const size_t width = count - j < MASK_FLOATS ? count - j : MASK_FLOATS;
        const size_t height = MASK_FLOATS / width;

        for (size_t i = 0; i < rows; i += height) {
            const size_t here = rows - i < height ? rows - i : height;

            nn_source_read(sink->out_source, row + i, here, begin + j, width, out, width);
            mask_by_output(here, width, sink->y + (row + i) * sink->c + begin + j, sink->c, out,
                           width);
        }
    }
}

/* A join's operands are what its batch norms read, or close to it: then one pass does all. */
static enum gate gate_of_join(const struct nn_sink *sink, struct patch *p, size_t at)
{
    const struct nn_source *join = sink->out_source;

    if (join->kind != NN_SOURCE_JOINED || join->other == NULL || sink->norms < 1 ||
        join->x != sink->norm_x[0])
        return GATE_OPEN;
    p->affine = join->affine;
    p->other = join->other_affine;
    p->out = join->other + at;
    if (p->other.mean == NULL)
        return sink->norms == 1 ? GATE_JOIN : GATE_OPEN;
    return sink->norms == 2 && join->other == sink->norm_x[1] ? GATE_JOIN_2 : GATE_OPEN;
}

static struct nn_affine affine_at(const struct nn_affine *affine, size_t begin)
{
    if (affine->mean == NULL)
        return (struct nn_affine){0};
    return (struct nn_affine){affine->mean + begin, affine->scale + begin, affine->bias + begin};
}

static void mask_rows(const struct nn_sink *sink, float *sums, size_t row, size_t rows,
                      size_t begin, size_t count)
{
    const size_t at = row * sink->c + begin;
    struct patch p = {.rows = rows,
                      .step = sink->c,
                      .y = sink->y + at,
                      .affine = sink->affine,
                      .sum = sums + begin};
    enum gate gate = GATE_OPEN;

    for (int n = 0; n < sink->norms; n++) {
        p.x[n] = sink->norm_x[n] + at;
        p.mean[n] = sink->norm_mean[n] + begin;
        p.product[n] = sums + (size_t)(1 + n) * sink->c + begin;
    }
    if (sink->relu && sink->out != NULL) {
        gate = GATE_OUT;
        p.out = sink->out + at;
    } else if (sink->relu && sink->out_source != NULL) {
        gate = gate_of_join(sink, &p, at);
        if (gate == GATE_OPEN)
            mask_by_source(sink, row, rows, begin, count);
    } else if (sink->relu) {
        gate = GATE_NORM;
    }
    p.affine = affine_at(&p.affine, begin);
    p.other = affine_at(&p.other, begin);
    backward(&p, count, gate, sink->norms);
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
    measure(&p, count);
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
        mask_rows(sink, sums, row, rows, begin, count);
        break;
    }
}
