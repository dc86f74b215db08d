#include "trainer/nn/gemm.h"

#include <cblas.h>
#include <stdbool.h>
#include <string.h>

#include "trainer/nn/simd.h"

#define LANES 16 /* partial sums of a dot product; part of the bits */

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

NN_CLONES static float dot(const float *restrict a, const float *restrict b, size_t k)
{
    float lane[LANES] = {0};
    size_t i = 0;

    for (; i + LANES <= k; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] += a[i + j] * b[i + j];
    for (int j = 0; i < k; i++, j++)
        lane[j] += a[i] * b[i];
    for (int step = LANES / 2; step > 0; step /= 2)
        for (int j = 0; j < step; j++)
            lane[j] += lane[j + step];
    return lane[0];
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

void nn_gemm_nt(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                size_t ldb, float beta, float *c, size_t ldc)
{
    if (!is_thin(m, n, k)) {
        blas(CblasNoTrans, CblasTrans, m, n, k, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    clear_rows(beta, c, m, n, ldc);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            c[i * ldc + j] += dot(a + i * lda, b + j * ldb, k);
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
