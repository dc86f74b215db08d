/*
 * trainer/data/target.h -- what is written as shards: files of a folder, or objects of a bucket.
 *
 * Each appears whole under its name, and all that appeared is taken back where the rest fails.
 */
#ifndef DATA_TARGET_H
#define DATA_TARGET_H

#include <stdbool.h>
#include <stddef.h>

#include "s3io/object.h"

struct err;

struct data_target {
    char **paths; /* what has appeared, in that order */
    size_t count, capacity;
    bool lost;    /* another's now: nothing is removed any more */
    char *drafts; /* temporary folder of tars that go to a bucket; NULL while there is none */
};

/** Make a local folder where it is missing. */
int data_target_folder(struct data_target *target, const char *path, struct err *err);

/** Where the tar `path` is to be written: there, or, if it is to be an object, in a temporary
 * folder (in TMPDIR, else /tmp; room for one shard is needed). Heap, the caller frees; NULL:
 * ERR_IO.
 */
char *data_target_draft(struct data_target *target, const char *path, struct err *err);
/** Before the draft is finished, which makes a local one appear. */
void data_target_expect(struct data_target *target, const char *path);
/** The finished draft goes where it belongs: uploads and removes it, or does nothing. *etag is the
 * object's (heap), or NULL. ERR_INPUT where such an object appeared meanwhile. progress may be
 * NULL.
 */
int data_target_deliver(struct data_target *target, const char *draft, const char *path,
                        char **etag, s3_progress *progress, void *context, struct err *err);

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
