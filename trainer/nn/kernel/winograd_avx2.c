/*
 * trainer/nn/kernel/winograd_avx2.c -- the transforms with AVX2 and FMA, eight channels at a time.
 * This file alone is compiled with -mavx2 -mfma.
 */
#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/winograd.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define LANES         8
#define FMA(a, b, c)  _mm256_fmadd_ps(a, b, c)
#define FNMA(a, b, c) _mm256_fnmadd_ps(a, b, c)
#define ALL(x)        _mm256_set1_ps(x)
#define STREAM(p, v)  _mm256_stream_ps(p, v)
#define STREAM_END()  _mm_sfence()
#define TABLE         nn_winograd_avx2

typedef float vec __attribute__((vector_size(32)));

/* Pairs of rows, pairs of pairs, then the halves of the registers. */
static inline void transpose(vec *square)
{
    __m256 pairs[8], fours[8];

    for (int i = 0; i < 8; i += 2) {
        pairs[i] = _mm256_unpacklo_ps(square[i], square[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps(square[i], square[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        fours[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
        fours[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
        fours[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
        fours[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        square[i] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20);
        square[i + 4] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31);
    }
}

#include "trainer/nn/kernel/winograd_transforms.h"

#endif
