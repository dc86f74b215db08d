/*
 * trainer/data/folder.h -- a folder per class as an index.
 */
#ifndef DATA_FOLDER_H
#define DATA_FOLDER_H

#include <signal.h>

struct data_index;
struct err;

/** Fill classes, samples (sorted by the SHA-256 of their keys) and `ignored` from the folder
 * index->root, whose labels are the places of its class folders in bytewise order. What failed is
 * left for data_index_release. ERR_INPUT names a class folder without pictures and a picture that
 * is empty, too large or gone; ERR_STOPPED. */
int data_folder_read(struct data_index *index, const volatile sig_atomic_t *cancel,
                     struct err *err);

#endif
