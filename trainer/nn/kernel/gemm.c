#include "trainer/nn/kernel/gemm.h"

#include <cblas.h>
#include <stdbool.h>
#include <string.h>

#include "trainer/nn/kernel/simd.h"
#include "trainer/nn/kernel/size.h"

#define SIDE 16 /* of a square that is transposed at once: whole cache lines on both sides */

static bool is_thin(size_t m, size_t n, size_t k)
{
    return m == 1 || n == 1 || k == 1;
}

static void blas(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, size_t m, size_t n, size_t k,
                 const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
                 size_t ldc)
{
    cblas_sgemm(CblasRowMajor, ta, tb, (blasint)m, (blasint)n, (blasint)k, 1, a, (blasint)lda, b,
                (blasint)ldb, beta, c, (blasint)ldc);
}

NN_CLONES static void axpy(float alpha, const float *restrict x, float *restrict y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += alpha * x[i];
}

static void clear_rows(float beta, float *c, size_t m, size_t n, size_t ldc)
{
    for (size_t i = 0; i < m && beta == 0; i++)
        memset(c + i * ldc, 0, n * sizeof(*c));
}

void nn_gemm_nn(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                size_t ldb, float beta, float *c, size_t ldc)
{
    if (!is_thin(m, n, k)) {
        blas(CblasNoTrans, CblasNoTrans, m, n, k, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    clear_rows(beta, c, m, n, ldc);
    for (size_t i = 0; i < m; i++)
        for (size_t l = 0; l < k; l++)
            axpy(a[i * lda + l], b + l * ldb, c + i * ldc, n);
}

void nn_gemm_tn(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                size_t ldb, float beta, float *c, size_t ldc)
{
    if (!is_thin(m, n, k)) {
        blas(CblasTrans, CblasNoTrans, m, n, k, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    clear_rows(beta, c, m, n, ldc);
    for (size_t l = 0; l < k; l++)
        for (size_t i = 0; i < m; i++)
            axpy(a[l * lda + i], b + l * ldb, c + i * ldc, n);
}

void nn_transpose(size_t rows, size_t columns, const float *x, float *transposed)
{
#pragma omp parallel for
    for (size_t top = 0; top < rows; top += SIDE)
        for (size_t left = 0; left < columns; left += SIDE)
            for (size_t j = left; j < nn_size_least(left + SIDE, columns); j++)
                for (size_t i = top; i < nn_size_least(top + SIDE, rows); i++)
                    transposed[j * rows + i] = x[i * columns + j];
}
