/*
 * trainer/nn/kernel/simd.h -- how an element-wise loop asks to be compiled for wide vectors too.
 *
 * A function marked NN_CLONES exists twice, for any x86-64 and for AVX2, and the loader picks one.
 * Such a loop treats its elements independently and contraction is off, so both give the same bits.
 * Sanitizers cannot take part in the loader's choice, and clang 14 gives such functions names that
 * other files do not find; there the mark is empty.
 */
#ifndef NN_SIMD_H
#define NN_SIMD_H

#if defined(NN_NO_CLONES) || !defined(__x86_64__) || defined(__clang__)
#define NN_CLONES
#else
#define NN_CLONES __attribute__((target_clones("avx2", "default")))
#endif

#endif
