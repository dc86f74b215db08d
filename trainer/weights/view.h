/*
 * trainer/weights/view.h -- a tensor that lies somewhere in a file's bytes, checked but not yet
 * copied.
 */
#ifndef WEIGHTS_VIEW_H
#define WEIGHTS_VIEW_H

#include <stddef.h>
#include <stdint.h>

#include "trainer/weights/safetensors.h"

struct err;

struct weights_view {
    const char *name; /* without a NUL behind */
    size_t name_bytes;
    enum safetensors_type type;
    int dims;
    uint64_t size[SAFETENSORS_DIMS_MAX], stride[SAFETENSORS_DIMS_MAX]; /* in elements */
    const unsigned char *data; /* the first element, at any alignment */
};

/** Elements of a view; UINT64_MAX where 64 bits do not count them. */
uint64_t weights_view_count(const struct weights_view *view);

/** What a view's elements become: F32 for all floats, I64 for integers and bools. */
enum safetensors_type weights_view_result(const struct weights_view *view);

/** Copy a view's elements, converted, row-major, to `data` (weights_view_count elements of
 * weights_view_result). ERR_INPUT names `path` and the tensor where a double is beyond float32. */
int weights_view_copy(const struct weights_view *view, void *data, const char *path,
                      struct err *err);

#endif
