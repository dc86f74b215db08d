/*
 * trainer/weights/pickle.h -- read a pickle of tensors, and no other.
 *
 * A pickle is a program for a small stack machine, and Python's own runs whatever functions it
 * names. This one knows the instructions of protocol 2 that torch.save writes, and the names of
 * torch_object.h; anything else is refused by its name. Nothing is ever called. Source:
 * docs.python.org, "pickletools", and PEP 307.
 */
#ifndef WEIGHTS_PICKLE_H
#define WEIGHTS_PICKLE_H

#include <stddef.h>

#include "trainer/weights/pickle_value.h"

struct err;

/** Read the pickle that begins at `bytes` and ends within `count`. `*used` (may be NULL: then
 * nothing may follow it) is its length. The object belongs to the store and points into bytes; it
 * may hold itself. ERR_INPUT names `path`, and what is refused. Time and memory are linear in
 * count. */
const struct pickle_value *pickle_read(struct pickle_store *store, const void *bytes, size_t count,
                                       const char *path, size_t *used, struct err *err);

#endif
