/*
 * trainer/data/packing.h -- the note of a pack that is under way, "packing.json" in its target.
 *
 * It says what is packed: the source's identity (source.h) and the length of shards. It appears
 * before the first shard, in a target without any, and goes when all is done. So shards beside it
 * are its pack's, and the same command from the same source may go on with those that are whole.
 */
#ifndef DATA_PACKING_H
#define DATA_PACKING_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"

struct data_target;
struct err;

#define DATA_PACKING_NAME "packing.json"

/** Whether a pack is under way, or was broken off, in a folder. */
int data_packing_find(const char *folder, bool *there, struct err *err);

/**
 * Write the note; or, where it is there already, compare: *resumes tells, and it is not the
 * target's yet. What a dead process left half-written in a local folder is removed. ERR_INPUT where
 * it is of another source, of a source that changed since, or of another length of shards.
 */
int data_packing_begin(struct data_target *target, const char *folder, const char *source,
                       const unsigned char identity[DIGEST_SHA256_BYTES], uint64_t shard_bytes,
                       bool *resumes, struct err *err);

/** The note that was there becomes the target's, as data_target_own. */
void data_packing_own(struct data_target *target, const char *folder);

/** Remove the note. What cannot be removed is warned of: it does no harm beside index.json. */
void data_packing_end(struct data_target *target, const char *folder);

#endif
