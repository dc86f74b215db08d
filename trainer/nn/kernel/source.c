#include "trainer/nn/kernel/source.h"

#include <assert.h>
#include <string.h>

#include "trainer/nn/kernel/simd.h"

bool nn_source_is_plain(const struct nn_source *source)
{
    return source->kind == NN_SOURCE_PLAIN && source->store == NULL;
}

#define WIDTH     8   /* floats of a vector */
#define SHORT_MAX 512 /* a call of memcpy takes longer than so many floats are worth */

typedef float vector __attribute__((vector_size(WIDTH * sizeof(float)), aligned(4), may_alias));

static inline void copy_short(float *restrict out, const float *restrict x, size_t count)
{
    size_t j = 0;

    for (; j + 2 * WIDTH <= count; j += 2 * WIDTH) {
        *(vector *)(out + j) = *(const vector *)(x + j);
        *(vector *)(out + j + WIDTH) = *(const vector *)(x + j + WIDTH);
    }
    for (; j < count; j++)
        out[j] = x[j];
}

/* ReLU as "negative becomes 0", so that a NaN stays one and is noticed in the loss. */

NN_CLONES static void copy(size_t rows, size_t count, const float *restrict x, size_t x_step,
                           float *restrict out, size_t step)
{
    if (count == x_step && count == step) { /* one run: pictures have three channels only */
        memcpy(out, x, rows * count * sizeof(*out));
        return;
    }
    for (size_t i = 0; i < rows && count <= SHORT_MAX; i++)
        copy_short(out + i * step, x + i * x_step, count);
    for (size_t i = 0; i < rows && count > SHORT_MAX; i++)
        memcpy(out + i * step, x + i * x_step, count * sizeof(*out));
}

NN_CLONES static void scaled(size_t rows, size_t count, const float *restrict x, size_t x_step,
                             const float *restrict mean, const float *restrict scale,
                             const float *restrict bias, float *restrict out, size_t step)
{
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < count; j++) {
            const float y = (x[i * x_step + j] - mean[j]) * scale[j] + bias[j];

            out[i * step + j] = y < 0 ? 0 : y;
        }
    }
}

NN_CLONES static void joined(size_t rows, size_t count, const float *restrict x,
                             const float *restrict other, size_t x_step, const float *restrict mean,
                             const float *restrict scale, const float *restrict bias,
                             float *restrict out, size_t step)
{
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < count; j++) {
            const float y =
                (x[i * x_step + j] - mean[j]) * scale[j] + bias[j] + other[i * x_step + j];

            out[i * step + j] = y < 0 ? 0 : y;
        }
    }
}

NN_CLONES static void joined_scaled(size_t rows, size_t count, const float *restrict x,
                                    const float *restrict other, size_t x_step,
                                    const float *restrict mean, const float *restrict scale,
                                    const float *restrict bias, const float *restrict other_mean,
                                    const float *restrict other_scale,
                                    const float *restrict other_bias, float *restrict out,
                                    size_t step)
{
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < count; j++) {
            const float y = (x[i * x_step + j] - mean[j]) * scale[j] + bias[j];
            const float z =
                (other[i * x_step + j] - other_mean[j]) * other_scale[j] + other_bias[j];

            out[i * step + j] = y + z < 0 ? 0 : y + z;
        }
    }
}

/* What `out` holds is the other operand. */
NN_CLONES static void join_onto(size_t rows, size_t count, const float *restrict x, size_t x_step,
                                const float *restrict mean, const float *restrict scale,
                                const float *restrict bias, float *restrict out, size_t step)
{
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < count; j++) {
            const float y = (x[i * x_step + j] - mean[j]) * scale[j] + bias[j] + out[i * step + j];

            out[i * step + j] = y < 0 ? 0 : y;
        }
    }
}

NN_CLONES static void gradient(size_t rows, size_t count, const float *restrict x,
                               const float *restrict other, size_t x_step,
                               const float *restrict mean, const float *restrict share,
                               const float *restrict pull, const float *restrict slope,
                               float *restrict out, size_t step)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < count; j++)
            out[i * step + j] = slope[j] * (other[i * x_step + j] - share[j] -
                                            (x[i * x_step + j] - mean[j]) * pull[j]);
}

void nn_source_read(const struct nn_source *source, size_t row, size_t rows, size_t begin,
                    size_t count, float *out, size_t step)
{
    const size_t c = source->c, at = row * c + begin;
    const struct nn_affine *a = &source->affine, *o = &source->other_affine;
    const float *x = source->x + at;

    assert(begin + count <= c);
    switch (source->kind) {
    case NN_SOURCE_PLAIN:
        copy(rows, count, x, c, out, step);
        break;
    case NN_SOURCE_SCALED:
        scaled(rows, count, x, c, a->mean + begin, a->scale + begin, a->bias + begin, out, step);
        break;
    case NN_SOURCE_JOINED:
        if (source->other_source != NULL) {
            nn_source_read(source->other_source, row, rows, begin, count, out, step);
            join_onto(rows, count, x, c, a->mean + begin, a->scale + begin, a->bias + begin, out,
                      step);
        } else if (o->mean == NULL)
            joined(rows, count, x, source->other + at, c, a->mean + begin, a->scale + begin,
                   a->bias + begin, out, step);
        else
            joined_scaled(rows, count, x, source->other + at, c, a->mean + begin, a->scale + begin,
                          a->bias + begin, o->mean + begin, o->scale + begin, o->bias + begin, out,
                          step);
        break;
    case NN_SOURCE_GRADIENT:
        gradient(rows, count, x, source->other + at, c, source->mean + begin, source->share + begin,
                 source->pull + begin, source->slope + begin, out, step);
        break;
    }
    if (source->store != NULL)
        copy(rows, count, out, step, source->store + at, c);
}
