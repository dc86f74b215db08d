/*
 * trainer/data/picture/resize_avx2.c -- the two passes with AVX2.
 *
 * Both multiply pairs: a lane of 32 bits holds two inputs of 16, and their two weights are in every
 * lane of another register; one instruction (vpmaddwd) makes a sum of them.
 *
 *   down    ymm: 16 values of a row and of the next, interleaved; low and high halves apart
 *   across  ymm: the pixels k and k + 1 of one row in the low lane, r0 r1 g0 g1 b0 b1 - -, and
 * those of the other row in the high lane; the sums are one pixel's r g b - of either row
 */
#include "trainer/data/picture/resize.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define AVX2        __attribute__((target("avx2")))
#define DOWN_VALUES 16 /* at a time */

AVX2 static inline __m256i weights_pair(const int16_t *weights)
{
    int pair;

    memcpy(&pair, weights, sizeof pair);
    return _mm256_set1_epi32(pair);
}

AVX2 static inline __m256i load_values(const uint8_t *in)
{
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)in));
}

AVX2 static inline void down_values(const uint8_t *in, size_t stride, const int16_t *weights,
                                    int count, int16_t *out)
{
    const int shift = RESIZE_WEIGHT_BITS - RESIZE_LEVEL_BITS;
    __m256i low = _mm256_set1_epi32(1 << (shift - 1)), high = low;

    for (int k = 0; k < count; k += 2) {
        const uint8_t *const row = in + (size_t)k * stride;
        const __m256i first = load_values(row);
        const __m256i second = load_values(k + 1 < count ? row + stride : row); /* weight 0 */
        const __m256i pair = weights_pair(weights + k);

        low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi16(first, second), pair));
        high =
            _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(first, second), pair));
    }
    low = _mm256_srai_epi32(low, shift);
    high = _mm256_srai_epi32(high, shift);
    _mm256_storeu_si256((__m256i *)(void *)out, _mm256_packs_epi32(low, high));
}

AVX2 static void down_avx2(const uint8_t *in, size_t stride, const int16_t *weights, int count,
                           size_t n, int16_t *out)
{
    size_t i = 0;

    if (n < DOWN_VALUES) {
        resize_kernel_generic.down(in, stride, weights, count, n, out);
        return;
    }
    for (; i + DOWN_VALUES <= n; i += DOWN_VALUES)
        down_values(in + i, stride, weights, count, out + i);
    if (i < n) /* the last ones, some of them once more */
        down_values(in + n - DOWN_VALUES, stride, weights, count, out + n - DOWN_VALUES);
}

AVX2 static inline __m256i load_pixels(const int16_t *a, const int16_t *b)
{
    const __m128i low = _mm_loadu_si128((const __m128i *)(const void *)a);
    const __m128i high = _mm_loadu_si128((const __m128i *)(const void *)b);

    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

struct across {
    __m256i interleave;
    __m256 scales, shifts;
};

/* Pixel i of both rows. Behind what an output has are weights of 0, so that all take the same way.
 */
AVX2 static inline __m256 across_pixel(const struct across *across, const int16_t *const rows[2],
                                       const struct resize_axis *axis, int i, int pairs)
{
    const int16_t *const weights = axis->weights + (size_t)i * (size_t)axis->taps;
    const size_t at = 3 * (size_t)(axis->begin[i] - axis->first);
    __m256i sums = _mm256_setzero_si256();

    for (int k = 0; k < 2 * pairs; k += 2) {
        const __m256i in = load_pixels(rows[0] + at + 3 * k, rows[1] + at + 3 * k);

        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_shuffle_epi8(in, across->interleave),
                                                        weights_pair(weights + k)));
    }
    return _mm256_sub_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sums), across->scales), across->shifts);
}

/* Where two rows on, often the next ones, will be written: without, a third of the pass is waiting
 * for memory. Nothing has to lie there. */
static inline __attribute__((always_inline)) void prefetch(const float *out, size_t ahead)
{
    __builtin_prefetch((const void *)((uintptr_t)out + ahead), 1);
}

/* Each pixel is stored as four floats, the last of which the next one overwrites. */
AVX2 static inline __attribute__((always_inline)) void across_pixels(const struct across *across,
                                                                     const int16_t *const rows[2],
                                                                     const struct resize_axis *axis,
                                                                     int pairs, float *const out[2])
{
    const int last = axis->size - 1;
    const size_t ahead = 2 * 3 * (size_t)axis->size * sizeof(float);
    float ends[2][4];
    __m256 pixel;

    for (int i = 0; i < last; i++) {
        prefetch(out[0] + 3 * i, ahead);
        prefetch(out[1] + 3 * i, ahead);
        pixel = across_pixel(across, rows, axis, i, pairs);
        _mm_storeu_ps(out[0] + 3 * i, _mm256_castps256_ps128(pixel));
        _mm_storeu_ps(out[1] + 3 * i, _mm256_extractf128_ps(pixel, 1));
    }
    pixel = across_pixel(across, rows, axis, last, pairs);
    _mm_storeu_ps(ends[0], _mm256_castps256_ps128(pixel));
    _mm_storeu_ps(ends[1], _mm256_extractf128_ps(pixel, 1));
    for (int r = 0; r < 2; r++)
        memcpy(out[r] + 3 * last, ends[r], 3 * sizeof(float));
}

AVX2 static void across_avx2(const int16_t *const rows[2], const struct resize_axis *axis,
                             const float *scale, const float *shift, float *const out[2])
{
    const __m128i order = _mm_setr_epi8(0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11, -1, -1, -1, -1);
    const struct across across = {
        .interleave = _mm256_broadcastsi128_si256(order),
        .scales = _mm256_setr_ps(scale[0], scale[1], scale[2], 0, scale[0], scale[1], scale[2], 0),
        .shifts = _mm256_setr_ps(shift[0], shift[1], shift[2], 0, shift[0], shift[1], shift[2], 0),
    };

    if (axis->taps == 2)
        across_pixels(&across, rows, axis, 1, out);
    else if (axis->taps == 4)
        across_pixels(&across, rows, axis, 2, out);
    else
        across_pixels(&across, rows, axis, axis->taps / 2, out);
    for (int i = 0; axis->padded && i < axis->size; i++)
        for (int r = 0; r < 2 && axis->count[i] == 0; r++)
            memset(out[r] + 3 * i, 0, 3 * sizeof(float));
}

const struct resize_kernel *resize_kernel_avx2(void)
{
    static const struct resize_kernel kernel = {down_avx2, across_avx2};

    return __builtin_cpu_supports("avx2") ? &kernel : NULL;
}

#else

const struct resize_kernel *resize_kernel_avx2(void)
{
    return NULL;
}

#endif
