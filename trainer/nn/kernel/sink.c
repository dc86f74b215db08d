/*
 * trainer/nn/kernel/sink.c -- what happens to rows as a layer leaves them.
 *
 * Channels are worked on 8 at a time, with their sums in registers while some rows pass by: a sum
 * in memory would make each row wait for the one before. A few rows at a time, so that what lies
 * side by side in memory is used together.
 */
#include "trainer/nn/kernel/sink.h"

#include <assert.h>
#include <string.h>

#include "trainer/nn/kernel/simd.h"
#include "trainer/nn/kernel/size.h"

#define WIDTH        8 /* of a vector */
#define ROWS_AT_ONCE 8

typedef float vector __attribute__((vector_size(WIDTH * sizeof(float)), aligned(4), may_alias));
typedef int32_t bits __attribute__((vector_size(WIDTH * sizeof(float)), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

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

/* No functions: they would have to hand vectors to each other that not every CPU has. */
#define LOAD(at)         (*(const vector *)(at))
#define STORE(at, v)     (*(vector *)(at) = (v))
#define APPLY(affine, x) (((x) - (affine)[0]) * (affine)[1] + (affine)[2])

INLINE void load_affine(const struct nn_affine *affine, size_t j, vector out[3])
{
    out[0] = LOAD(affine->mean + j);
    out[1] = LOAD(affine->scale + j);
    out[2] = LOAD(affine->bias + j);
}

/* Compiled for each gate and number of norms; the first of `count` channels that are whole vectors.
 * A copy of the patch: what is stored through its pointers then cannot change it. */
INLINE void mask_vectors(const struct patch *patch, size_t count, const enum gate gate,
                         const int norms)
{
    const struct patch p = *patch;

    for (size_t j = 0; j < count; j += WIDTH) {
        vector affine[3], other_affine[3], sum = LOAD(p.sum + j), product[2], mean[2];

        if (gate != GATE_OUT)
            load_affine(&p.affine, j, affine);
        if (gate == GATE_JOIN_SCALED)
            load_affine(&p.other_affine, j, other_affine);
        for (int n = 0; n < norms; n++) {
            product[n] = LOAD(p.product[n] + j);
            mean[n] = LOAD(p.mean[n] + j);
        }
        for (size_t i = 0, at = j; i < p.rows; i++, at += p.step) {
            vector g = LOAD(p.y + at), z = {0};

            if (gate != GATE_NORM)
                z = LOAD(p.other + at);
            if (gate == GATE_JOIN_SCALED)
                z = APPLY(other_affine, z);
            if (gate != GATE_OUT)
                z = APPLY(affine, LOAD(p.x[0] + at)) + z;
            g = (vector)((bits)g & ~(bits)(z <= 0)); /* a NaN is no reason to shut */
            STORE(p.y + at, g);
            sum += g;
            for (int n = 0; n < norms; n++)
                product[n] += g * (LOAD(p.x[n] + at) - mean[n]);
        }
        STORE(p.sum + j, sum);
        for (int n = 0; n < norms; n++)
            STORE(p.product[n] + j, product[n]);
    }
}

/* clang-format off */
NN_CLONES static void mask_out_1(const struct patch *p, size_t n) { mask_vectors(p, n, GATE_OUT, 1); }
NN_CLONES static void mask_out_2(const struct patch *p, size_t n) { mask_vectors(p, n, GATE_OUT, 2); }
NN_CLONES static void mask_norm_1(const struct patch *p, size_t n) { mask_vectors(p, n, GATE_NORM, 1); }
NN_CLONES static void mask_norm_2(const struct patch *p, size_t n) { mask_vectors(p, n, GATE_NORM, 2); }
NN_CLONES static void mask_join_1(const struct patch *p, size_t n) { mask_vectors(p, n, GATE_JOIN, 1); }
NN_CLONES static void mask_join_2(const struct patch *p, size_t n) { mask_vectors(p, n, GATE_JOIN, 2); }
NN_CLONES static void mask_scaled_1(const struct patch *p, size_t n) { mask_vectors(p, n, GATE_JOIN_SCALED, 1); }
NN_CLONES static void mask_scaled_2(const struct patch *p, size_t n) { mask_vectors(p, n, GATE_JOIN_SCALED, 2); }
/* clang-format on */

typedef void patch_function(const struct patch *patch, size_t count);

static patch_function *const masks[][2] = {
    [GATE_OUT] = {mask_out_1, mask_out_2},
    [GATE_NORM] = {mask_norm_1, mask_norm_2},
    [GATE_JOIN] = {mask_join_1, mask_join_2},
    [GATE_JOIN_SCALED] = {mask_scaled_1, mask_scaled_2},
};

NN_CLONES static void measure_vectors(const struct patch *patch, size_t count)
{
    const struct patch p = *patch;

    for (size_t j = 0; j < count; j += WIDTH) {
        vector sum = LOAD(p.sum + j), square = LOAD(p.product[0] + j);
        const vector pivot = LOAD(p.mean[0] + j);

        for (size_t i = 0; i < p.rows; i++) {
            const vector d = LOAD(p.y + i * p.step + j) - pivot;

            sum += d;
            square += d * d;
        }
        STORE(p.sum + j, sum);
        STORE(p.product[0] + j, square);
    }
}

/* --- channels that are no whole vector, one by one --- */

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

static void cover(const struct patch *p, size_t count, patch_function *vectors,
                  patch_function *rest)
{
    const size_t whole = count / WIDTH * WIDTH;

    for (size_t row = 0; row < p->rows; row += ROWS_AT_ONCE) {
        const size_t rows = nn_size_least(ROWS_AT_ONCE, p->rows - row);
        const struct patch patch = patch_at(p, row, rows, 0);

        vectors(&patch, whole);
        if (whole < count) {
            const struct patch last = patch_at(p, row, rows, whole);

            rest(&last, count - whole);
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
    cover(&p, count, measure_vectors, measure_rest);
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
