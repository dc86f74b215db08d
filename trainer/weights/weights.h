/*
 * trainer/weights/weights.h -- a file of weights, of whichever format, as named tensors.
 *
 * safetensors, and what torch.save writes of a state_dict, in its zip and in the format before it.
 * The file is not believed: all of it is checked, nothing of it is run.
 */
#ifndef WEIGHTS_WEIGHTS_H
#define WEIGHTS_WEIGHTS_H

#include <stddef.h>

#include "trainer/weights/safetensors.h"

struct err;

struct weights {
    struct safetensors_entry *tensors; /* F32 or I64, row-major, aligned; in the file's order */
    size_t count;
    const char *format; /* "safetensors" or "PyTorch" */
    char *names;        /* storage of the names and of the elements */
    void *data;
};

/**
 * Read a file of weights from memory. Its content tells the format, not its name.
 *
 * bytes  (count) bytes; not needed any more when this returns.
 * path   names the file in errors.
 *
 * Floats of 16, 32 and 64 bits become F32, integers and bools I64. Names lose a "module." in front
 * (PyTorch's DataParallel) where all have it. At most four dimensions.
 *
 * Returns 0; or -1 with err set. ERR_INPUT: `path`, and what is wrong: what the file is instead (a
 * gzip, an HTML page, ...), what is damaged, or which function it wants to call. ERR_MEMORY: the
 * tensors do not fit; a file cannot ask for more than some 32 times its own bytes.
 */
int weights_open_bytes(struct weights *weights, const void *bytes, size_t count, const char *path,
                       struct err *err);

/** Look up; NULL if absent. */
const struct safetensors_entry *weights_find(const struct weights *weights, const char *name);

/** Accepts all-zero. */
void weights_release(struct weights *weights);

#endif
