/* comm/wire.c -- see wire.h. */
#include "comm/wire.h"

#include <string.h>

#define EXPONENT 0x7f800000u
#define QUIET    0x00400000u

static uint32_t bits_of(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Where the fraction is all ones the addition carries into the exponent, which is right. */
static uint32_t rounded(uint32_t bits)
{
    const uint32_t finite = (bits + 0x7fffu + (bits >> 16 & 1)) & 0xffff0000u;
    const uint32_t none = (bits | QUIET) & 0xffff0000u;

    return (bits & 0x7fffffffu) > EXPONENT ? none : finite;
}

void comm_wire_round(uint16_t *restrict to, const float *restrict from, float *restrict lost,
                     size_t count)
{
#pragma omp simd
    for (size_t i = 0; i < count; i++) {
        const float x = from[i] + lost[i];
        const uint32_t bits = rounded(bits_of(x));

        to[i] = (uint16_t)(bits >> 16);
        lost[i] = x - float_of(bits);
    }
}

void comm_wire_widen(float *restrict to, const uint16_t *restrict from, size_t count)
{
#pragma omp simd
    for (size_t i = 0; i < count; i++)
        to[i] = float_of((uint32_t)from[i] << 16);
}
