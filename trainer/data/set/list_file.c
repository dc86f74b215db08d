#include "trainer/data/set/list_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/text.h"
#include "base/uri.h"
#include "trainer/data/index/builder.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/numbers.h"
#include "trainer/data/index/place.h"
#include "trainer/data/index/shard.h"
#include "trainer/data/set/folder.h"

#define LIST_BYTES_MAX ((size_t)4 << 30)

int data_list_is(const char *path)
{
    const size_t bytes = strlen(path);

    return bytes > 4 && strcasecmp(path + bytes - 4, ".lst") == 0;
}

/* A file of the bucket that the paths may lead to. */
struct found {
    char *name;
    uint64_t bytes;
    uint32_t etag;
};

struct list {
    struct data_index *index;
    struct data_builder builder;
    const char *path;
    size_t line;
    const volatile sig_atomic_t *cancel;
    struct found *found; /* a root in a bucket: its objects, by name */
    size_t found_count, found_capacity;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct found *)a)->name, ((const struct found *)b)->name);
}

static int visit(void *context, const struct data_found *found, struct err *err)
{
    struct list *list = context;

    (void)err;
    if (found->folder)
        return 0;
    if (list->found_count == list->found_capacity) {
        list->found_capacity = list->found_capacity * 2 + 64;
        list->found = reallocarray(list->found, list->found_capacity, sizeof *list->found);
        if (list->found == NULL)
            abort();
    }
    list->found[list->found_count++] = (struct found){
        text_copy(found->name), found->bytes, digest_crc32c(0, found->etag, strlen(found->etag))};
    return 0;
}

static int refuse(const struct list *list, const char *why, struct err *err)
{
    return err_set(err, ERR_INPUT, "'%s' line %zu: %s", list->path, list->line, why);
}

/* Below the root, and no way out of it. */
static bool is_below(const char *path)
{
    const char *part = path;

    if (path[0] == '\0' || path[0] == '/' || strlen(path) > SHARD_KEY_BYTES_MAX)
        return false;
    for (;;) {
        const size_t bytes = strcspn(part, "/");

        if (bytes == 2 && memcmp(part, "..", 2) == 0)
            return false;
        if (part[bytes] == '\0')
            return true;
        part += bytes + 1;
    }
}

static int measure_remote(const struct list *list, const char *key, struct data_sample *sample,
                          uint64_t *bytes, struct err *err)
{
    const struct found wanted = {.name = (char *)key};
    const struct found *found =
        list->found_count > 0
            ? bsearch(&wanted, list->found, list->found_count, sizeof *list->found, by_name)
            : NULL;

    if (found == NULL) {
        refuse(list, "no such object", err);
        return err_wrap(err, "'%s/%s'", list->index->root, key);
    }
    *bytes = found->bytes;
    sample->crc32c = found->etag;
    return 0;
}

static int measure_local(const struct list *list, const char *key, uint64_t *bytes, struct err *err)
{
    char *path = uri_join(list->index->root, key);
    struct stat info;
    int rc = 0;

    if (stat(path, &info) < 0)
        rc = err_set_errno(err, ERR_INPUT, errno, "'%s' line %zu: cannot read '%s'", list->path,
                           list->line, path);
    else if (!S_ISREG(info.st_mode))
        rc =
            err_set(err, ERR_INPUT, "'%s' line %zu: '%s' is no file", list->path, list->line, path);
    else
        *bytes = (uint64_t)info.st_size;
    free(path);
    return rc;
}

static int add(struct list *list, const char *key, int32_t label, struct err *err)
{
    struct data_sample sample = {.label = label};
    uint64_t bytes = 0;

    if ((data_place_is_remote(list->index->root) ? measure_remote(list, key, &sample, &bytes, err)
                                                 : measure_local(list, key, &bytes, err)) < 0)
        return -1;
    if (bytes == 0) {
        data_folder_leave(&list->index->empty, key, strlen(key));
        return 0;
    }
    if (data_folder_check_bytes(list->index->root, key, bytes, err) < 0)
        return -1;
    sample.bytes = (uint32_t)bytes;
    return data_builder_add(&list->builder, &sample, key, err);
}

/* One line, whose end is a NUL now. */
static int read_line(struct list *list, char *line, struct err *err)
{
    char *const label_text = strchr(line, '\t'), *path;
    int32_t label;

    if (line[0] == '\0')
        return 0;
    path = label_text != NULL ? strrchr(line, '\t') : NULL;
    if (path == NULL || path == label_text)
        return refuse(list, "not 'INDEX<tab>LABEL<tab>PATH'", err);
    if (!data_number_read(label_text + 1, (size_t)(path - label_text - 1), &label))
        return refuse(list, "not one label that is a whole number from 0 to 999999", err);
    if (!is_below(path + 1))
        return refuse(list, "a path that is empty, too long, or leads out of the root folder", err);
    return add(list, path + 1, label, err);
}

static int read_lines(struct list *list, struct buf *text, struct err *err)
{
    char *at = buf_text(text);
    char *const end = at + text->bytes;

    if (strlen(at) != text->bytes)
        return err_set(err, ERR_INPUT, "'%s' is no list: it has a NUL byte at %zu", list->path,
                       strlen(at));
    while (at < end) {
        char *const stop = at + strcspn(at, "\n");

        list->line++;
        if (list->cancel != NULL && *list->cancel)
            return err_set(err, ERR_STOPPED, "stopped while reading '%s'", list->path);
        *stop = '\0';
        if (stop > at && stop[-1] == '\r')
            stop[-1] = '\0';
        if (read_line(list, at, err) < 0)
            return -1;
        at = stop + 1;
    }
    return 0;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_twice(const struct data_index *index, const char *path, struct err *err)
{
    const char **keys = calloc(index->count + 1, sizeof *keys);
    int rc = 0;

    if (keys == NULL)
        return err_set(err, ERR_MEMORY, "no memory for the %zu lines of '%s'", index->count, path);
    for (size_t i = 0; i < index->count; i++)
        keys[i] = index->samples[i].key;
    qsort(keys, index->count, sizeof *keys, by_key);
    for (size_t i = 1; i < index->count && rc == 0; i++)
        if (strcmp(keys[i - 1], keys[i]) == 0)
            rc = err_set(err, ERR_INPUT, "'%s' has '%s' twice", path, keys[i]);
    free(keys);
    return rc;
}

int data_list_read(struct data_index *index, const char *path, const volatile sig_atomic_t *cancel,
                   struct err *err)
{
    struct list list = {.index = index, .path = path, .cancel = cancel};
    struct buf text = {0};
    int rc = -1;

    if (data_place_load_until(path, LIST_BYTES_MAX, cancel, &text, err) < 0)
        goto out;
    if (data_place_is_remote(index->root) &&
        data_place_list(index->root, true, visit, &list, NULL, cancel, err) < 0)
        goto out;
    if (list.found_count > 0)
        qsort(list.found, list.found_count, sizeof *list.found, by_name);
    if (read_lines(&list, &text, err) < 0)
        goto out;
    data_builder_finish(&list.builder, index);
    if (index->count == 0)
        err_set(err, ERR_INPUT, "'%s' names no pictures", path);
    else
        rc = check_twice(index, path, err);
out:
    for (size_t i = 0; i < list.found_count; i++)
        free(list.found[i].name);
    free(list.found);
    data_builder_release(&list.builder);
    buf_release(&text);
    return rc;
}
