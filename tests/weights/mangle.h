/*
 * tests/weights/mangle.h -- files that are changed at random, in the same way at every run.
 */
#ifndef TESTS_WEIGHTS_MANGLE_H
#define TESTS_WEIGHTS_MANGLE_H

#include <stdint.h>

struct buf;

/** What all numbers are drawn from; another one gives other files. */
extern uint64_t mangle_seed;

/** Begin the numbers of one case. */
void mangle_begin(uint64_t stream);

/** A number from 0 to n - 1. */
uint32_t mangle_below(uint32_t n);

/** One change at a random place of a file that is not empty: bits, bytes lost, doubled, moved,
 * others. */
void mangle_once(struct buf *file);

#endif
