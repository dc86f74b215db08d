/*
 * trainer/data/pack/source.h -- what can be packed: its samples in the order in which they go into
 * shards, and their bytes.
 *
 * A folder per class and a list (list_file.h) are put into index order, as training from them would
 * have it. RecordIO (a file NAME.rec) and other people's tars (webdataset.h) keep theirs: so they
 * are read through from the beginning to the end, and a stream of them gives the same shards.
 */
#ifndef DATA_PACK_SOURCE_H
#define DATA_PACK_SOURCE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/digest.h"
#include "trainer/data/foreign/bytes.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/place.h"

struct buf;
struct data_reader;
struct err;

struct data_source {
    struct data_index index;
    /* SHA-256 over all that tells that nothing of it changed: names, lengths, and times (mtime,
     * ctime) or ETags. */
    unsigned char identity[DIGEST_SHA256_BYTES];
    const volatile sig_atomic_t *cancel;
    struct data_reader *reader;         /* local files, whole or tars */
    struct data_place place;            /* the folder of a bucket */
    struct data_bytes file;             /* RecordIO */
    struct data_source_record *records; /* RecordIO: where each sample's record lies */
};

/** Whether a path is that of a single file of samples: a list or RecordIO. */
bool data_source_is_file(const char *path);

/**
 * Open a folder per class, a folder of tars, NAME.lst or NAME.rec; each may lie in a bucket.
 *
 * root         of a list: the folder that its paths are below; NULL: the list's own.
 * class_names  (classes) what labels are bound to, as data_index_open; NULL: what is found.
 *
 * Blocks: lists folders, reads headers of tars and records. ERR_INPUT: what data_index_open,
 * data_list_read and data_record_look say; shards that `convoy pack` wrote.
 */
int data_source_open(struct data_source *source, const char *path, const char *root,
                     char *const *class_names, int classes, const volatile sig_atomic_t *cancel,
                     struct err *err);
/** Accepts all-zero. */
void data_source_close(struct data_source *source);

/** Replace what is in `out` by a sample's bytes. Any number of threads. ERR_INPUT names what is
 * gone or was changed; ERR_IO, ERR_NET, ERR_STOPPED. */
int data_source_get(const struct data_source *source, size_t sample, struct buf *out,
                    struct err *err);

#endif
