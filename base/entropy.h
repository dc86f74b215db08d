/*
 * base/entropy.h -- bytes that nobody can guess, for keys, nonces, names and jitter. What a
 * training draws comes from philox.h, and depends on none of these.
 */
#ifndef BASE_ENTROPY_H
#define BASE_ENTROPY_H

#include <stddef.h>

/** Fill `bytes` bytes from the kernel (getrandom(2)). Blocks only while a machine boots, and cannot
 * fail on Linux 3.17 or later: elsewhere the program aborts. */
void entropy_fill(void *out, size_t bytes);

#endif
