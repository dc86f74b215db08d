/*
 * trainer/weights/sniff.h -- what a file is, by its first bytes.
 */
#ifndef WEIGHTS_SNIFF_H
#define WEIGHTS_SNIFF_H

#include <stddef.h>

struct err;

enum weights_format { WEIGHTS_SAFETENSORS, WEIGHTS_TORCH };

/** Which reader is meant to read it; -1 with ERR_INPUT, which names `path` and what it is, where
 * none is. */
int weights_sniff(const void *bytes, size_t count, enum weights_format *format, const char *path,
                  struct err *err);

#endif
