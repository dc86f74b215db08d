/*
 * trainer/data/index/index.h -- which pictures there are: one entry a sample, in index order.
 *
 * It is opened by open.h. Index order: for a folder per class, samples sorted by the SHA-256 of
 * their key "CLASS/x.jpg"; shards are written in that order and keep it. Hence a folder and the
 * shards packed from it are the same index, up to where the bytes lie.
 */
#ifndef DATA_INDEX_H
#define DATA_INDEX_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"

struct buf;
struct err;

struct data_sample {
    const char *key; /* "CLASS/x.jpg" */
    uint64_t offset; /* where its bytes begin in the file */
    uint32_t bytes;
    uint32_t crc32c; /* shards: of its bytes (0: not known); a folder in S3: of its ETag's text (0:
                        it has none) */
    uint32_t file;   /* number of the shard; folders have a file per sample and leave it 0 */
    int32_t label;   /* -1: none, of given files */
};

/* Files of class folders that are not among the samples. */
struct data_left {
    size_t count;
    char *first; /* the bytewise first, "CLASS/name"; NULL: none, or the index is another rank's */
};

/* Of a joined index (join.h): samples that only one host can read. */
struct data_index_part {
    size_t begin, count;
};

struct data_pages;

struct data_index {
    char *root; /* the folder, or s3://BUCKET/PREFIX; "" where files.h made it of given files */
    bool sharded;
    size_t count;                /* samples */
    struct data_sample *samples; /* (count); NULL where they are read on demand: */
    struct data_pages *pages;    /* (pages.h), else NULL */
    int classes;
    char **class_names;       /* (classes) by bytewise order of names: label = place */
    size_t files;             /* shards: tar files */
    char **file_names;        /* (files) relative to root */
    char **file_etags;        /* (files) in S3, as listed; NULL elsewhere */
    uint64_t bytes;           /* of all samples */
    struct data_left ignored; /* no pictures by their name */
    struct data_left empty;   /* pictures by their name, of 0 bytes */
    unsigned char fingerprint[DIGEST_SHA256_BYTES]; /* over (key, label, bytes) of every sample in
                                                       order and the class names */
    char *keys;                                     /* storage of all keys */
    struct data_index_part *parts; /* (part_count) by host; NULL: each host has all */
    size_t part_count;
};

/** Accepts NULL and all-zero. */
void data_index_release(struct data_index *index);

/** For who has changed samples, classes or parts: sum the bytes and take the fingerprint. */
void data_index_seal(struct data_index *index);

/** Put the samples into index order: by the SHA-256 of their keys. A directory lists its files in
 * any order, and by name all of a class would stand together. ERR_MEMORY. */
int data_index_sort(struct data_index *index, struct err *err);
/** Bind it to an earlier index's classes; NULL: to its own, of which there must be two. ERR_INPUT
 * names a class that is not among them. */
int data_index_bind(struct data_index *index, char *const *class_names, int classes,
                    struct err *err);

/** For sources of their own: what data_index_open does to an index that has its classes and
 * samples. sort: put them into index order by their keys; else they keep theirs. */
int data_index_complete(struct data_index *index, bool sort, char *const *class_names, int classes,
                        struct err *err);

/** A sample may be looked at from hold to drop; of an index whose samples are all there that is
 * always so. hold may block while a shard's index is read, until cancel (may be NULL) becomes
 * non-zero; -1 as data_index_open, nothing is held then. Any thread. */
int data_index_hold(const struct data_index *index, uint64_t sample,
                    const volatile sig_atomic_t *cancel, struct err *err);
void data_index_drop(const struct data_index *index, uint64_t sample);
/** A sample that is held. */
const struct data_sample *data_index_sample(const struct data_index *index, uint64_t sample);

/** The index as bytes for another rank of the same build, and back (the root travels along). */
void data_index_encode(const struct data_index *index, struct buf *out);
int data_index_decode(struct data_index *index, const void *data, size_t bytes, struct err *err);

/** The file or object that holds a sample's bytes; heap, the caller frees. Of shards it need not be
 * held. */
char *data_index_path(const struct data_index *index, size_t sample);

/** Samples a chunk (DESIGN: about 4 MB by the mean size, 1 .. 256). */
size_t data_index_chunk_samples(const struct data_index *index);

#endif
