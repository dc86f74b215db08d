/*
 * trainer/data/pack/tar.h -- write a tar file (POSIX ustar, by libarchive) whose bytes depend on
 * its members only.
 *
 * Members have mtime 0, uid and gid 0, mode 0644. The file appears under its name when it is
 * finished, not before.
 */
#ifndef DATA_PACK_TAR_H
#define DATA_PACK_TAR_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/file.h"

struct data_tar {
    struct archive *archive; /* libarchive's; NULL when not open */
    struct file_new file;
    uint64_t bytes;     /* written so far, without what ends a tar */
    struct err failure; /* of writing, once it failed */
};

/** The tar stays where it is until it is released. */
int data_tar_open(struct data_tar *tar, const char *path, struct err *err);
/** One that is read from its file.fd and gone after release (file_new_open_nameless). */
int data_tar_open_nameless(struct data_tar *tar, const char *path, struct err *err);

/** Append a member of a name of at most 100 bytes; *offset (may be NULL) is where its content lies
 * in the file. */
int data_tar_put(struct data_tar *tar, const char *name, const void *data, size_t bytes,
                 uint64_t *offset, struct err *err);

/** End the tar and let it appear, if it has a name; *bytes is its length. On failure only
 * data_tar_release is left to do. */
int data_tar_finish(struct data_tar *tar, uint64_t *bytes, struct err *err);

/** Remove what was not finished. Accepts all-zero. */
void data_tar_release(struct data_tar *tar);

#endif
