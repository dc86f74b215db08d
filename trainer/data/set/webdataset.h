/*
 * trainer/data/set/webdataset.h -- other people's tars of pictures: KEY.jpg (.jpeg, .png) beside
 * KEY.cls.
 *
 * Source: the WebDataset format (github.com/webdataset/webdataset, README): a key is a member's
 * path up to the first dot of its last part, members of one key follow each other, KEY.cls holds a
 * whole number as text. Other members (KEY.json, KEY.txt, folders, names that begin with a dot) are
 * passed over. Samples keep the order of the tars, and tars that of their names: they are not
 * sorted by key.
 */
#ifndef DATA_SET_WEBDATASET_H
#define DATA_SET_WEBDATASET_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "trainer/data/foreign/member.h"

struct buf;
struct data_bytes;
struct data_index;
struct data_manifest;
struct err;

/* A walk over the samples of one run of bytes. Init by all zero but bytes and joined. */
struct data_webdataset {
    struct data_bytes *bytes; /* the caller's */
    bool joined;              /* as data_member_next */
    uint64_t at;
    struct data_member member;
    /* the key in hand */
    char stem[DATA_MEMBER_NAME_MAX + 1];
    uint64_t stem_at;
    bool begun, has_picture, has_class;
    /* the sample, once both are there */
    char name[DATA_MEMBER_NAME_MAX + 1]; /* of the picture's member */
    int32_t label;
    uint64_t offset, picture_bytes; /* the picture; of no bytes: empty */
};

/** Go on to the next sample; picture (may be NULL) gets its bytes. 1; 0 at the end; -1: ERR_INPUT
 * with file and place: a key without a picture or a class, with two pictures, a class that is no
 * number, a picture above 2 GiB (1 GiB where it is to be read); what data_member_next says. */
int data_webdataset_next(struct data_webdataset *set, struct buf *picture, struct err *err);

/**
 * Fill classes (numbers.h), samples and files from the folder index->root, local or in S3, of tars
 * without an index: every tar's headers are read once, several tars at a time. manifest: its tars
 * only, in whatever folders below index->root, its root; NULL: those directly in the folder.
 *
 * What was found is kept in DIR/index/ (data_webdataset_keep; else in a folder of this user's in
 * TMPDIR), a file for each tar, with a CRC-32C and what the tar was known by: name, length, and
 * ETag or times. A tar that is as it was is not read again; of one that changed the file is
 * replaced. A file that is damaged counts for nothing, and where none can be written the scan is
 * done again the next time, which is warned of. No sample has a CRC-32C (0).
 *
 * ERR_INPUT: as data_webdataset_next; a folder that `convoy pack` has not finished; ERR_NET,
 * ERR_STOPPED.
 */
int data_webdataset_read(struct data_index *index, struct data_manifest *manifest,
                         const volatile sig_atomic_t *cancel, struct err *err);

/** Where indices of tars are kept, for the whole process: below this folder (copied), NULL: below
 * TMPDIR. Before other threads run. */
void data_webdataset_keep(const char *folder);

#endif
