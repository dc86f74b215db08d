/*
 * trainer/data/index.h -- which pictures there are: one entry a sample, in index order.
 *
 * Sources: a folder per class (ROOT/CLASS/x.jpg, .jpeg or .png, any case), a folder of tar
 * shards written by `convoy pack` (README.md of this folder describes the files), or of tars that
 * others wrote (webdataset.h); each may lie in a bucket, ROOT is s3://BUCKET/PREFIX then (place.h),
 * and is the same index. So is what a manifest names (manifest.h). Index order: for a folder per
 * class, samples sorted by the SHA-256 of their key "CLASS/x.jpg"; shards are written in that order
 * and keep it. Hence a folder and the shards packed from it are the same index, up to where the
 * bytes lie.
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

/**
 * Read the index of a folder. class_names (classes of them) binds labels to an earlier index's
 * classes (validation against training): a folder that is not among them is ERR_INPUT; NULL takes
 * the classes as found.
 *
 * Blocks (it lists folders and asks for sizes; pictures themselves are not opened). cancel may be
 * NULL; when it becomes non-zero: ERR_STOPPED. ERR_INPUT names the folder or file: missing, empty,
 * one class only, no pictures (but empty ones), a shard whose length or index does not match, what
 * data_webdataset_read says; in S3 also what s3_list and s3_object_load say.
 */
int data_index_open(struct data_index *index, const char *root, char *const *class_names,
                    int classes, const volatile sig_atomic_t *cancel, struct err *err);
void data_index_release(struct data_index *index);

/** The same without looking at the number of classes. */
int data_index_open_any(struct data_index *index, const char *root,
                        const volatile sig_atomic_t *cancel, struct err *err);

/** For who has changed samples, classes or parts: sum the bytes and take the fingerprint. */
void data_index_seal(struct data_index *index);

/** For sources of their own: what data_index_open does to an index that has its classes and
 * samples. sort: put them into index order by their keys; else they keep theirs. */
int data_index_complete(struct data_index *index, bool sort, char *const *class_names, int classes,
                        struct err *err);

/** As data_index_open, but of our own shards with more than whole_max pictures only the top index
 * is read: in a second for any number of them. Its samples are read on demand and forgotten again
 * (pages.h), so who uses one holds it; and nobody can look at all of them, to split the index or to
 * count classes. The fingerprint is what the top index says; each shard is checked when it is read.
 */
int data_index_open_paged(struct data_index *index, const char *root, uint64_t whole_max,
                          char *const *class_names, int classes,
                          const volatile sig_atomic_t *cancel, struct err *err);

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
