/*
 * tests/fuzz/fuzz.h -- what the fuzz targets of this folder share.
 *
 * A target is one LLVMFuzzerTestOneInput in a file of its own name. libFuzzer (LLVM documentation,
 * "libFuzzer") calls it with one input after another and keeps those that reach new code; an input
 * with which the process ends is kept as a crash, so what must hold is checked by ending it.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* A target whose inputs have sums that chance does not find mends them after a change. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t bytes_max, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t bytes, size_t bytes_max);

/** End the process unless it holds, also where assert is off. */
void fuzz_must(bool holds);

/** Two runs of bytes that have to be the same. */
void fuzz_must_equal(const void *a, size_t a_bytes, const void *b, size_t b_bytes);

/** A set of codes (base/err.h), by |. */
#define FUZZ_CODE(code) (1U << (code))
#define FUZZ_INPUT      FUZZ_CODE(ERR_INPUT)

/** A result of 0 or more leaves err alone; -1 comes with one of these codes, and one line of text
 * that is not empty. */
void fuzz_must_say(int rc, const struct err *err, unsigned codes);

/** A file in memory that holds the input and nothing else, at its begin: its fd, the same at every
 * call. fuzz_file_path names it. */
int fuzz_file(const void *data, size_t bytes);
const char *fuzz_file_path(void);

/** A new folder below TMPDIR, which who runs the target removes; at most four. */
const char *fuzz_folder(void);

/** Write a file into a folder, without waiting for the disk. */
void fuzz_write(const char *folder, const char *name, const void *data, size_t bytes);

#endif
