#include "launcher/s3/copy_list.h"

#include <errno.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "launcher/s3/key.h"
#include "launcher/s3/verb.h"
#include "s3io/list.h"

#define KEY_BYTES_MAX 1024

void launch_s3_items_release(struct launch_s3_items *items)
{
    for (size_t i = 0; i < items->count; i++) {
        free(items->at[i].from);
        free(items->at[i].to);
    }
    free(items->at);
    *items = (struct launch_s3_items){0};
}

static char *concatenate(const char *a, const char *b)
{
    char *out;

    if (asprintf(&out, "%s%s", a, b) < 0)
        abort();
    return out;
}

/* Takes both texts over. */
static void push(struct launch_s3_items *items, char *from, char *to, uint64_t bytes)
{
    if (items->count == items->capacity) {
        items->capacity = items->capacity == 0 ? 64 : items->capacity * 2;
        items->at = realloc(items->at, items->capacity * sizeof items->at[0]);
        if (items->at == NULL)
            abort();
    }
    items->at[items->count++] = (struct launch_s3_item){.from = from, .to = to, .bytes = bytes};
}

/* Before anything is sent: S3 takes no other keys. */
static int check_key(const char *key, struct err *err)
{
    struct buf shown = {0};
    int rc = 0;

    launch_s3_key_show(key, &shown);
    if (!launch_s3_key_is_utf8(key))
        rc = err_set(err, ERR_INPUT, "'%s' is not UTF-8, as a key in S3 has to be: rename the file",
                     buf_text(&shown));
    else if (strlen(key) > KEY_BYTES_MAX)
        rc = err_set(err, ERR_INPUT, "'%.100s...' is longer than the %d bytes that a key may have",
                     buf_text(&shown), KEY_BYTES_MAX);
    buf_release(&shown);
    return rc;
}

static const char *last_part(const char *text)
{
    const char *const slash = strrchr(text, '/');

    return slash == NULL ? text : slash + 1;
}

static bool ends_with_slash(const char *text)
{
    return text[0] != '\0' && text[strlen(text) - 1] == '/';
}

int launch_s3_items_add_one(struct launch_s3_items *items, const struct launch_s3_end *from,
                            const struct launch_s3_end *to, struct err *err)
{
    const char *const source = from->uri.path, *const target = to->uri.path;
    const char *const name = last_part(source);
    const bool to_s3 = to->uri.scheme == URI_S3;
    const bool into =
        ends_with_slash(target) || (to_s3 ? target[0] == '\0' : file_is_folder(target));
    char *path;

    if (into && (name[0] == '\0' || (!to_s3 && launch_s3_key_check_path(source, name, err) < 0)))
        return name[0] != '\0' ? -1
                               : err_set(err, ERR_USAGE,
                                         "'%s' ends in '/': give the name of the target, or "
                                         "--recursive for all that is below",
                                         from->text);
    if (!into)
        path = text_copy(target);
    else
        path = to_s3 ? concatenate(target, name) : uri_join(target, name);
    if (to_s3 && check_key(path, err) < 0) {
        free(path);
        return -1;
    }
    push(items, text_copy(source), path, LAUNCH_S3_BYTES_UNKNOWN);
    return 0;
}

/* --- a folder --- */

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static int add_file(struct launch_s3_items *items, const FTSENT *entry, size_t root_bytes,
                    const char *prefix, struct err *err)
{
    char *const key = concatenate(prefix, entry->fts_path + root_bytes +
                                              strspn(entry->fts_path + root_bytes, "/"));

    if (check_key(key, err) < 0) {
        free(key);
        return -1;
    }
    push(items, text_copy(entry->fts_path), key, (uint64_t)entry->fts_statp->st_size);
    return 0;
}

static int add_entry(struct launch_s3_items *items, const FTSENT *entry, size_t root_bytes,
                     const char *prefix, struct err *err)
{
    switch (entry->fts_info) {
    case FTS_F:
        return add_file(items, entry, root_bytes, prefix, err);
    case FTS_D:
    case FTS_DP:
        return 0;
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
        return err_set_errno(err, entry->fts_errno == ENOENT ? ERR_INPUT : ERR_IO, entry->fts_errno,
                             "cannot read '%s'", entry->fts_path);
    case FTS_DC:
        return err_set(err, ERR_INPUT, "'%s' leads back to a folder above it", entry->fts_path);
    default:
        log_warn("'%s' is no regular file: left out", entry->fts_path);
        return 0;
    }
}

/* The path without slashes at its end, so that what is below begins right behind it. */
static char *without_slashes(const char *path)
{
    char *const out = text_copy(path);
    size_t bytes = strlen(out);

    while (bytes > 1 && out[bytes - 1] == '/')
        out[--bytes] = '\0';
    return out;
}

int launch_s3_items_add_files(struct launch_s3_items *items, const struct launch_s3_end *from,
                              const struct launch_s3_end *to, struct err *err)
{
    char *const root = without_slashes(from->uri.path), *const prefix =
                                                            launch_s3_folder_prefix(to->uri.path);
    char *const roots[] = {root, NULL};
    const size_t before = items->count;
    FTS *const tree = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, by_name);
    const FTSENT *entry;
    int rc = 0;

    if (tree == NULL)
        rc = err_set_errno(err, ERR_IO, errno, "cannot read '%s'", root);
    while (rc == 0 && (errno = 0, entry = fts_read(tree)) != NULL)
        rc = add_entry(items, entry, strlen(root), prefix, err);
    if (rc == 0 && errno != 0)
        rc = err_set_errno(err, ERR_IO, errno, "cannot read '%s'", root);
    if (rc == 0 && items->count == before)
        rc = err_set(err, ERR_INPUT, "'%s' has no files", from->text);
    if (tree != NULL)
        fts_close(tree);
    free(prefix);
    free(root);
    return rc;
}

/* --- a prefix --- */

struct objects {
    struct launch_s3_items *items;
    size_t prefix_bytes;
    const char *target; /* a folder, or a prefix with its '/' */
    bool to_s3;
};

/* "x/" is how some tools mark a folder: an object without content. It is made as a folder. */
static int add_to_folder(struct objects *objects, const struct s3_listed *listed, struct err *err)
{
    const char *const name = listed->key + objects->prefix_bytes;
    const bool is_folder = ends_with_slash(name) && listed->bytes == 0;

    if (launch_s3_key_check_path(listed->key, name, err) < 0)
        return -1;
    if (ends_with_slash(name) && !is_folder)
        return err_set(err, ERR_INPUT,
                       "the key '%s' ends in '/' and has content, which no file can; copy it by "
                       "itself, to a file",
                       listed->key);
    push(objects->items, is_folder ? NULL : text_copy(listed->key), uri_join(objects->target, name),
         listed->bytes);
    return 0;
}

static int add_object(void *context, const struct s3_listed *listed, struct err *err)
{
    struct objects *const objects = context;
    const char *const name = listed->key + objects->prefix_bytes;
    char *key;

    if (name[0] == '\0' && listed->bytes == 0) /* the mark of the folder itself */
        return 0;
    if (!objects->to_s3)
        return add_to_folder(objects, listed, err);
    key = concatenate(objects->target, name);
    if (check_key(key, err) < 0) {
        free(key);
        return -1;
    }
    push(objects->items, text_copy(listed->key), key, listed->bytes);
    return 0;
}

int launch_s3_items_add_objects(struct launch_s3_items *items, struct s3_client *client,
                                const struct launch_s3_end *from, const struct launch_s3_end *to,
                                struct err *err)
{
    const bool to_s3 = to->uri.scheme == URI_S3;
    char *const prefix = launch_s3_folder_prefix(from->uri.path);
    char *const target = to_s3 ? launch_s3_folder_prefix(to->uri.path) : text_copy(to->uri.path);
    struct objects objects = {
        .items = items, .prefix_bytes = strlen(prefix), .target = target, .to_s3 = to_s3};
    const size_t before = items->count;
    int rc = s3_list(client, from->uri.bucket, prefix, false, add_object, &objects, err);

    if (rc == 0 && items->count == before)
        rc = err_set(err, ERR_INPUT, "'%s': there is nothing in this folder", from->text);
    free(target);
    free(prefix);
    return rc;
}
