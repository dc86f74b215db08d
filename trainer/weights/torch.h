/*
 * trainer/weights/torch.h -- PyTorch's own files of a state_dict, read without PyTorch and without
 * running anything.
 *
 * Both formats of torch.save: a zip (since PyTorch 1.6) of data.pkl, a pickle of the objects, and
 * data/KEY, the elements of each storage; and the one before it, pickles one behind the other (a
 * magic number, a version, the writer's sizes, the objects, the list of storages' keys), then each
 * storage, its count in 8 bytes before it. Source: pytorch.org/docs, "Serialization semantics",
 * and files written by PyTorch 1.13 and 2.15.
 */
#ifndef WEIGHTS_TORCH_H
#define WEIGHTS_TORCH_H

#include <stdbool.h>
#include <stddef.h>

#include "trainer/weights/pickle_value.h"
#include "trainer/weights/view.h"
#include "trainer/weights/zip.h"

struct err;
struct file_new;

struct weights_torch {
    struct weights_view *views; /* in the file's order */
    size_t view_count;
    struct weights_zip zip; /* the reader's own from here on */
    struct pickle_store store;
};

/** Whether these bytes begin like the format before the zip. */
bool weights_torch_is_old(const void *bytes, size_t count);

/** Find the file's one dict of tensors: the object itself, or the one member of it that is such a
 * dict ({"state_dict": ..., "epoch": 7}). Every tensor is checked to lie in its storage, and every
 * storage in the file. `bytes` has to stay until weights_torch_close. ERR_INPUT names `path`. */
int weights_torch_open(struct weights_torch *file, const void *bytes, size_t count,
                       const char *path, struct err *err);
/** Accepts all-zero. */
void weights_torch_close(struct weights_torch *file);

/** Write a state_dict of F32 and I64 tensors, in the order given, that torch.load reads with
 * weights_only=True: a zip of the layout above, whose bytes depend on the entries only. Two entries
 * of one name are our mistake. What makes the file appear is the caller's. */
int weights_torch_write(struct file_new *file, const struct safetensors_entry *entries,
                        size_t count, struct err *err);

#endif
