/*
 * trainer/checkpoint/checkpoint.h -- a folder of checkpoints of which the newest that verifies is
 * the latest.
 *
 * A checkpoint is one immutable file, step-%012d-g%d.safetensors (step and generation), made
 * visible by one rename (the commit). Its metadata key "data_sha256" holds the digest of its data
 * section; a file whose digest does not match is passed over, with a warning, and the next older
 * one is taken. Newer means a higher generation, and in one generation a higher step: a run that
 * was begun anew in a folder supersedes what lies there, however far that had come. README.md of
 * this folder describes the contents.
 */
#ifndef CHECKPOINT_CHECKPOINT_H
#define CHECKPOINT_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "trainer/checkpoint/safetensors.h"

struct err;

struct checkpoint_name {
    uint64_t step;
    int generation;
};

/** Save and commit: write, fsync, rename, fsync of the folder; then delete all but the newest
 * `keep` (>= 1) files, never the one just written. metadata may not hold data_sha256: it is added
 * here. ERR_IO (disk full, no permission) leaves the folder as it was, without the temporary file.
 * `path_out`, if not NULL, is the committed path (heap, the caller frees). Blocks. */
int checkpoint_save(const char *folder, struct checkpoint_name name,
                    struct safetensors_entry *entries, size_t entry_count,
                    const struct safetensors_pair *metadata, size_t metadata_count, int keep,
                    char **path_out, struct err *err);

/** Open the newest checkpoint of a folder that verifies. Files that do not are named in a warning
 * each. Names with other patterns, temporary files and SageMaker's markers (*.sagemaker-uploading,
 * -uploaded, -ignore) are passed over. Returns 1 with *file open and *path set (heap, the caller
 * frees); 0 when there is none (or no folder); -1: the folder, or a file that may be whole, cannot
 * be read (ERR_IO, ERR_MEMORY). */
int checkpoint_open_latest(const char *folder, struct safetensors *file, char **path,
                           struct err *err);

/** The highest generation among a folder's files, damaged ones too; 0 where there are none. ERR_IO,
 * ERR_INPUT. */
int checkpoint_last_generation(const char *folder, int *generation, struct err *err);

/** Open one file and verify it: ERR_INPUT if it does not. */
int checkpoint_open(const char *path, struct safetensors *file, struct err *err);

/** Remove temporary files that a killed process left behind. Only for the one writer of a folder,
 * at its start. */
void checkpoint_clean(const char *folder);

#endif
