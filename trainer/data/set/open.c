#include "trainer/data/set/open.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/text.h"
#include "trainer/data/index/entry.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/numbers.h"
#include "trainer/data/index/place.h"
#include "trainer/data/set/bucket.h"
#include "trainer/data/set/folder.h"
#include "trainer/data/set/manifest.h"
#include "trainer/data/set/root.h"
#include "trainer/data/set/shards.h"
#include "trainer/data/set/webdataset.h"

#define REMOTE_READS_MAX 3

static int refuse(const char *root, enum data_root_kind kind, struct err *err)
{
    switch (kind) {
    case DATA_ROOT_SPLITS:
        return err_set(err, ERR_INPUT,
                       "'%s' holds a folder 'train': give that one, or the whole as --data", root);
    case DATA_ROOT_PICTURES:
        return err_set(err, ERR_INPUT,
                       "the pictures of '%s' lie in no class folder: a folder per class is needed",
                       root);
    default:
        return err_set(err, ERR_INPUT, "'%s' is empty: a folder per class, or shards, are needed",
                       root);
    }
}

/* As it is told: it could not be computed without all keys. */
static int take_fingerprint(struct data_index *index, const char *hex, struct err *err)
{
    return digest_from_hex(hex, index->fingerprint)
               ? 0
               : err_set(err, ERR_INPUT, "'%s/index.json': 'fingerprint' is no SHA-256 in hex",
                         index->root);
}

static int read_shards(struct data_index *index, uint64_t whole_max,
                       const volatile sig_atomic_t *cancel, struct err *err)
{
    char wanted[DIGEST_HEX_CHARS], found[DIGEST_HEX_CHARS];

    if (data_shards_read(index, whole_max, wanted, cancel, err) < 0)
        return -1;
    if (index->pages != NULL)
        return take_fingerprint(index, wanted, err);
    data_index_seal(index);
    digest_hex(index->fingerprint, found);
    if (strcmp(wanted, found) != 0)
        return err_set(err, ERR_INPUT,
                       "the fingerprint of '%s/index.json' does not match its shards: pack again",
                       index->root);
    return 0;
}

static int read_folder(struct data_index *index, struct data_manifest *manifest,
                       const volatile sig_atomic_t *cancel, struct err *err)
{
    const int rc = data_place_is_remote(index->root)
                       ? data_bucket_read(index, manifest, cancel, err)
                       : data_folder_read(index, cancel, err);

    if (rc < 0 || data_index_sort(index, err) < 0)
        return -1;
    data_index_seal(index);
    return 0;
}

static int read_tars(struct data_index *index, struct data_manifest *manifest,
                     const volatile sig_atomic_t *cancel, struct err *err)
{
    if (data_webdataset_read(index, manifest, cancel, err) < 0)
        return -1;
    data_numbers_name(index, false);
    data_index_seal(index);
    return 0;
}

/* The shards are all of a manifest's, and it has no tar that is none of them. */
static int check_named(const struct data_index *index, const struct data_manifest *manifest,
                       struct err *err)
{
    size_t tars = 0;

    for (size_t f = 0; f < index->files; f++)
        if (!data_manifest_has(manifest, index->file_names[f]))
            return err_set(err, ERR_INPUT,
                           "'%s' does not name '%s/%s', a shard of the index.json that it names: "
                           "name all of them",
                           manifest->path, index->root, index->file_names[f]);
    for (size_t i = 0; i < manifest->count; i++)
        tars += data_entry_is_tar(manifest->entries[i].name);
    return tars == index->files
               ? 0
               : err_set(err, ERR_INPUT, "'%s' names %zu tars, the index.json in '%s' %zu",
                         manifest->path, tars, index->root, index->files);
}

static int read_labelled(struct data_index *index, struct data_manifest *manifest,
                         const volatile sig_atomic_t *cancel, struct err *err)
{
    if (data_manifest_read_labelled(manifest, index, cancel, err) < 0 ||
        data_index_sort(index, err) < 0)
        return -1;
    data_index_seal(index);
    return 0;
}

/* The root becomes the folder that what it names lies in. */
static int read_manifest(struct data_index *index, uint64_t whole_max, bool *again,
                         const volatile sig_atomic_t *cancel, struct err *err)
{
    struct data_manifest manifest = {0};
    int rc;

    if (data_manifest_open(&manifest, index->root, cancel, err) < 0)
        return -1;
    free(index->root);
    index->root = text_copy(manifest.root);
    *again = manifest.kind == DATA_ROOT_SHARDS;
    if (manifest.kind == DATA_ROOT_SHARDS)
        rc = read_shards(index, whole_max, cancel, err) < 0 ? -1
                                                            : check_named(index, &manifest, err);
    else if (manifest.kind == DATA_ROOT_TARS)
        rc = read_tars(index, &manifest, cancel, err);
    else if (manifest.labelled)
        rc = read_labelled(index, &manifest, cancel, err);
    else
        rc = read_folder(index, &manifest, cancel, err);
    data_manifest_release(&manifest);
    return rc;
}

/* *again: shards, a manifest, or nothing that looks like pictures, in a bucket. Neither a listing
 * nor index.json has a checksum: what does not fit may fit when it is read again. */
static int open_once(struct data_index *opened, uint64_t whole_max, bool *again,
                     const volatile sig_atomic_t *cancel, struct err *err)
{
    enum data_root_kind kind;

    *again = data_place_is_remote(opened->root);
    if (data_root_look(opened->root, &kind, cancel, err) < 0)
        return -1;
    if (kind == DATA_ROOT_MANIFEST)
        return read_manifest(opened, whole_max, again, cancel, err);
    if (kind == DATA_ROOT_SHARDS)
        return read_shards(opened, whole_max, cancel, err);
    if (kind != DATA_ROOT_CLASSES && kind != DATA_ROOT_TARS)
        return refuse(opened->root, kind, err);
    *again = false; /* a listing of all pictures takes its time, and so do the headers of tars */
    if (kind == DATA_ROOT_TARS)
        return read_tars(opened, NULL, cancel, err);
    return read_folder(opened, NULL, cancel, err);
}

static int open_any(struct data_index *index, const char *root, uint64_t whole_max,
                    const volatile sig_atomic_t *cancel, struct err *err)
{
    struct data_index opened = {0};
    struct err unseen = {0};
    bool again = true;
    int rc = -1;

    err = err == NULL ? &unseen : err;
    for (int reads = 0; reads < REMOTE_READS_MAX && rc < 0 && again; reads++) {
        data_index_release(&opened);
        opened.root = text_copy(root);
        rc = open_once(&opened, whole_max, &again, cancel, err);
        again = again && rc < 0 && err->code == ERR_INPUT;
    }
    if (rc < 0)
        data_index_release(&opened);
    else
        *index = opened;
    return rc;
}

int data_index_open_any(struct data_index *index, const char *root,
                        const volatile sig_atomic_t *cancel, struct err *err)
{
    return open_any(index, root, UINT64_MAX, cancel, err);
}

int data_index_open(struct data_index *index, const char *root, char *const *class_names,
                    int classes, const volatile sig_atomic_t *cancel, struct err *err)
{
    return data_index_open_paged(index, root, UINT64_MAX, class_names, classes, cancel, err);
}

int data_index_open_paged(struct data_index *index, const char *root, uint64_t whole_max,
                          char *const *class_names, int classes,
                          const volatile sig_atomic_t *cancel, struct err *err)
{
    struct data_index opened = {0};
    int rc = open_any(&opened, root, whole_max, cancel, err);

    if (rc < 0)
        return -1;
    rc = data_index_bind(&opened, class_names, classes, err);
    if (rc < 0)
        data_index_release(&opened);
    else
        *index = opened;
    return rc;
}
