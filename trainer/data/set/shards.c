#include "trainer/data/set/shards.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/text.h"
#include "base/uri.h"
#include "trainer/data/index/builder.h"
#include "trainer/data/index/entry.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/order.h"
#include "trainer/data/index/pages.h"
#include "trainer/data/index/place.h"
#include "trainer/data/index/shard.h"
#include "trainer/data/set/shard_queue.h"

#define TOP_BYTES_MAX ((size_t)256 << 20)
#define LISTS_MAX     5

static int check_format(const json_t *top, const char *path, struct err *err)
{
    const char *format;
    int64_t version, order;

    if (json_read_string(top, "format", &format, path, err) < 0)
        return -1;
    if (strcmp(format, SHARD_FORMAT) != 0)
        return err_set(err, ERR_INPUT, "'%s' is no index of shards: its format is '%s', not '%s'",
                       path, format, SHARD_FORMAT);
    if (json_read_integer(top, "version", 1, INT64_MAX, &version, path, err) < 0 ||
        json_read_integer(top, "order", 1, INT64_MAX, &order, path, err) < 0)
        return -1;
    if (version != SHARD_VERSION || order != DATA_ORDER_VERSION)
        return err_set(err, ERR_INPUT,
                       "'%s' is of version %" PRId64 ", order %" PRId64
                       "; this program reads version %d, order %d",
                       path, version, order, SHARD_VERSION, DATA_ORDER_VERSION);
    return 0;
}

static int read_fingerprint(const json_t *top, char fingerprint[DIGEST_HEX_CHARS], const char *path,
                            struct err *err)
{
    const char *hex;

    if (json_read_string(top, "fingerprint", &hex, path, err) < 0)
        return -1;
    if (strlen(hex) != DIGEST_HEX_CHARS - 1)
        return err_set(err, ERR_INPUT, "%s: 'fingerprint' is no SHA-256 in hex", path);
    memcpy(fingerprint, hex, DIGEST_HEX_CHARS);
    return 0;
}

static int read_classes(struct data_index *index, const json_t *top, const char *path,
                        struct err *err)
{
    const json_t *classes = json_read_array(top, "classes", path, err);

    if (classes == NULL)
        return -1;
    index->class_names = calloc(json_array_size(classes) + 1, sizeof *index->class_names);
    if (index->class_names == NULL)
        abort();
    for (size_t i = 0; i < json_array_size(classes); i++) {
        const char *name = json_string_value(json_array_get(classes, i));

        if (name == NULL || (i > 0 && strcmp(index->class_names[i - 1], name) >= 0))
            return err_set(err, ERR_INPUT, "%s: 'classes' are not names in bytewise order", path);
        index->class_names[index->classes++] = text_copy(name);
    }
    return 0;
}

/* What index.json says of one shard. */
struct entry {
    const char *name;
    struct data_shard_top top;
};

static int read_entry(const json_t *shard, uint64_t first, struct entry *entry, const char *path,
                      struct err *err)
{
    int64_t count, bytes, tar_bytes;

    if (json_read_string(shard, "name", &entry->name, path, err) < 0 ||
        json_read_integer(shard, "count", 1, INT64_MAX, &count, path, err) < 0 ||
        json_read_integer(shard, "bytes", 1, INT64_MAX, &bytes, path, err) < 0 ||
        json_read_integer(shard, "tar_bytes", 1, INT64_MAX, &tar_bytes, path, err) < 0)
        return -1;
    entry->top =
        (struct data_shard_top){first, (uint64_t)count, (uint64_t)bytes, (uint64_t)tar_bytes};
    if (strchr(entry->name, '/') != NULL || strlen(entry->name) > NAME_MAX ||
        !data_entry_is_tar(entry->name) || strcmp(strrchr(entry->name, '.'), ".tar") != 0)
        return err_set(err, ERR_INPUT, "%s: '%s' is no name of a shard", path, entry->name);
    return 0;
}

/* The tars of a bucket's folder as they are listed: lengths and ETags by one request for each 1,000
 * names, not one for each tar. */
struct tar {
    char *name, *etag;
    uint64_t bytes;
};

struct tars {
    struct tar *tars; /* sorted by name */
    size_t count, capacity;
};

static void release_tars(struct tars *tars)
{
    for (size_t i = 0; i < tars->count; i++) {
        free(tars->tars[i].name);
        free(tars->tars[i].etag);
    }
    free(tars->tars);
}

static int visit_tar(void *context, const struct data_found *found, struct err *err)
{
    struct tars *tars = context;

    (void)err;
    if (found->folder || !data_entry_is_tar(found->name))
        return 0;
    if (tars->count == tars->capacity) {
        tars->capacity = tars->capacity * 2 + 16;
        tars->tars = reallocarray(tars->tars, tars->capacity, sizeof *tars->tars);
        if (tars->tars == NULL)
            abort();
    }
    tars->tars[tars->count++] =
        (struct tar){text_copy(found->name), text_copy(found->etag), found->bytes};
    return 0;
}

static int by_tar_name(const void *a, const void *b)
{
    return strcmp(((const struct tar *)a)->name, ((const struct tar *)b)->name);
}

static bool tars_equal(const struct tars *a, const struct tars *b)
{
    bool equal = a->count == b->count;

    for (size_t i = 0; i < a->count && equal; i++)
        equal = strcmp(a->tars[i].name, b->tars[i].name) == 0 &&
                strcmp(a->tars[i].etag, b->tars[i].etag) == 0 &&
                a->tars[i].bytes == b->tars[i].bytes;
    return equal;
}

static int list_once(const char *root, struct tars *tars, const volatile sig_atomic_t *cancel,
                     struct err *err)
{
    release_tars(tars);
    *tars = (struct tars){0};
    if (data_place_list(root, false, visit_tar, tars, NULL, cancel, err) < 0)
        return -1;
    if (tars->count > 0)
        qsort(tars->tars, tars->count, sizeof *tars->tars, by_tar_name);
    return 0;
}

/* A listing has no checksum, and with an ETag that was changed on the way no range of its tar could
 * be read later: two in a row have to agree. */
static int list_tars(const char *root, struct tars *tars, const volatile sig_atomic_t *cancel,
                     struct err *err)
{
    struct tars before = {0};
    int rc;

    if (!data_place_is_remote(root))
        return 0;
    rc = list_once(root, tars, cancel, err);
    for (int lists = 1; rc == 0 && !tars_equal(&before, tars); lists++) {
        if (lists == LISTS_MAX) {
            rc = err_set(err, ERR_INPUT,
                         "%d listings of the shards below '%s' differ: who writes there?", lists,
                         root);
            break;
        }
        release_tars(&before);
        before = *tars;
        *tars = (struct tars){0};
        rc = list_once(root, tars, cancel, err);
    }
    release_tars(&before);
    return rc;
}

/* All that the shards are read by. */
struct reading {
    struct data_index *index;
    struct entry *entries; /* (count) */
    char **etags;          /* (count) in S3, until the index takes them; NULL elsewhere */
    size_t count;
    struct tars tars;
    const volatile sig_atomic_t *cancel;
};

static void release_reading(struct reading *reading)
{
    release_tars(&reading->tars);
    for (size_t i = 0; reading->etags != NULL && i < reading->count; i++)
        free(reading->etags[i]);
    free(reading->etags);
    free(reading->entries);
}

/* Compare an index with its tar; in S3, remember the tar's ETag. */
static int check_tar(struct reading *reading, size_t number, const struct data_shard *shard,
                     const char *tar_path, const char *index_path, struct err *err)
{
    const struct tars *const tars = &reading->tars;
    const struct tar wanted = {.name = strrchr(tar_path, '/') + 1};
    const struct tar *found;

    if (!data_place_is_remote(reading->index->root))
        return data_shard_check_tar(shard, tar_path, index_path, reading->entries[number].top.first,
                                    err);
    found = tars->count > 0
                ? bsearch(&wanted, tars->tars, tars->count, sizeof *tars->tars, by_tar_name)
                : NULL;
    if (found == NULL)
        return err_set(err, ERR_INPUT, "shard '%s' is missing", tar_path);
    if (data_shard_check_bytes(shard, tar_path, index_path, found->bytes, err) < 0)
        return -1;
    reading->etags[number] = text_copy(found->etag);
    return 0;
}

/* One of the threads. */
static int read_shard(void *context, size_t number, struct data_shard *shard, struct err *err)
{
    struct reading *const reading = context;
    const struct entry *const entry = &reading->entries[number];
    char *const tar_path = uri_join(reading->index->root, entry->name);
    char *const index_path = data_shard_index_path(tar_path);
    int rc = -1;

    if (data_shard_read(shard, index_path, reading->cancel, err) == 0 &&
        check_tar(reading, number, shard, tar_path, index_path, err) == 0)
        rc = data_shard_check_top(shard, &entry->top, reading->index->classes, index_path, err);
    free(index_path);
    free(tar_path);
    return rc;
}

static int add_shard(struct reading *reading, struct data_builder *builder, size_t number,
                     const struct data_shard *shard, struct err *err)
{
    const struct entry *const entry = &reading->entries[number];
    struct data_index *const index = reading->index;

    if (reading->etags != NULL) {
        index->file_etags[index->files] = reading->etags[number];
        reading->etags[number] = NULL;
    }
    index->file_names[index->files++] = text_copy(entry->name);
    index->bytes += entry->top.bytes;
    for (size_t i = 0; i < shard->count; i++) {
        const struct data_sample sample = data_shard_sample(shard, i, (uint32_t)number);

        if (data_builder_add(builder, &sample, sample.key, err) < 0)
            return -1;
    }
    return 0;
}

static int add_shards(struct reading *reading, struct data_builder *builder,
                      struct data_shard_queue *queue, struct err *err)
{
    int rc = 0;

    for (size_t i = 0; i < reading->count && rc == 0; i++) {
        struct data_shard shard = {0};

        if (reading->cancel != NULL && __atomic_load_n(reading->cancel, __ATOMIC_RELAXED))
            rc = err_set(err, ERR_STOPPED, "stopped while reading the shards of '%s'",
                         reading->index->root);
        else if ((rc = data_shard_queue_next(queue, &shard, err)) == 0)
            rc = add_shard(reading, builder, i, &shard, err);
        data_shard_release(&shard);
    }
    return rc;
}

static int read_entries(struct reading *reading, const json_t *shards, const char *path,
                        struct err *err)
{
    struct data_index *const index = reading->index;
    uint64_t first = 0;

    reading->count = json_array_size(shards);
    reading->entries = calloc(reading->count + 1, sizeof *reading->entries);
    index->file_names = calloc(reading->count + 1, sizeof *index->file_names);
    if (data_place_is_remote(index->root)) {
        index->file_etags = calloc(reading->count + 1, sizeof *index->file_etags);
        reading->etags = calloc(reading->count + 1, sizeof *reading->etags);
        if (index->file_etags == NULL || reading->etags == NULL)
            abort();
    }
    if (reading->entries == NULL || index->file_names == NULL)
        abort();
    for (size_t i = 0; i < reading->count; i++) {
        if (read_entry(json_array_get(shards, i), first, &reading->entries[i], path, err) < 0)
            return -1;
        first += reading->entries[i].top.count;
    }
    return 0;
}

static int read_all(struct reading *reading, struct err *err)
{
    struct data_index *const index = reading->index;
    struct data_builder builder = {0};
    struct data_shard_queue *queue;
    int rc;

    if (list_tars(index->root, &reading->tars, reading->cancel, err) < 0)
        return -1;
    queue = data_shard_queue_new(reading->count, read_shard, reading, err);
    if (queue == NULL)
        return -1;
    rc = add_shards(reading, &builder, queue, err);
    data_shard_queue_free(queue);
    if (rc == 0)
        data_builder_finish(&builder, index);
    data_builder_release(&builder);
    return rc;
}

/* Only what the top index says of each. */
static void read_none(struct reading *reading)
{
    struct data_index *const index = reading->index;
    struct data_shard_top *const shards = calloc(reading->count + 1, sizeof *shards);

    if (shards == NULL)
        abort();
    for (size_t i = 0; i < reading->count; i++) {
        shards[i] = reading->entries[i].top;
        index->file_names[index->files++] = text_copy(reading->entries[i].name);
        index->count += shards[i].count;
        index->bytes += shards[i].bytes;
    }
    free(index->file_etags);
    index->file_etags = NULL;
    index->pages = data_pages_new(index, shards, DATA_PAGES_BYTES_MAX);
    free(shards);
}

/* In a bucket the top index has no checksum of its own, and where it stands alone no fingerprint
 * tells what was changed on the way: it has to come twice the same. */
static int read_top_again(const char *path, uint32_t crc32c, const volatile sig_atomic_t *cancel,
                          struct err *err)
{
    struct buf text = {0};
    int rc;

    if (!data_place_is_remote(path))
        return 0;
    rc = data_place_load_until(path, TOP_BYTES_MAX, cancel, &text, err);
    if (rc == 0 && digest_crc32c(0, text.data, text.bytes) != crc32c)
        rc = err_set(err, ERR_INPUT, "'%s' was read twice and is not the same", path);
    buf_release(&text);
    return rc;
}

static int read_shards(struct data_index *index, uint64_t whole_max, const json_t *top,
                       uint32_t crc32c, const char *path, const volatile sig_atomic_t *cancel,
                       struct err *err)
{
    const json_t *shards = json_read_array(top, "shards", path, err);
    struct reading reading = {.index = index, .cancel = cancel};
    int64_t count, bytes;
    int rc = 0;

    if (shards == NULL || json_read_integer(top, "count", 1, INT64_MAX, &count, path, err) < 0 ||
        json_read_integer(top, "bytes", 1, INT64_MAX, &bytes, path, err) < 0)
        return -1;
    if (read_entries(&reading, shards, path, err) < 0)
        rc = -1;
    else if ((uint64_t)count <= whole_max)
        rc = read_all(&reading, err);
    else if ((rc = read_top_again(path, crc32c, cancel, err)) == 0)
        read_none(&reading);
    if (rc == 0 && (index->count != (uint64_t)count || index->bytes != (uint64_t)bytes))
        rc = err_set(err, ERR_INPUT,
                     "'%s' counts %" PRId64 " samples of %" PRId64
                     " bytes, its shards hold %zu of %" PRIu64 ": pack again",
                     path, count, bytes, index->count, index->bytes);
    release_reading(&reading);
    return rc;
}

static json_t *read_top(const char *path, uint32_t *crc32c, const volatile sig_atomic_t *cancel,
                        struct err *err)
{
    struct buf text = {0};
    json_t *top = NULL;

    if (data_place_load_until(path, TOP_BYTES_MAX, cancel, &text, err) == 0) {
        *crc32c = digest_crc32c(0, text.data, text.bytes);
        top = json_read_text(buf_text(&text), text.bytes, path, err);
    }
    buf_release(&text);
    return top;
}

int data_shards_read(struct data_index *index, uint64_t whole_max,
                     char fingerprint[DIGEST_HEX_CHARS], const volatile sig_atomic_t *cancel,
                     struct err *err)
{
    char *path = uri_join(index->root, SHARD_TOP_NAME);
    uint32_t crc32c = 0;
    json_t *top = read_top(path, &crc32c, cancel, err);
    int rc = -1;

    index->sharded = true;
    if (top != NULL && check_format(top, path, err) == 0 &&
        read_fingerprint(top, fingerprint, path, err) == 0 &&
        read_classes(index, top, path, err) == 0)
        rc = read_shards(index, whole_max, top, crc32c, path, cancel, err);
    json_decref(top);
    free(path);
    return rc;
}
