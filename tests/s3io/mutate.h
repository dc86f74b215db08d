/*
 * tests/s3io/mutate.h -- runs a fuzz target on its seeds and on what becomes of them by chance, the
 * same at every run. The targets are libFuzzer's: clang -fsanitize=fuzzer,address with fuzz_*.c,
 * s3io's and base's sources and a folder of seeds makes a program of each.
 */
#ifndef TESTS_S3IO_MUTATE_H
#define TESTS_S3IO_MUTATE_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/** Each file of the folder as it is, then `rounds` changed ones. Fails the test where there is no
 * file. */
void mutate_run(const char *seeds, int rounds);

#endif
