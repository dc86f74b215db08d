/*
 * tests/data/same.h -- whether two folders of shards are the same, byte for byte, and what is in
 * them.
 */
#ifndef TESTS_DATA_SAME_H
#define TESTS_DATA_SAME_H

#include <stddef.h>

struct buf;
struct data_index;

/** Pack a source of the tree (options.root: the folder "pets") into a folder of it; fails the test
 * where that fails. */
void same_pack(const char *source, const char *target, int threads);

/** Open a folder of the tree; fails the test where that fails. */
void same_open(struct data_index *index, const char *name);

/** Every file of one folder of the tree is in the other, with the same bytes, and no more. */
void same_folders(const char *one, const char *other);

/** A sample's bytes replace what is in `out`. */
void same_read(const struct data_index *index, size_t sample, struct buf *out);

#define SAME_SHARD_BYTES 16384

#endif
