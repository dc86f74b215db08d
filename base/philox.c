#include "base/philox.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* The paper's multipliers and Weyl increments for 4x32. */
#define MULTIPLIER_0 0xD2511F53u
#define MULTIPLIER_1 0xCD9E8D57u
#define WEYL_0       0x9E3779B9u
#define WEYL_1       0xBB67AE85u
#define ROUNDS       10

#define TWO_PI 6.28318530717958647692

void philox_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];

    for (int round = 0; round < ROUNDS; round++) {
        const uint64_t p0 = (uint64_t)MULTIPLIER_0 * c0;
        const uint64_t p1 = (uint64_t)MULTIPLIER_1 * c2;

        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += WEYL_0;
        k1 += WEYL_1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void philox_init(struct philox *philox, uint64_t seed, uint64_t a, uint64_t b,
                 enum philox_purpose purpose)
{
    assert(a >> 48 == 0 && b >> 32 == 0);
    *philox = (struct philox){
        .key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
        .counter = {0, (uint32_t)a, (uint32_t)b, (uint32_t)purpose | (uint32_t)(a >> 32) << 16},
    };
}

uint32_t philox_u32(struct philox *philox)
{
    if (philox->left == 0) {
        philox_block(philox->counter, philox->key, philox->block);
        philox->counter[0]++;
        philox->left = 4;
    }
    return philox->block[4 - philox->left--];
}

float philox_uniform(struct philox *philox)
{
    return (float)(philox_u32(philox) >> 8) * 0x1p-24f;
}

/* Lemire, "Fast random integer generation in an interval", 2019: the high word of x * n is the
 * number; the few x whose low word falls under 2^32 mod n would make some numbers likelier and are
 * drawn anew. */
uint32_t philox_below(struct philox *philox, uint32_t n)
{
    uint64_t product = (uint64_t)philox_u32(philox) * n;

    assert(n > 0);
    if ((uint32_t)product < n) {
        const uint32_t threshold = (0u - n) % n;

        while ((uint32_t)product < threshold)
            product = (uint64_t)philox_u32(philox) * n;
    }
    return (uint32_t)(product >> 32);
}

/* Always two draws and the cosine alone: keeping the sine for the next call would be hidden state.
 */
float philox_normal(struct philox *philox)
{
    const double u =
        ((double)philox_u32(philox) + 1) * 0x1p-32; /* in (0, 1]: the logarithm is finite */
    const double v = (double)philox_u32(philox) * 0x1p-32;

    return (float)(sqrt(-2 * log(u)) * cos(TWO_PI * v));
}
