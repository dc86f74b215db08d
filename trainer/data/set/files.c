#include "trainer/data/set/files.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/uri.h"
#include "trainer/data/index/builder.h"
#include "trainer/data/index/entry.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/place.h"
#include "trainer/data/set/folder.h"
#include "trainer/data/set/open.h"
#include "trainer/data/set/root.h"

#define DEPTH_MAX 32 /* of folders in folders */

struct files {
    struct data_index *index;
    struct data_builder builder;
    const volatile sig_atomic_t *cancel;
    const char *wanted; /* of a bucket's folder: the one object, or NULL for all pictures */
};

static int add(struct files *files, const char *path, uint64_t bytes, uint32_t etag,
               struct err *err)
{
    const struct data_sample sample = {.bytes = (uint32_t)bytes, .crc32c = etag, .label = -1};

    return data_builder_add(&files->builder, &sample, path, err);
}

/* What cannot be read, or is too long to be, has 0 bytes here: reading it will say why. */
static int add_local(struct files *files, const char *path, const struct stat *stat_of,
                     struct err *err)
{
    const bool fits = stat_of != NULL && stat_of->st_size <= INT32_MAX;

    return add(files, path, fits ? (uint64_t)stat_of->st_size : 0, 0, err);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_visible(const struct dirent *entry)
{
    return !data_entry_is_hidden(entry->d_name);
}

static int add_folder(struct files *files, const char *path, int depth, struct err *err);

/* One entry of a folder. A link that leads nowhere is what its name says. */
static int add_entry(struct files *files, const char *path, int depth, struct err *err)
{
    struct stat stat_of;
    const bool there = stat(path, &stat_of) == 0;

    if (there && S_ISDIR(stat_of.st_mode))
        return add_folder(files, path, depth + 1, err);
    if ((!there || S_ISREG(stat_of.st_mode)) && data_entry_is_picture(path))
        return add_local(files, path, there ? &stat_of : NULL, err);
    data_folder_leave(&files->index->ignored, path, strlen(path));
    return 0;
}

static int add_folder(struct files *files, const char *path, int depth, struct err *err)
{
    struct dirent **entries = NULL;
    int count = 0, rc = 0;

    if (depth > DEPTH_MAX)
        return err_set(err, ERR_INPUT, "'%s' lies %d folders deep: does a symbolic link lead back?",
                       path, depth);
    count = scandir(path, &entries, is_visible, by_name);
    if (count < 0 && depth > 0)
        return add_local(files, path, NULL, err);
    if (count < 0)
        return err_set_errno(err, ERR_INPUT, errno, "cannot read folder '%s'", path);
    for (int i = 0; i < count; i++) {
        char *const below = uri_join(path, entries[i]->d_name);

        if (rc == 0 && files->cancel != NULL && *files->cancel)
            rc = err_set(err, ERR_STOPPED, "stopped while reading folder '%s'", path);
        if (rc == 0)
            rc = add_entry(files, below, depth, err);
        free(below);
        free(entries[i]);
    }
    free(entries);
    return rc;
}

/* What the user named: a folder, or a file, be it there or not. */
static int add_path(struct files *files, const char *path, struct err *err)
{
    const size_t before = files->builder.samples.bytes;
    struct stat stat_of = {0};

    if (stat(path, &stat_of) < 0)
        return add_local(files, path, NULL, err);
    if (!S_ISDIR(stat_of.st_mode))
        return add_local(files, path, &stat_of, err);
    if (add_folder(files, path, 0, err) < 0)
        return -1;
    if (files->builder.samples.bytes == before)
        return err_set(err, ERR_INPUT, "no pictures (.jpg, .jpeg or .png) below '%s'", path);
    return 0;
}

static int visit(void *context, const struct data_found *found, struct err *err)
{
    struct files *const files = context;
    const char *const slash = strrchr(found->name, '/');

    if (found->folder || (files->wanted != NULL && strcmp(found->name, files->wanted) != 0))
        return 0;
    if (files->wanted == NULL) {
        if (found->name[0] == '.' || strstr(found->name, "/.") != NULL)
            return 0;
        if (!data_entry_is_picture(slash != NULL ? slash + 1 : found->name)) {
            data_folder_leave(&files->index->ignored, found->name, strlen(found->name));
            return 0;
        }
    }
    if (found->bytes == 0) {
        data_folder_leave(&files->index->empty, found->name, strlen(found->name));
        return 0;
    }
    if (data_folder_check_bytes(files->index->root, found->name, found->bytes, err) < 0)
        return -1;
    return add(files, found->name, found->bytes, digest_crc32c(0, found->etag, strlen(found->etag)),
               err);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct data_sample *)a)->key, ((const struct data_sample *)b)->key);
}

/* A prefix, else the object of this name. */
static int add_remote(struct files *files, const char *path, struct err *err)
{
    struct data_index *const index = files->index;
    const char *const slash = strrchr(path, '/');
    bool any = false;

    if (data_place_list(path, true, visit, files, &any, files->cancel, err) < 0)
        return -1;
    if (!any && slash != NULL && slash[1] != '\0' && slash > path + strlen("s3://")) {
        free(index->root);
        index->root = strndup(path, (size_t)(slash - path));
        if (index->root == NULL)
            abort();
        files->wanted = slash + 1;
        if (data_place_list(index->root, false, visit, files, NULL, files->cancel, err) < 0)
            return -1;
    }
    if (files->wanted != NULL && index->empty.count > 0)
        return err_set(err, ERR_INPUT, "'%s' is empty", path);
    if (files->builder.samples.bytes == 0)
        return err_set(err, ERR_INPUT, "'%s' is no object, and no pictures are below it%s", path,
                       index->empty.count > 0 ? " but empty ones" : "");
    return 0;
}

/* Whether a path is a folder, or a prefix, of shards. */
static int holds_shards(const char *path, bool *shards, const volatile sig_atomic_t *cancel,
                        struct err *err)
{
    enum data_root_kind kind = DATA_ROOT_EMPTY;
    struct stat stat_of;
    bool there = false;

    if (!data_place_is_remote(path))
        there = stat(path, &stat_of) == 0 && S_ISDIR(stat_of.st_mode);
    else if (data_place_exists(path, &there, err) < 0)
        return -1;
    if (there && data_root_look(path, &kind, cancel, err) < 0)
        return -1;
    *shards = kind == DATA_ROOT_SHARDS;
    return 0;
}

static int refuse_company(const char *path, const char *why, struct err *err)
{
    return err_set(err, ERR_USAGE, "'%s' %s, and has to be the only one that is named", path, why);
}

/* What one path stands for. */
static int take(struct files *files, const char *path, bool alone, struct err *err)
{
    const bool remote = data_place_is_remote(path);
    bool shards = false;

    if (remote && !alone)
        return refuse_company(path, "lies in S3", err);
    if (holds_shards(path, &shards, files->cancel, err) < 0)
        return -1;
    if (!shards)
        return remote ? add_remote(files, path, err) : add_path(files, path, err);
    if (!alone)
        return refuse_company(path, "holds shards", err);
    data_index_release(files->index); /* its root is another one */
    return data_index_open(files->index, path, NULL, 0, files->cancel, err);
}

int data_files_open(struct data_index *index, const char *const *paths, size_t count,
                    const volatile sig_atomic_t *cancel, struct err *err)
{
    struct data_index opened = {
        .root = strdup(count == 1 && data_place_is_remote(paths[0]) ? paths[0] : "")};
    struct files files = {.index = &opened, .cancel = cancel};
    int rc = 0;

    assert(count > 0);
    if (opened.root == NULL)
        abort();
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = take(&files, paths[i], count == 1, err);
    if (rc == 0 && !opened.sharded) {
        data_builder_finish(&files.builder, &opened);
        if (opened.root[0] != '\0') /* servers may list otherwise than bytewise */
            qsort(opened.samples, opened.count, sizeof *opened.samples, by_key);
        for (size_t i = 0; i < opened.count; i++)
            opened.bytes += opened.samples[i].bytes;
    }
    data_builder_release(&files.builder);
    if (rc < 0)
        data_index_release(&opened);
    else
        *index = opened;
    return rc;
}
