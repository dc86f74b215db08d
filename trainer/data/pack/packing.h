/*
 * trainer/data/pack/packing.h -- the note of a pack that is under way, "packing.json" in its
 * target.
 *
 * It says what is packed: the source's identity (source.h) and the length of shards. It appears
 * before the first shard, in a target without any, and goes when all is done. So shards beside it
 * are its pack's, and the same command from the same source may go on with those that are whole.
 *
 * It also says who packs, so that two never pack into one target. In a local folder its owner holds
 * its lock: the second is refused. In a bucket, which has no locks, the second takes it over, by a
 * write over what it read and nothing newer; the first finds out before its next shard, and ends.
 */
#ifndef DATA_PACK_PACKING_H
#define DATA_PACK_PACKING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"

struct data_target;
struct err;

/** A note of this process. */
struct data_packing {
    char *path; /* NULL: there is none */
    char *text; /* of a bucket: what is written there */
    int fd;     /* of a local folder: holds the lock */
};

/** Whether a pack is under way, or was broken off, in a folder. */
int data_packing_find(const char *folder, bool *there, struct err *err);

/**
 * Write the note; or, where it is there already, compare and take it over: *resumes tells, and it
 * is not the target's yet. What a dead process left half-written in a local folder is removed.
 * ERR_INPUT where it is of another source, of a source that changed since, of another length of
 * shards, or another process packs there; then nothing is changed, and release is all that is left.
 */
int data_packing_begin(struct data_packing *packing, struct data_target *target, const char *folder,
                       const char *source, const unsigned char identity[DIGEST_SHA256_BYTES],
                       uint64_t shard_bytes, bool *resumes, struct err *err);

/** The note that was there becomes the target's, as data_target_own. */
void data_packing_own(const struct data_packing *packing, struct data_target *target);

/** Whether the note is still this process's: ERR_INPUT where another took it over or it was
 * removed: what is in the target is not ours any more. */
int data_packing_check(const struct data_packing *packing, struct err *err);

/** Remove the note. What cannot be removed is warned of: it does no harm beside index.json. */
void data_packing_end(const struct data_packing *packing, struct data_target *target);
/** The lock ends here; the note stays if it did not end. Accepts all-zero. */
void data_packing_release(struct data_packing *packing);

#endif
