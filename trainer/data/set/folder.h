/*
 * trainer/data/set/folder.h -- a folder per class as an index.
 */
#ifndef DATA_SET_FOLDER_H
#define DATA_SET_FOLDER_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

struct data_index;
struct data_left;
struct err;

/** Fill classes, samples (in any order), `ignored` and `empty` from the folder index->root, whose
 * labels are the places of its class folders in bytewise order. What failed is left for
 * data_index_release. ERR_INPUT names a class folder without pictures and a picture that is too
 * large or gone; ERR_STOPPED. */
int data_folder_read(struct data_index *index, const volatile sig_atomic_t *cancel,
                     struct err *err);

/** For folders anywhere: count a file that does not become a sample. Its key is the first `bytes`
 * of `key`, and is copied where it is the first in bytewise order. */
void data_folder_leave(struct data_left *left, const char *key, size_t bytes);

/** ERR_INPUT for a picture above 2 GiB. root may be "": then the key is a path. */
int data_folder_check_bytes(const char *root, const char *key, uint64_t bytes, struct err *err);

/** ERR_INPUT for a class folder that was found to hold no pictures, but for "lost+found", which
 * file systems make. */
int data_folder_check_class(const char *root, const char *class, struct err *err);

#endif
