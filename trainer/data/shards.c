#include "trainer/data/shards.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/uri.h"
#include "trainer/data/builder.h"
#include "trainer/data/entry.h"
#include "trainer/data/index.h"
#include "trainer/data/order.h"
#include "trainer/data/shard.h"

#define TOP_BYTES_MAX ((size_t)256 << 20)

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

static char *copy(const char *text)
{
    char *result = strdup(text);

    if (result == NULL)
        abort();
    return result;
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
        index->class_names[index->classes++] = copy(name);
    }
    return 0;
}

/* What index.json says of one shard. */
struct entry {
    const char *name;
    int64_t count, bytes, tar_bytes;
};

static int read_entry(const json_t *shard, struct entry *entry, const char *path, struct err *err)
{
    if (json_read_string(shard, "name", &entry->name, path, err) < 0 ||
        json_read_integer(shard, "count", 1, INT64_MAX, &entry->count, path, err) < 0 ||
        json_read_integer(shard, "bytes", 1, INT64_MAX, &entry->bytes, path, err) < 0 ||
        json_read_integer(shard, "tar_bytes", 1, INT64_MAX, &entry->tar_bytes, path, err) < 0)
        return -1;
    if (strchr(entry->name, '/') != NULL || !data_entry_is_tar(entry->name) ||
        strcmp(strrchr(entry->name, '.'), ".tar") != 0)
        return err_set(err, ERR_INPUT, "%s: '%s' is no name of a shard", path, entry->name);
    return 0;
}

/* Take a shard's samples over; *bytes is their sum. */
static int add_samples(struct data_index *index, struct data_builder *builder,
                       const struct data_shard *shard, const char *index_path, uint64_t *bytes,
                       struct err *err)
{
    *bytes = 0;
    for (size_t i = 0; i < shard->count; i++) {
        const struct data_shard_record *record = &shard->records[i];
        const struct data_sample sample = {
            .offset = record->offset,
            .bytes = record->bytes,
            .crc32c = record->crc32c,
            .file = (uint32_t)(index->files - 1),
            .label = (int32_t)record->label,
        };

        if (sample.label >= index->classes)
            return err_set(err, ERR_INPUT,
                           "'%s' has label %" PRIu32 " where '" SHARD_TOP_NAME
                           "' has %d classes: pack again",
                           index_path, record->label, index->classes);
        if (data_builder_add(builder, &sample, data_shard_key(shard, i), err) < 0)
            return -1;
        *bytes += sample.bytes;
    }
    return 0;
}

static int read_shard(struct data_index *index, struct data_builder *builder,
                      const struct entry *entry, struct err *err)
{
    char *tar_path = uri_join(index->root, entry->name);
    char *index_path = data_shard_index_path(tar_path);
    const size_t first = builder->samples.bytes / sizeof(struct data_sample);
    struct data_shard shard = {0};
    uint64_t bytes;
    int rc = -1;

    if (data_shard_read(&shard, index_path, err) < 0 ||
        data_shard_check_tar(&shard, tar_path, index_path, first, err) < 0)
        goto out;
    index->file_names[index->files++] = copy(entry->name);
    if (add_samples(index, builder, &shard, index_path, &bytes, err) < 0)
        goto out;
    if (shard.count != (uint64_t)entry->count || shard.tar_bytes != (uint64_t)entry->tar_bytes ||
        bytes != (uint64_t)entry->bytes) {
        err_set(err, ERR_INPUT,
                "the index '%s' does not match '" SHARD_TOP_NAME "' beside it: pack again",
                index_path);
        goto out;
    }
    index->bytes += bytes;
    rc = 0;
out:
    data_shard_release(&shard);
    free(index_path);
    free(tar_path);
    return rc;
}

static int read_shards(struct data_index *index, const json_t *top, const char *path,
                       const volatile sig_atomic_t *cancel, struct err *err)
{
    const json_t *shards = json_read_array(top, "shards", path, err);
    struct data_builder builder = {0};
    struct entry entry;
    int64_t count, bytes;
    int rc = -1;

    if (shards == NULL || json_read_integer(top, "count", 1, INT64_MAX, &count, path, err) < 0 ||
        json_read_integer(top, "bytes", 1, INT64_MAX, &bytes, path, err) < 0)
        return -1;
    index->file_names = calloc(json_array_size(shards) + 1, sizeof *index->file_names);
    if (index->file_names == NULL)
        abort();
    for (size_t i = 0; i < json_array_size(shards); i++) {
        if (cancel != NULL && *cancel) {
            err_set(err, ERR_STOPPED, "stopped while reading the shards of '%s'", index->root);
            goto out;
        }
        if (read_entry(json_array_get(shards, i), &entry, path, err) < 0 ||
            read_shard(index, &builder, &entry, err) < 0)
            goto out;
    }
    data_builder_finish(&builder, index);
    rc = 0;
    if (index->count != (uint64_t)count || index->bytes != (uint64_t)bytes)
        rc = err_set(err, ERR_INPUT,
                     "'%s' counts %" PRId64 " samples of %" PRId64
                     " bytes, its shards hold %zu of %" PRIu64 ": pack again",
                     path, count, bytes, index->count, index->bytes);
out:
    data_builder_release(&builder);
    return rc;
}

int data_shards_read(struct data_index *index, char fingerprint[DIGEST_HEX_CHARS],
                     const volatile sig_atomic_t *cancel, struct err *err)
{
    char *path = uri_join(index->root, SHARD_TOP_NAME);
    json_t *top = json_read_file(path, TOP_BYTES_MAX, err);
    int rc = -1;

    index->sharded = true;
    if (top != NULL && check_format(top, path, err) == 0 &&
        read_fingerprint(top, fingerprint, path, err) == 0 &&
        read_classes(index, top, path, err) == 0)
        rc = read_shards(index, top, path, cancel, err);
    json_decref(top);
    free(path);
    return rc;
}
