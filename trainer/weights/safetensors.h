/*
 * trainer/weights/safetensors.h -- the file format of models and checkpoints.
 *
 * Source: github.com/huggingface/safetensors, "Format": 8 bytes little-endian length of the header;
 * a JSON object (padded with spaces so that the data begin at a multiple of 8) of {NAME: {"dtype",
 * "shape", "data_offsets"}} and
 * {"__metadata__": {string: string}}; then the tensors, row-major, little-endian, without holes.
 * Ours come I64 first, then F32, each by name bytewise, so that equal contents are equal files.
 */
#ifndef WEIGHTS_SAFETENSORS_H
#define WEIGHTS_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"

struct err;
struct file_new;

/* The order is that of the tensors in our own files, which hold the first two only. */
enum safetensors_type {
    SAFETENSORS_I64,
    SAFETENSORS_F32,
    SAFETENSORS_F64,
    SAFETENSORS_F16,
    SAFETENSORS_BF16,
    SAFETENSORS_I32,
    SAFETENSORS_I16,
    SAFETENSORS_I8,
    SAFETENSORS_U8,
    SAFETENSORS_BOOL,
};

#define SAFETENSORS_DIMS_MAX 4

struct safetensors_entry {
    const char *name;
    enum safetensors_type type;
    int dims; /* 0 .. 4; 0 is a scalar */
    uint64_t size[SAFETENSORS_DIMS_MAX];
    const void *data; /* contiguous; writing: the caller's; reading: inside the mapped file */
};

struct safetensors_pair {
    const char *key, *value;
};

/* Names of a file's parts while it is read. */
struct safetensors {
    struct safetensors_entry *entries;
    size_t entry_count;
    struct safetensors_pair *metadata;
    size_t metadata_count;
    const void *data; /* the data section */
    size_t data_bytes;
    void *map; /* the reader's own from here on */
    size_t map_bytes;
    bool foreign;
    void *header;
};

/** SHA-256 of the data section that these entries will have. Sorts the entries into the file's
 * order. */
void safetensors_digest(struct safetensors_entry *entries, size_t count,
                        unsigned char sha[DIGEST_SHA256_BYTES]);

/** Write header and data to an open new file. Sorts the entries. metadata is written in the order
 * given. Two entries of one name are our mistake (asserted). */
int safetensors_write(struct file_new *file, struct safetensors_entry *entries, size_t count,
                      const struct safetensors_pair *metadata, size_t metadata_count,
                      struct err *err);

/** Map a file and check all of it: header length and JSON (100 MB at most), types (I64, F32),
 * shapes against offsets, no holes or overlaps, the data section exactly as long as the file.
 * ERR_INPUT names the file and what is wrong; a missing file too. */
int safetensors_open(struct safetensors *file, const char *path, struct err *err);
/** The same for a file that is open already; fd stays the caller's and may be closed at once. path
 * names it in errors. */
int safetensors_open_fd(struct safetensors *file, int fd, const char *path, struct err *err);
/** The same for a file of other programs in memory, which may have every type above, and data at
 * any alignment: read them with memcpy. `bytes` has to stay until safetensors_close. */
int safetensors_open_bytes(struct safetensors *file, const void *bytes, size_t count,
                           const char *path, struct err *err);
void safetensors_close(struct safetensors *file);

/** Bytes of an element. */
size_t safetensors_type_bytes(enum safetensors_type type);

/** Look up; NULL if absent. */
const struct safetensors_entry *safetensors_find(const struct safetensors *file, const char *name);
const char *safetensors_metadata(const struct safetensors *file, const char *key);

#endif
