#include "trainer/data/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/uri.h"
#include "trainer/data/codec.h"
#include "trainer/data/index.h"
#include "trainer/data/order.h"
#include "trainer/data/root.h"
#include "trainer/data/shard.h"
#include "trainer/data/tar.h"

#define BAR_EVERY_S 0.2

/* What has appeared below the target, in that order: a failure takes it back. */
struct written {
    char **paths;
    size_t count, capacity;
};

static void written_add(struct written *written, const char *path)
{
    if (written->count == written->capacity) {
        written->capacity = written->capacity * 2 + 16;
        written->paths = reallocarray(written->paths, written->capacity, sizeof *written->paths);
        if (written->paths == NULL)
            abort();
    }
    written->paths[written->count] = strdup(path);
    if (written->paths[written->count++] == NULL)
        abort();
}

/* Removes files, and folders if they are empty: a folder of ours may hold what another put there
 * meanwhile. */
static void written_release(struct written *written, bool undo)
{
    for (size_t i = written->count; i-- > 0;) {
        if (undo)
            remove(written->paths[i]);
        free(written->paths[i]);
    }
    free(written->paths);
    *written = (struct written){0};
}

/* One folder per class on its way into shards. */
struct split {
    const struct data_pack_options *options;
    struct written *written;
    const char *target;
    struct data_index index;
    json_t *shards;      /* of the top index; a member for every shard that is finished */
    struct data_tar tar; /* the shard in hand */
    struct data_shard shard;
    char *tar_path;
    uint64_t shard_bytes; /* its pictures */
    struct buf picture;
    double bar_s;
};

static void split_release(struct split *split)
{
    data_tar_release(&split->tar);
    data_shard_release(&split->shard);
    free(split->tar_path);
    buf_release(&split->picture);
    json_decref(split->shards);
    data_index_release(&split->index);
}

static void show(struct split *split, const char *what, size_t done)
{
    const double now = clock_now_s();
    char line[256];

    if (now - split->bar_s < BAR_EVERY_S)
        return;
    split->bar_s = now;
    snprintf(line, sizeof line, "%s %s: %zu of %zu pictures", what, split->target, done,
             split->index.count);
    log_bar(line);
}

static bool stopped(const struct split *split, struct err *err)
{
    if (split->options->cancel == NULL || !*split->options->cancel)
        return false;
    err_set(err, ERR_STOPPED, "stopped while packing '%s'", split->index.root);
    return true;
}

static const char *extension_of(const struct buf *picture)
{
    if (data_jpeg_known(picture->data, picture->bytes))
        return "jpg";
    return data_png_known(picture->data, picture->bytes) ? "png" : NULL;
}

/* Read a picture; *extension tells its kind. */
static int read_picture(struct split *split, size_t sample, const char **extension, struct err *err)
{
    const uint32_t bytes = split->index.samples[sample].bytes;
    char *path = data_index_path(&split->index, sample);
    int rc = -1;

    split->picture.bytes = 0;
    if (file_read(path, INT32_MAX, &split->picture, err) < 0)
        goto out;
    *extension = extension_of(&split->picture);
    if (split->picture.bytes != bytes)
        err_set(err, ERR_INPUT, "'%s' changed while it was packed: had %" PRIu32 " bytes, now %zu",
                path, bytes, split->picture.bytes);
    else if (*extension == NULL)
        err_set(err, ERR_INPUT, "'%s' is no picture: neither JPEG nor PNG", path);
    else
        rc = 0;
out:
    free(path);
    return rc;
}

static int begin_shard(struct split *split, struct err *err)
{
    char name[64];

    snprintf(name, sizeof name, "shard-%06zu.tar", json_array_size(split->shards));
    split->tar_path = uri_join(split->target, name);
    split->shard_bytes = 0;
    return data_tar_open(&split->tar, split->tar_path, err);
}

static int finish_shard(struct split *split, struct err *err)
{
    char *index_path = data_shard_index_path(split->tar_path);
    struct buf encoded = {0};
    int rc = -1;

    written_add(split->written, split->tar_path);
    if (data_tar_finish(&split->tar, &split->shard.tar_bytes, err) < 0)
        goto out;
    data_shard_encode(&split->shard, &encoded);
    written_add(split->written, index_path);
    if (file_replace(index_path, encoded.data, encoded.bytes, err) < 0)
        goto out;
    json_array_append_new(split->shards, json_pack("{s:s, s:I, s:I, s:I}", "name",
                                                   strrchr(split->tar_path, '/') + 1, "count",
                                                   (json_int_t)split->shard.count, "bytes",
                                                   (json_int_t)split->shard_bytes, "tar_bytes",
                                                   (json_int_t)split->shard.tar_bytes));
    rc = 0;
out:
    data_tar_release(&split->tar);
    data_shard_release(&split->shard);
    free(split->tar_path);
    split->tar_path = NULL;
    buf_release(&encoded);
    free(index_path);
    return rc;
}

static int put_sample(struct split *split, size_t place, struct err *err)
{
    const struct data_sample *sample = &split->index.samples[place];
    struct data_shard_record record = {.bytes = sample->bytes, .label = (uint32_t)sample->label};
    const char *extension;
    char name[64], label[16];

    if (read_picture(split, place, &extension, err) < 0)
        return -1;
    if (split->tar_path == NULL && begin_shard(split, err) < 0)
        return -1;
    record.crc32c = digest_crc32c(0, split->picture.data, split->picture.bytes);
    snprintf(name, sizeof name, "%012zu.%s", place, extension);
    if (data_tar_put(&split->tar, name, split->picture.data, split->picture.bytes, &record.offset,
                     err) < 0)
        return -1;
    snprintf(name, sizeof name, "%012zu.cls", place);
    snprintf(label, sizeof label, "%" PRId32, sample->label);
    if (data_tar_put(&split->tar, name, label, strlen(label), NULL, err) < 0)
        return -1;
    data_shard_add(&split->shard, &record, sample->key);
    split->shard_bytes += sample->bytes;
    return split->tar.bytes >= split->options->shard_bytes ? finish_shard(split, err) : 0;
}

static int write_shards(struct split *split, struct err *err)
{
    for (size_t i = 0; i < split->index.count; i++) {
        if (stopped(split, err) || put_sample(split, i, err) < 0)
            return -1;
        show(split, "packing", i + 1);
    }
    return split->tar_path != NULL ? finish_shard(split, err) : 0;
}

/* Compare the tar's bytes, where the index says they are, with the index's CRCs. */
static int verify_pictures(struct split *split, const struct data_shard *shard,
                           const char *tar_path, size_t first, struct err *err)
{
    const int fd = open(tar_path, O_RDONLY | O_CLOEXEC);
    int rc = 0;

    if (fd < 0)
        return err_set_errno(err, ERR_IO, errno, "cannot read '%s' back", tar_path);
    for (size_t i = 0; i < shard->count && rc == 0; i++) {
        const struct data_shard_record *record = &shard->records[i];

        split->picture.bytes = 0;
        if (stopped(split, err) || buf_reserve(&split->picture, record->bytes, err) < 0)
            rc = -1;
        else if (pread(fd, split->picture.data, record->bytes, (off_t)record->offset) !=
                 (ssize_t)record->bytes)
            rc = err_set(err, ERR_IO, "cannot read picture '%s' back from '%s'",
                         data_shard_key(shard, i), tar_path);
        else if (digest_crc32c(0, split->picture.data, record->bytes) != record->crc32c)
            rc = err_set(err, ERR_IO, "'%s' reads back otherwise than it was written: picture '%s'",
                         tar_path, data_shard_key(shard, i));
        show(split, "verifying", first + i + 1);
    }
    close(fd);
    return rc;
}

static int verify_shards(struct split *split, struct err *err)
{
    size_t first = 0;
    int rc = 0;

    for (size_t i = 0; i < json_array_size(split->shards) && rc == 0; i++) {
        const json_t *name = json_object_get(json_array_get(split->shards, i), "name");
        char *tar_path = uri_join(split->target, json_string_value(name));
        char *index_path = data_shard_index_path(tar_path);
        struct data_shard shard = {0};

        if (data_shard_read(&shard, index_path, err) < 0 ||
            data_shard_check_tar(&shard, tar_path, index_path, first, err) < 0 ||
            verify_pictures(split, &shard, tar_path, first, err) < 0)
            rc = -1;
        first += shard.count;
        data_shard_release(&shard);
        free(index_path);
        free(tar_path);
    }
    return rc;
}

/* JSON holds text in UTF-8 only, so a class name must be that. */
static json_t *classes_json(const struct data_index *index, struct err *err)
{
    json_t *classes = json_array();

    for (int i = 0; i < index->classes; i++)
        if (json_array_append_new(classes, json_string(index->class_names[i])) < 0) {
            err_set(err, ERR_INPUT, "the name of class folder '%s/%s' is not UTF-8: rename it",
                    index->root, index->class_names[i]);
            json_decref(classes);
            return NULL;
        }
    return classes;
}

static int write_top(struct split *split, json_t *classes, struct err *err)
{
    const struct data_index *index = &split->index;
    char *path = uri_join(split->target, SHARD_TOP_NAME);
    char fingerprint[DIGEST_HEX_CHARS];
    json_t *top;
    char *text;
    int rc;

    digest_hex(index->fingerprint, fingerprint);
    top = json_pack("{s:s, s:i, s:i, s:O, s:I, s:I, s:s, s:O}", "format", SHARD_FORMAT, "version",
                    SHARD_VERSION, "order", DATA_ORDER_VERSION, "classes", classes, "count",
                    (json_int_t)index->count, "bytes", (json_int_t)index->bytes, "fingerprint",
                    fingerprint, "shards", split->shards);
    text = json_dumps(top, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
    if (text == NULL)
        abort();
    written_add(split->written, path);
    rc = file_replace(path, text, strlen(text), err);
    free(text);
    json_decref(top);
    free(path);
    return rc;
}

/* The folder, and whether it was ours to make. */
static int make_folder(struct written *written, const char *path, struct err *err)
{
    if (file_is_folder(path))
        return 0;
    if (file_make_folder(path, err) < 0)
        return -1;
    written_add(written, path);
    return 0;
}

static int write_split(struct split *split, struct err *err)
{
    json_t *classes = classes_json(&split->index, err);
    int rc = -1;

    if (classes == NULL)
        return -1;
    if (make_folder(split->written, split->target, err) == 0 && write_shards(split, err) == 0 &&
        verify_shards(split, err) == 0)
        rc = write_top(split, classes, err);
    json_decref(classes);
    log_bar("");
    return rc;
}

/* Pack one folder per class. `train` has the classes that it is bound to; an empty one takes its
 * classes from this folder. */
static int pack_split(const struct data_pack_options *options, struct written *written,
                      const char *source, const char *target, struct data_index *train,
                      struct err *err)
{
    struct split split = {
        .options = options, .written = written, .target = target, .tar.file.fd = -1};
    int rc = -1;

    if (data_index_open(&split.index, source, train->class_names, train->classes, options->cancel,
                        err) < 0)
        goto out;
    if (split.index.sharded) {
        err_set(err, ERR_INPUT, "'%s' holds shards already", source);
        goto out;
    }
    split.shards = json_array();
    if (write_split(&split, err) < 0)
        goto out;
    log_info("packed '%s': %zu pictures of %d classes in %zu shards", target, split.index.count,
             split.index.classes, json_array_size(split.shards));
    if (train->class_names == NULL) {
        *train = split.index;
        split.index = (struct data_index){0};
    }
    rc = 0;
out:
    split_release(&split);
    return rc;
}

static int refuse_shards(const char *target, struct err *err)
{
    enum data_root_kind kind;

    if (!file_exists(target))
        return 0;
    if (data_root_look(target, &kind, err) < 0)
        return -1;
    if (kind == DATA_ROOT_SHARDS || kind == DATA_ROOT_TARS)
        return err_set(err, ERR_INPUT,
                       "'%s' holds shards already: remove them or name another folder", target);
    return 0;
}

/* Where the split found at `source` goes. */
static char *target_of(const struct data_pack_options *options, const char *source)
{
    return uri_join(options->target, strrchr(source, '/') + 1);
}

static int pack_root(const struct data_pack_options *options, struct written *written,
                     struct err *err)
{
    char *sources[DATA_SPLITS] = {0}, *targets[DATA_SPLITS] = {0};
    struct data_index train = {0};
    int rc = -1;

    for (int s = 0; s < DATA_SPLITS; s++) {
        if (data_root_find(options->source, (enum data_split)s, &sources[s], err) < 0)
            goto out;
        if (sources[s] == NULL)
            continue;
        targets[s] = target_of(options, sources[s]);
        if (refuse_shards(targets[s], err) < 0)
            goto out;
    }
    if (make_folder(written, options->target, err) < 0)
        goto out;
    for (int s = 0; s < DATA_SPLITS; s++)
        if (sources[s] != NULL &&
            pack_split(options, written, sources[s], targets[s], &train, err) < 0)
            goto out;
    rc = 0;
out:
    data_index_release(&train);
    for (int s = 0; s < DATA_SPLITS; s++) {
        free(sources[s]);
        free(targets[s]);
    }
    return rc;
}

int data_pack(const struct data_pack_options *options, struct err *err)
{
    struct written written = {0};
    struct data_index train = {0};
    enum data_root_kind kind;
    int rc = -1;

    if (data_root_look(options->source, &kind, err) < 0 || refuse_shards(options->target, err) < 0)
        goto out;
    if (kind == DATA_ROOT_SPLITS)
        rc = pack_root(options, &written, err);
    else
        rc = pack_split(options, &written, options->source, options->target, &train, err);
out:
    data_index_release(&train);
    written_release(&written, rc < 0);
    return rc;
}
