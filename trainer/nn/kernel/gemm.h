/*
 * trainer/nn/kernel/gemm.h -- matrix products whose bits depend on their shape only.
 *
 * C (m, n) = beta C + op(A) op(B), row-major, beta 0 or 1; the inner dimension is k. One thread
 * computes a product: OpenBLAS must have been set to one (nn_threads_init). A product with m, n or
 * k of 1 is computed by loops of our own, since a BLAS may hand it to gemv, whose results depend on
 * alignment and threads. With beta 0, C is not read.
 */
#ifndef NN_GEMM_H
#define NN_GEMM_H

#include <stddef.h>

/* Arguments as in BLAS: lda, ldb, ldc are the distances between rows as stored. */

/** A (m, k), B (k, n): C = beta C + A B. */
void nn_gemm_nn(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                size_t ldb, float beta, float *c, size_t ldc);
/** A (k, m), B (k, n): C = beta C + A^T B. */
void nn_gemm_tn(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                size_t ldb, float beta, float *c, size_t ldc);

/** The transpose (columns, rows) of x (rows, columns), by all threads. */
void nn_transpose(size_t rows, size_t columns, const float *x, float *transposed);

#endif
