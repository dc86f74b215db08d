/*
 * tests/data/tree.h -- a folder of made-up pictures for one test case, removed after it.
 *
 * Nothing here decodes pictures: a JPEG's first bytes and some text will do.
 */
#ifndef TESTS_DATA_TREE_H
#define TESTS_DATA_TREE_H

#include <stddef.h>

#include "trainer/data/index/index.h"

/* cmocka's set-up and tear-down: tree_root is a new empty folder for each case. */
int tree_make(void **state);
int tree_remove(void **state);
extern char tree_root[64];

/** "tree_root/NAME"; good for the next eight calls. */
const char *tree_path(const char *name);

/** Write a file, and the folders above it. */
void tree_write(const char *name, const void *data, size_t bytes);

/** A file that begins like a JPEG (or PNG, by its name) and goes on with its own name and `padding`
 * more bytes. */
void tree_picture(const char *name, size_t padding);

/** `count` pictures FOLDER/CLASS/N.jpg of sizes that differ. */
void tree_class(const char *folder, const char *class, int count);

/** The index of a folder of the tree; fails the test where it has none. The caller releases it. */
struct data_index tree_index(const char *name);

/** Change a file's length. */
void tree_truncate(const char *name, long bytes);

/** Files and folders below a folder of the tree, hidden ones too. */
size_t tree_count(const char *name);

#endif
