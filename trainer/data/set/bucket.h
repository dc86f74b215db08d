/*
 * trainer/data/set/bucket.h -- a folder per class as it lies in a bucket, as an index.
 */
#ifndef DATA_SET_BUCKET_H
#define DATA_SET_BUCKET_H

#include <signal.h>

struct data_index;
struct data_manifest;
struct err;

/** As data_folder_read for an index->root in S3, by one listing of all keys below it (a request for
 * each 1,000). A sample's crc32c is of its ETag's text. A key "CLASS/" is a class folder without
 * pictures; "CLASS/sub/..." counts as one ignored entry of CLASS, however many keys it has.
 * manifest: its objects only, index->root is its root; NULL: all. */
int data_bucket_read(struct data_index *index, struct data_manifest *manifest,
                     const volatile sig_atomic_t *cancel, struct err *err);

#endif
