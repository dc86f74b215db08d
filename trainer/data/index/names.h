/*
 * trainer/data/index/names.h -- a list of names on the heap, each and all: of classes, of files.
 */
#ifndef DATA_INDEX_NAMES_H
#define DATA_INDEX_NAMES_H

#include <stddef.h>

/** The caller frees it, by data_names_free; never NULL. */
char **data_names_copy(char *const *names, size_t count);
/** Accepts NULL, and a list of which only the first names are there: the others are NULL. */
void data_names_free(char **names, size_t count);

#endif
