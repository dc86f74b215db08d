/*
 * trainer/weights/packed.h -- the files in a tar, compressed by gzip or not, in memory.
 *
 * SageMaker keeps what a training leaves as one model.tar.gz, and gives it to the next one as the
 * channel `model`, packed or not. Source: Amazon SageMaker Developer Guide, "Incremental Training".
 *
 * Nothing in the tar is believed: a gzip is unpacked as the files are walked through, never as a
 * whole, its sum is checked, and memory is taken for a file only when its size was looked at.
 */
#ifndef WEIGHTS_PACKED_H
#define WEIGHTS_PACKED_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

struct err;

/* A tar. */
struct weights_packed {
    const void *bytes; /* (count) the caller's */
    size_t count;
    const char *path; /* names it in errors */
    size_t bytes_max; /* of one file in it that is taken */
};

/* A file in it, valid until the next is asked for. */
struct weights_member {
    const char *path; /* without a "./" in front */
    size_t bytes;
};

/** Whether these bytes begin as a gzip does. */
bool weights_is_packed(const void *bytes, size_t count);

/** Walk through the files of a tar. `packed` outlives the walk. Close accepts NULL. */
struct weights_walk *weights_walk_open(const struct weights_packed *packed);
void weights_walk_close(struct weights_walk *walk);

/** The next file; folders and links are passed over. 1 with *member; 0 at the end, when all of the
 * gzip was found to be right; -1, ERR_INPUT: no tar, damaged, cut short, or more than
 * WEIGHTS_PACKED_FILES_MAX entries or WEIGHTS_UNPACKED_BYTES_MAX. */
int weights_walk_next(struct weights_walk *walk, struct weights_member *member, struct err *err);
#define WEIGHTS_PACKED_FILES_MAX   10000
#define WEIGHTS_UNPACKED_BYTES_MAX ((unsigned long long)8 << 30)

/** Append the bytes of the file that the walk is at, once. ERR_INPUT: damaged, or more than
 * bytes_max; ERR_MEMORY. */
int weights_walk_take(struct weights_walk *walk, struct buf *out, struct err *err);

/* What was unpacked. */
struct weights_unpacked {
    struct buf content;
    char *name;
};

/** The weights of a tar: the best name (choice.h) of those in its topmost folder. ERR_INPUT: as the
 * walk, or there are none; ERR_MEMORY. Release accepts all-zero. */
int weights_unpack(const struct weights_packed *packed, struct weights_unpacked *out,
                   struct err *err);
void weights_unpacked_release(struct weights_unpacked *unpacked);

#endif
