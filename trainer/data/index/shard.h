/*
 * trainer/data/index/shard.h -- the index file of one tar shard, "shard-000000.idx" (README.md has
 * its bytes).
 */
#ifndef DATA_INDEX_SHARD_H
#define DATA_INDEX_SHARD_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct data_sample;
struct err;

#define SHARD_TOP_NAME      "index.json"
#define SHARD_PACKING_NAME  "packing.json" /* while they are written (packing.h) */
#define SHARD_FORMAT        "convoy-shards"
#define SHARD_VERSION       1
#define SHARD_KEY_BYTES_MAX 1024 /* of a key, without its NUL */
#define TAR_BLOCK           512

struct data_shard_record {
    uint64_t offset; /* of the picture's bytes in the tar */
    uint32_t bytes, label, crc32c;
    uint32_t key; /* offset into the keys */
};

struct data_shard {
    uint64_t tar_bytes;
    size_t count;
    struct data_shard_record *records;
    size_t capacity;
    struct buf keys; /* NUL-terminated, in the records' order */
};
void data_shard_release(struct data_shard *shard);

/** Add a record (its `key` member is set here); the key is copied. */
void data_shard_add(struct data_shard *shard, const struct data_shard_record *record,
                    const char *key);
const char *data_shard_key(const struct data_shard *shard, size_t record);
void data_shard_encode(const struct data_shard *shard, struct buf *out);

/** Read an index file or object; of a damaged object two more times. ERR_INPUT names it: missing,
 * damaged, or not consistent with itself; ERR_STOPPED when cancel (may be NULL) became non-zero. */
int data_shard_read(struct data_shard *shard, const char *path, const volatile sig_atomic_t *cancel,
                    struct err *err);

/** The same of bytes at hand; path names them in errors. */
int data_shard_decode(struct data_shard *shard, const void *data, size_t bytes, const char *path,
                      struct err *err);

/* What the top index says of a shard. */
struct data_shard_top {
    uint64_t first; /* its first sample */
    uint64_t count, bytes, tar_bytes;
};
/** Compare with that, and the labels with the number of classes. ERR_INPUT names the index. */
int data_shard_check_top(const struct data_shard *shard, const struct data_shard_top *top,
                         int classes, const char *index_path, struct err *err);

/** A record as a sample of shard `file` of a folder. Its key is the shard's. */
struct data_sample data_shard_sample(const struct data_shard *shard, size_t record, uint32_t file);

/** Compare with the tar itself: its length, and the headers before the first and the last picture;
 * first_sample is the index place of the first. ERR_INPUT names the tar that is missing or cut
 * short, or tar and index that do not match. */
int data_shard_check_tar(const struct data_shard *shard, const char *tar_path,
                         const char *index_path, uint64_t first_sample, struct err *err);

/** The length alone: all that can be said of an object without reading it. */
int data_shard_check_bytes(const struct data_shard *shard, const char *tar_path,
                           const char *index_path, uint64_t bytes, struct err *err);

/** Whether a file's name is one of `convoy pack`: "shard-000000" and the extension (".tar"). */
bool data_shard_is_name(const char *name, const char *extension);
/** "DIR/NAME.tar" -> "DIR/NAME.idx"; heap, the caller frees. */
char *data_shard_index_path(const char *tar_path);

#endif
