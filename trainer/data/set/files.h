/*
 * trainer/data/set/files.h -- given pictures as an index: these, in this order, without labels.
 *
 * What a person names to have it looked at: files, folders of them, shards, or a place in a bucket.
 * An evaluation's stream over the index (stream.h, with leave_unreadable) gives them in order and
 * tells of each that is no picture.
 */
#ifndef DATA_SET_FILES_H
#define DATA_SET_FILES_H

#include <signal.h>
#include <stddef.h>

struct data_index;
struct err;

/**
 * Make an index of `count` paths, in their order.
 *
 * A file is one sample, whatever its name, also where it is missing, empty, above 2 GiB or none
 * that can be read: the stream tells. A folder is all pictures by their name below it, however
 * deep, in bytewise order of their paths; hidden names are passed over and others counted in
 * index->ignored; what cannot be read below it (a picture that is empty, a link that leads nowhere,
 * a folder) is a sample all the same. A sample's key is its path, as it was given and with
 * what was found below it. Shards (a folder with index.json) and s3:// places have to be the only
 * path. Shards keep order, keys and labels that they have. In a bucket a path is an object, or a
 * prefix with all pictures below it; root is the folder of the keys then, and pictures of 0 bytes
 * are left out and counted in index->empty.
 *
 * Labels are -1, but for shards'; classes is 0, and there is no fingerprint. Blocks. cancel (may be
 * NULL) as in data_index_open. ERR_INPUT: nothing that could be a picture below a path, folders
 * nested too deep (a symbolic link that leads back); ERR_USAGE: shards or s3:// among others.
 */
int data_files_open(struct data_index *index, const char *const *paths, size_t count,
                    const volatile sig_atomic_t *cancel, struct err *err);

#endif
