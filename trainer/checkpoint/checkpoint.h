/*
 * trainer/checkpoint/checkpoint.h -- a folder or s3://BUCKET/PREFIX of checkpoints, of which the
 * newest that verifies is the latest.
 *
 * A checkpoint is one immutable file or object, step-%012d-g%d.safetensors (step and generation),
 * made visible by one rename or one conditional PUT (the commit). Its metadata key "data_sha256"
 * holds the digest of its data section; a file whose digest does not match is passed over, with a
 * warning, and the next older one is taken. Newer means a higher generation, and in one generation
 * a higher step: a run that was begun anew in a place supersedes what lies there, however far that
 * had come. README.md of this folder describes the contents.
 */
#ifndef CHECKPOINT_CHECKPOINT_H
#define CHECKPOINT_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/weights/safetensors.h"

struct err;

/* Files that claim more are not ours: the next one has to be a number too. */
#define CHECKPOINT_GENERATION_MAX 999999999

struct checkpoint_name {
    uint64_t step;
    int generation;
};

/** Save and commit: in a folder write, fsync, rename, fsync of the folder; in S3 one upload that
 * never overwrites. Then delete all but the newest `keep` (>= 1) files, never the one just written.
 * metadata may not hold data_sha256: it is added here. A failure leaves the place as it was: ERR_IO
 * (disk full, no permission), ERR_NET, ERR_INPUT (what S3 refuses for good). `path_out`, if not
 * NULL, is the committed path (heap, the caller frees). Blocks. Who may commit in S3 is lease.h's
 * matter. */
int checkpoint_save(const char *where, struct checkpoint_name name,
                    struct safetensors_entry *entries, size_t entry_count,
                    const struct safetensors_pair *metadata, size_t metadata_count, int keep,
                    char **path_out, struct err *err);

/** Open the newest checkpoint that verifies. Files that do not are named in a warning each. Names
 * with other patterns, temporary files and SageMaker's markers (*.sagemaker-uploading, -uploaded,
 * -ignore) are passed over. Returns 1 with *file open and *path set (heap, the caller frees); 0
 * when there is none (or no folder); -1: the place, or a file that may be whole, cannot be read
 * (ERR_IO, ERR_MEMORY, ERR_NET, ERR_INPUT). An object is fetched into memory whole. */
int checkpoint_open_latest(const char *where, struct safetensors *file, char **path,
                           struct err *err);

/** The highest generation among a place's files, damaged ones too; 0 where there are none. ERR_IO,
 * ERR_INPUT, ERR_NET. */
int checkpoint_last_generation(const char *where, int *generation, struct err *err);

/** Open one file or object and verify it: ERR_INPUT if it does not. */
int checkpoint_open(const char *path, struct safetensors *file, struct err *err);

/** Whether a text names one checkpoint for checkpoint_open, not a place of them: all but a folder;
 * in S3 what ends in ".safetensors". */
bool checkpoint_is_file(const char *text);

/** Remove temporary files that a killed process left behind in a folder. Only for the one writer of
 * it, at its start. S3 has none. */
void checkpoint_clean(const char *folder);

#endif
