/*
 * trainer/data/set/manifest.h -- a list of a bucket's objects as a dataset: these, and no others.
 *
 * Source: Amazon SageMaker API Reference, S3DataSource. A ManifestFile is a JSON array: first
 * {"prefix": "s3://BUCKET/START"}, then texts that are put behind START as they are. An
 * AugmentedManifestFile has a JSON object a line: "source-ref", the picture's s3:// URI, and its
 * label under a name of the user's (a whole number, also as text); "NAME-metadata" is passed over.
 * Which of both it is the first character tells. It lies in a bucket or is a local file.
 *
 * SageMaker expands manifests itself, in each input mode; this is for `--train s3://.../x.manifest`
 * without it. The folder that all objects share becomes the index's root: of pictures the one above
 * their class folders, so that the same pictures listed as a folder are the same index.
 */
#ifndef DATA_SET_MANIFEST_H
#define DATA_SET_MANIFEST_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/data/index/place.h"
#include "trainer/data/set/root.h"

struct data_index;
struct err;

/** Whether a path is that of a manifest: .manifest, .json or .jsonl, in any case, and no folder. */
bool data_manifest_is(const char *path);

struct data_manifest_entry {
    char *name;    /* below the root */
    size_t number; /* of the array's element, or the line; from 1 */
    int32_t label; /* -1: its folder tells */
    bool met;      /* the listing has it */
};

struct data_manifest {
    char *path;                          /* the caller's words for it */
    char *root;                          /* s3://BUCKET/FOLDER */
    enum data_root_kind kind;            /* DATA_ROOT_CLASSES, _TARS or _SHARDS */
    bool labelled;                       /* an augmented one: pictures in any folders */
    struct data_manifest_entry *entries; /* (count) by name */
    size_t count;
};

/** Read it. Not looked at: whether the objects are there. Blocks. ERR_INPUT names manifest and
 * entry: no manifest, above 256 MiB, nothing or something twice in it, other than texts, a prefix
 * that is none, a picture that is not in a class folder; pictures and tars at once; of an augmented
 * one a line without source-ref or a label, or with two that might be it, and two buckets.
 * ERR_STOPPED when cancel (may be NULL) became non-zero. Release accepts all-zero. */
int data_manifest_open(struct data_manifest *manifest, const char *path,
                       const volatile sig_atomic_t *cancel, struct err *err);
void data_manifest_release(struct data_manifest *manifest);

/** Whether it names this object below the root. */
bool data_manifest_has(const struct data_manifest *manifest, const char *name);

/** Visit its objects, however deep, as data_place_list; one that is not there is ERR_INPUT. With
 * manifest NULL: data_place_list of the folder, deep or not. */
int data_manifest_list(struct data_manifest *manifest, const char *folder, bool deep,
                       data_place_visit *visit, void *context, const volatile sig_atomic_t *cancel,
                       struct err *err);

/** Fill classes (numbers.h) and samples of an index from an augmented manifest, whose root it has.
 * Empty objects are counted in index->empty; a picture above 2 GiB is ERR_INPUT. */
int data_manifest_read_labelled(struct data_manifest *manifest, struct data_index *index,
                                const volatile sig_atomic_t *cancel, struct err *err);

#endif
