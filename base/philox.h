/*
 * base/philox.h -- random numbers without state: Philox4x32-10.
 *
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
 * The same key and counter give the same numbers on every machine, in any order, on any thread:
 * this is what lets an augmentation depend on (seed, sample, epoch) and nothing else.
 */
#ifndef BASE_PHILOX_H
#define BASE_PHILOX_H

#include <stdint.h>

/* What a stream of numbers is for: the top word of the counter, so that no two uses share numbers.
 * These numbers are part of "same bits": they never change their meaning. */
enum philox_purpose {
    PHILOX_INIT = 1,    /* initial weights */
    PHILOX_ORDER = 2,   /* keys of the sample order */
    PHILOX_AUGMENT = 3, /* crops and flips */
    PHILOX_SYNTH = 4,   /* drawn pictures */
};

struct philox {
    uint32_t key[2];     /* the seed's low and high word */
    uint32_t counter[4]; /* [0] counts blocks; [1], [2] name the thing (see philox_init); [3] the
                            purpose */
    uint32_t block[4];   /* numbers of the current block not yet given out */
    int left;
};

/** One block: ten rounds over counter with key, as in the paper (known-answer vectors are in the
 * tests). */
void philox_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/** The stream for (seed, a, b, purpose), at its start. counter = {0, low 32 bits of a, b, purpose |
 * (a >> 32) << 16}; a < 2^48 and b < 2^32 are asserted. */
void philox_init(struct philox *philox, uint64_t seed, uint64_t a, uint64_t b,
                 enum philox_purpose purpose);

uint32_t philox_u32(struct philox *philox);
/** Uniform in [0, 1): 24 bits, exact in float. */
float philox_uniform(struct philox *philox);
/** Uniform integer in [0, n), n > 0, without bias (Lemire 2019, rejection). */
uint32_t philox_below(struct philox *philox, uint32_t n);
/** Standard normal by Box and Muller in double. */
float philox_normal(struct philox *philox);

#endif
