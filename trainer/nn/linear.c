#include "trainer/nn/linear.h"

#include <string.h>

#include "trainer/nn/gemm.h"
#include "trainer/nn/scratch.h"
#include "trainer/nn/simd.h"

size_t nn_linear_shared_floats(const struct nn_linear *linear)
{
    return (size_t)linear->k * linear->c;
}

/* y (n) += sum over i of a[i * distance] b (i, n), in the order of i. */
NN_CLONES static void combine_rows(size_t rows, size_t n, const float *restrict a, size_t distance,
                                   const float *restrict b, float *restrict y)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++)
            y[j] += a[i * distance] * b[i * n + j];
}

void nn_linear_forward(const struct nn_linear *linear, int n, const float *x, const float *w,
                       const float *bias, float *y, const struct nn_scratch *scratch)
{
    const size_t c = (size_t)linear->c, k = (size_t)linear->k;

    nn_transpose(k, c, w, scratch->shared); /* so that the loop over outputs is the inner one */
#pragma omp parallel for
    for (int i = 0; i < n; i++) {
        float *out = y + (size_t)i * k;

        memcpy(out, bias, k * sizeof(*out));
        combine_rows(c, k, x + (size_t)i * c, 1, scratch->shared, out);
    }
}

void nn_linear_backward_data(const struct nn_linear *linear, int n, const float *dy, const float *w,
                             float *dx)
{
    const size_t c = (size_t)linear->c, k = (size_t)linear->k;

#pragma omp parallel for
    for (int i = 0; i < n; i++) {
        memset(dx + (size_t)i * c, 0, c * sizeof(*dx));
        combine_rows(k, c, dy + (size_t)i * k, 1, w, dx + (size_t)i * c);
    }
}

void nn_linear_backward_weights(const struct nn_linear *linear, int n, const float *x,
                                const float *dy, float *dw, float *dbias)
{
    const size_t c = (size_t)linear->c, k = (size_t)linear->k;

#pragma omp parallel for
    for (size_t j = 0; j < k; j++) {
        memset(dw + j * c, 0, c * sizeof(*dw));
        combine_rows((size_t)n, c, dy + j, k, x, dw + j * c);
        dbias[j] = 0;
        for (int i = 0; i < n; i++)
            dbias[j] += dy[(size_t)i * k + j];
    }
}
