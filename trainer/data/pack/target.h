/*
 * trainer/data/pack/target.h -- what is written as shards: files of a folder, or objects of a
 * bucket.
 *
 * Each appears whole under its name, and all that appeared is taken back where the rest fails.
 */
#ifndef DATA_PACK_TARGET_H
#define DATA_PACK_TARGET_H

#include <stdbool.h>
#include <stddef.h>

#include "s3io/object.h"

struct err;

struct data_target {
    char **paths; /* what has appeared, in that order */
    size_t count, capacity;
    bool lost; /* another's now: nothing is removed any more */
};

/** Make a local folder where it is missing. */
int data_target_folder(struct data_target *target, const char *path, struct err *err);

/** Before a tar is finished at `path`, which makes a local one appear. */
void data_target_expect(struct data_target *target, const char *path);
/** The finished tar goes where it belongs: uploads the file fd, or, of a local one, does nothing.
 * *etag is the object's (heap), or NULL. progress may be NULL. S3_YES; S3_NO: such an object is
 * there, and stays what it is; or -1. */
int data_target_deliver(struct data_target *target, int fd, const char *path, char **etag,
                        s3_progress *progress, void *context, struct err *err);

/** Write a small file or object as a whole. In a bucket only where there is none of that name. */
int data_target_put(struct data_target *target, const char *path, const void *data, size_t bytes,
                    struct err *err);

/** An object over the one that has this ETag; what it is of stays as it was: S3_YES, S3_NO (another
 * wrote there), or -1. */
int data_target_put_over(const char *path, const void *data, size_t bytes, const char *etag,
                         struct err *err);

/** What an earlier pack of the same kind left is this one's too. */
void data_target_own(struct data_target *target, const char *path);
/** Remove what is ours, if it is there, before the end. What cannot be removed is warned of. */
void data_target_forget(struct data_target *target, const char *path);

/** undo: remove what appeared; folders only if they are empty, another may have put something there
 * meanwhile. What could not be removed from a bucket is warned of. Accepts all-zero. */
void data_target_release(struct data_target *target, bool undo);

#endif
