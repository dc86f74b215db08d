/*
 * trainer/weights/torch_storage.h -- where a file of PyTorch keeps the elements of its storages.
 */
#ifndef WEIGHTS_TORCH_STORAGE_H
#define WEIGHTS_TORCH_STORAGE_H

#include <stddef.h>

struct err;
struct pickle_store;
struct weights_zip;

/** Set the data of every storage that the store lists: entry data/KEY, exactly as long as count
 * and type want. ERR_INPUT names `path` and the storage. */
int torch_storage_bind_zip(struct pickle_store *store, const struct weights_zip *zip,
                           const char *path, struct err *err);

/** The same from the end of a file of the old format: the list of keys, then the storages in its
 * order, all of them and nothing behind. */
int torch_storage_bind_old(struct pickle_store *store, const void *bytes, size_t count,
                           const char *path, struct err *err);

#endif
