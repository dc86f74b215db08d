/*
 * trainer/data/set/open.h -- find out what a data set is, and read its index.
 *
 * Sources: a folder per class (ROOT/CLASS/x.jpg, .jpeg or .png, any case), a folder of tar
 * shards written by `convoy pack` (trainer/data/pack/README.md describes the files), or of tars
 * that others wrote (webdataset.h); each may lie in a bucket, ROOT is s3://BUCKET/PREFIX then
 * (place.h), and is the same index. So is what a manifest names (manifest.h).
 */
#ifndef DATA_SET_OPEN_H
#define DATA_SET_OPEN_H

#include <signal.h>
#include <stdint.h>

struct data_index;
struct err;

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

/** The same without looking at the number of classes. */
int data_index_open_any(struct data_index *index, const char *root,
                        const volatile sig_atomic_t *cancel, struct err *err);

/** As data_index_open, but of our own shards with more than whole_max pictures only the top index
 * is read: in a second for any number of them. Its samples are read on demand and forgotten again
 * (pages.h), so who uses one holds it; and nobody can look at all of them, to split the index or to
 * count classes. The fingerprint is what the top index says; each shard is checked when it is read.
 */
int data_index_open_paged(struct data_index *index, const char *root, uint64_t whole_max,
                          char *const *class_names, int classes,
                          const volatile sig_atomic_t *cancel, struct err *err);

#endif
