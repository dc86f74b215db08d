#include "trainer/data/pack.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/uri.h"
#include "trainer/data/codec.h"
#include "trainer/data/folder.h"
#include "trainer/data/index.h"
#include "trainer/data/order.h"
#include "trainer/data/pictures.h"
#include "trainer/data/place.h"
#include "trainer/data/root.h"
#include "trainer/data/shard.h"
#include "trainer/data/tar.h"
#include "trainer/data/target.h"

#define BAR_EVERY_S 0.2

/* One folder per class on its way into shards. */
struct split {
    const struct data_pack_options *options;
    struct data_target *target;
    const char *folder; /* below the target */
    struct data_index index;
    struct data_pictures pictures;
    struct data_index packed; /* where the samples went: keys are those of `index` */
    json_t *shards;           /* of the top index; a member for every shard that is finished */
    struct data_tar tar;      /* the shard in hand */
    struct data_shard shard;
    char *tar_path, *draft;
    uint64_t shard_bytes; /* its pictures */
    struct buf picture;
    struct data_left bad; /* neither JPEG nor PNG */
    uint64_t bytes;       /* done, for the bar */
    double bar_s;
};

static void split_release(struct split *split)
{
    data_tar_release(&split->tar);
    data_shard_release(&split->shard);
    free(split->tar_path);
    free(split->draft);
    free(split->bad.first);
    buf_release(&split->picture);
    json_decref(split->shards);
    data_pictures_close(&split->pictures);
    data_index_release(&split->packed);
    data_index_release(&split->index);
}

static bool bar_is_due(struct split *split)
{
    const double now = clock_now_s();

    if (now - split->bar_s < BAR_EVERY_S)
        return false;
    split->bar_s = now;
    return true;
}

static void show(struct split *split, const char *what, size_t done)
{
    char line[256];

    split->bytes = done == 1 ? 0 : split->bytes;
    split->bytes += split->index.samples[done - 1].bytes;
    if (!bar_is_due(split))
        return;
    snprintf(line, sizeof line, "%s %s: %zu of %zu pictures, %.1f of %.1f MB", what, split->folder,
             done, split->index.count, (double)split->bytes / 1e6,
             (double)split->index.bytes / 1e6);
    log_bar(line);
}

static void show_upload(void *context, uint64_t done, uint64_t total)
{
    struct split *split = context;
    char line[256];

    if (!bar_is_due(split))
        return;
    snprintf(line, sizeof line, "uploading %s: %.1f of %.1f MB", split->tar_path,
             (double)done / 1e6, (double)total / 1e6);
    log_bar(line);
}

static bool stopped(const struct split *split, struct err *err)
{
    if (split->options->cancel == NULL || !*split->options->cancel)
        return false;
    err_set(err, ERR_STOPPED, "stopped while packing '%s'", split->index.root);
    return true;
}

/* Read a picture; *extension tells its kind. What is neither keeps its name's: training from shards
 * and from the folder meets the same samples, and leaves out the same. */
static int read_picture(struct split *split, size_t sample, const char **extension, struct err *err)
{
    const struct buf *const picture = &split->picture;
    const char *const key = split->index.samples[sample].key;
    char *path;

    if (data_pictures_get(&split->pictures, sample, &split->picture, err) < 0)
        return -1;
    if (data_jpeg_known(picture->data, picture->bytes)) {
        *extension = "jpg";
    } else if (data_png_known(picture->data, picture->bytes)) {
        *extension = "png";
    } else if (split->options->stop_at_bad) {
        path = data_index_path(&split->index, sample);
        err_set(err, ERR_INPUT, "'%s' is no picture: neither JPEG nor PNG", path);
        free(path);
        return -1;
    } else {
        *extension = strcasecmp(strrchr(key, '.'), ".png") == 0 ? "png" : "jpg";
        data_folder_leave(&split->bad, key, strlen(key));
    }
    return 0;
}

static int begin_shard(struct split *split, struct err *err)
{
    char name[64];

    snprintf(name, sizeof name, "shard-%06zu.tar", json_array_size(split->shards));
    split->tar_path = uri_join(split->folder, name);
    split->shard_bytes = 0;
    split->draft = data_target_draft(split->target, split->tar_path, err);
    return split->draft == NULL ? -1 : data_tar_open(&split->tar, split->draft, err);
}

/* The shard is there: the top index and `packed` learn of it. */
static void note_shard(struct split *split, char *etag)
{
    struct data_index *packed = &split->packed;
    const char *name = strrchr(split->tar_path, '/') + 1;
    const size_t files = packed->files + 2; /* with a NULL at the end */

    packed->file_names = reallocarray(packed->file_names, files, sizeof *packed->file_names);
    packed->file_etags = reallocarray(packed->file_etags, files, sizeof *packed->file_etags);
    if (packed->file_names == NULL || packed->file_etags == NULL)
        abort();
    packed->file_names[packed->files] = strdup(name);
    packed->file_etags[packed->files] = etag != NULL ? etag : strdup("");
    if (packed->file_names[packed->files] == NULL || packed->file_etags[packed->files] == NULL)
        abort();
    packed->files++;
    json_array_append_new(split->shards, json_pack("{s:s, s:I, s:I, s:I}", "name", name, "count",
                                                   (json_int_t)split->shard.count, "bytes",
                                                   (json_int_t)split->shard_bytes, "tar_bytes",
                                                   (json_int_t)split->shard.tar_bytes));
}

static int finish_shard(struct split *split, struct err *err)
{
    char *index_path = data_shard_index_path(split->tar_path);
    struct buf encoded = {0};
    char *etag = NULL;
    int rc = -1;

    data_target_expect(split->target, split->tar_path);
    if (data_tar_finish(&split->tar, &split->shard.tar_bytes, err) < 0 ||
        data_target_deliver(split->target, split->draft, split->tar_path, &etag, show_upload, split,
                            err) < 0)
        goto out;
    data_shard_encode(&split->shard, &encoded);
    if (data_target_put(split->target, index_path, encoded.data, encoded.bytes, err) < 0)
        goto out;
    note_shard(split, etag);
    etag = NULL;
    rc = 0;
out:
    data_tar_release(&split->tar);
    data_shard_release(&split->shard);
    free(split->tar_path);
    free(split->draft);
    free(etag);
    split->tar_path = split->draft = NULL;
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
    split->packed.samples[place] = *sample;
    split->packed.samples[place].offset = record.offset;
    split->packed.samples[place].crc32c = record.crc32c;
    split->packed.samples[place].file = (uint32_t)json_array_size(split->shards);
    split->shard_bytes += sample->bytes;
    return split->tar.bytes >= split->options->shard_bytes ? finish_shard(split, err) : 0;
}

static int write_shards(struct split *split, struct err *err)
{
    split->packed = (struct data_index){
        .root = strdup(split->folder),
        .sharded = true,
        .count = split->index.count,
        .samples = calloc(split->index.count + 1, sizeof *split->packed.samples),
        .bytes = split->index.bytes,
    };
    if (split->packed.root == NULL || split->packed.samples == NULL)
        abort();
    for (size_t i = 0; i < split->index.count; i++) {
        if (stopped(split, err) || put_sample(split, i, err) < 0)
            return -1;
        show(split, "packing", i + 1);
    }
    return split->tar_path != NULL ? finish_shard(split, err) : 0;
}

/* Compare the bytes that lie where the index says with its CRCs. */
static int verify_pictures(struct split *split, struct err *err)
{
    struct data_pictures pictures = {0};
    int rc = data_pictures_open(&pictures, &split->packed, split->options->cancel, err);

    for (size_t i = 0; i < split->packed.count && rc == 0; i++) {
        if (stopped(split, err) || data_pictures_get(&pictures, i, &split->picture, err) < 0)
            rc = -1;
        else
            show(split, "verifying", i + 1);
    }
    data_pictures_close(&pictures);
    return rc;
}

static int verify_shards(struct split *split, struct err *err)
{
    size_t first = 0;
    int rc = 0;

    for (size_t i = 0; i < split->packed.files && rc == 0; i++) {
        char *tar_path = uri_join(split->folder, split->packed.file_names[i]);
        char *index_path = data_shard_index_path(tar_path);
        struct data_shard shard = {0};

        rc = data_shard_read(&shard, index_path, err);
        if (rc == 0 && !data_place_is_remote(tar_path)) /* else reading it will tell */
            rc = data_shard_check_tar(&shard, tar_path, index_path, first, err);
        first += shard.count;
        data_shard_release(&shard);
        free(index_path);
        free(tar_path);
    }
    if (rc == 0)
        rc = verify_pictures(split, err);
    if (rc < 0 && err->code != ERR_STOPPED)
        err_wrap(err, "what was written reads back otherwise");
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
    char *path = uri_join(split->folder, SHARD_TOP_NAME);
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
    rc = data_target_put(split->target, path, text, strlen(text), err);
    free(text);
    json_decref(top);
    free(path);
    return rc;
}

static int write_split(struct split *split, struct err *err)
{
    json_t *classes = classes_json(&split->index, err);
    int rc = -1;

    if (classes == NULL)
        return -1;
    if (data_target_folder(split->target, split->folder, err) == 0 &&
        data_pictures_open(&split->pictures, &split->index, split->options->cancel, err) == 0 &&
        write_shards(split, err) == 0 && verify_shards(split, err) == 0)
        rc = write_top(split, classes, err);
    json_decref(classes);
    log_bar("");
    return rc;
}

/* Before anything is written. */
static int tell_empty(const struct split *split, const char *source, struct err *err)
{
    const struct data_left *const empty = &split->index.empty;

    if (empty->count > 0 && split->options->stop_at_bad)
        return err_set(err, ERR_INPUT, "picture '%s/%s' is empty: it has 0 bytes", source,
                       empty->first);
    if (empty->count > 0)
        log_warn("%zu pictures below '%s' are empty and are left out; the first is '%s'",
                 empty->count, source, empty->first);
    return 0;
}

/* What a run from these shards will leave out. */
static void tell_bad(const struct split *split, const char *source)
{
    const struct data_left *const bad = &split->bad;

    if (bad->count > 0)
        log_warn("%zu files below '%s' are neither JPEG nor PNG, and training will leave them out; "
                 "the first is '%s'",
                 bad->count, source, bad->first);
}

/* Pack one folder per class. `train` has the classes that it is bound to; an empty one takes its
 * classes from this folder. */
static int pack_split(const struct data_pack_options *options, struct data_target *target,
                      const char *source, const char *folder, struct data_index *train,
                      struct err *err)
{
    struct split split = {
        .options = options, .target = target, .folder = folder, .tar.file.fd = -1};
    int rc = -1;

    if (data_index_open(&split.index, source, train->class_names, train->classes, options->cancel,
                        err) < 0)
        goto out;
    if (split.index.sharded) {
        err_set(err, ERR_INPUT, "'%s' holds shards already", source);
        goto out;
    }
    split.shards = json_array();
    if (tell_empty(&split, source, err) < 0 || write_split(&split, err) < 0)
        goto out;
    tell_bad(&split, source);
    log_info("packed '%s': %zu pictures of %d classes in %zu shards", folder, split.index.count,
             split.index.classes, json_array_size(split.shards));
    if (train->class_names == NULL) {
        data_pictures_close(&split.pictures); /* it reads from the index that goes now */
        *train = split.index;
        split.index = (struct data_index){0};
    }
    rc = 0;
out:
    split_release(&split);
    return rc;
}

static int refuse_shards(const char *target, const volatile sig_atomic_t *cancel, struct err *err)
{
    enum data_root_kind kind;
    bool there = false;

    if (!data_place_is_remote(target))
        there = file_exists(target);
    else if (data_place_exists(target, &there, err) < 0)
        return -1;
    if (!there)
        return 0;
    if (data_root_look(target, &kind, cancel, err) < 0)
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

static int pack_root(const struct data_pack_options *options, struct data_target *target,
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
        if (refuse_shards(targets[s], options->cancel, err) < 0)
            goto out;
    }
    if (data_target_folder(target, options->target, err) < 0)
        goto out;
    for (int s = 0; s < DATA_SPLITS; s++)
        if (sources[s] != NULL &&
            pack_split(options, target, sources[s], targets[s], &train, err) < 0)
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
    struct data_target target = {0};
    struct data_index train = {0};
    enum data_root_kind kind;
    int rc = -1;

    if (data_root_look(options->source, &kind, options->cancel, err) < 0 ||
        refuse_shards(options->target, options->cancel, err) < 0)
        goto out;
    if (kind == DATA_ROOT_SPLITS)
        rc = pack_root(options, &target, err);
    else
        rc = pack_split(options, &target, options->source, options->target, &train, err);
out:
    data_index_release(&train);
    data_target_release(&target, rc < 0);
    return rc;
}
