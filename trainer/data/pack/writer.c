#include "trainer/data/pack/writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "base/uri.h"
#include "s3io/client.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/order.h"
#include "trainer/data/index/place.h"
#include "trainer/data/pack/packing.h"
#include "trainer/data/pack/target.h"
#include "trainer/data/picture/codec.h"
#include "trainer/data/stream/pictures.h"

void data_writer_init(struct data_writer *writer, struct data_target *target, const char *folder,
                      uint64_t shard_bytes, const volatile sig_atomic_t *cancel)
{
    *writer = (struct data_writer){.target = target,
                                   .folder = folder,
                                   .shard_bytes = shard_bytes,
                                   .cancel = cancel,
                                   .shards = json_array(),
                                   .tar.file.fd = -1};
}

static void end_shard(struct data_writer *writer)
{
    data_tar_release(&writer->tar);
    data_shard_release(&writer->shard);
    free(writer->tar_path);
    writer->tar_path = NULL;
    writer->bytes = 0;
}

static void forget_shard(struct data_writer *writer, const char *tar_path)
{
    char *index_path = data_shard_index_path(tar_path);

    data_target_forget(writer->target, index_path);
    data_target_forget(writer->target, tar_path);
    free(index_path);
}

void data_writer_release(struct data_writer *writer)
{
    if (writer->tar_path != NULL && writer->tar.archive == NULL) /* the tar may be there, alone */
        forget_shard(writer, writer->tar_path);
    if (writer->target != NULL)
        end_shard(writer);
    buf_release(&writer->scratch);
    json_decref(writer->shards);
    *writer = (struct data_writer){.tar.file.fd = -1};
}

static char *shard_path(const struct data_writer *writer, size_t number)
{
    char name[64];

    snprintf(name, sizeof name, "shard-%06zu.tar", number);
    return uri_join(writer->folder, name);
}

/* A shard on its way to a bucket has no name, so that a kill leaves nothing in TMPDIR. */
static int begin_tar(struct data_writer *writer, const char *path, struct err *err)
{
    char *temp;
    int rc;

    if (!data_place_is_remote(path))
        return data_tar_open(&writer->tar, path, err);
    temp = uri_join(file_temp_root(), strrchr(path, '/') + 1);
    rc = data_tar_open_nameless(&writer->tar, temp, err);
    free(temp);
    return rc < 0 ? err_wrap(err, "shards go to S3 by way of TMPDIR") : 0;
}

static int begin_shard(struct data_writer *writer, struct err *err)
{
    char *path = shard_path(writer, json_array_size(writer->shards));

    if (begin_tar(writer, path, err) < 0) {
        free(path);
        return -1;
    }
    writer->tar_path = path;
    return 0;
}

static void show_upload(void *context, uint64_t done, uint64_t total)
{
    const struct data_writer *writer = context;
    char line[256];

    snprintf(line, sizeof line, "uploading %.150s: %3.0f %%  %.1f of %.1f MB",
             strrchr(writer->tar_path, '/') + 1,
             total > 0 ? 100.0 * (double)done / (double)total : 100.0, (double)done / 1e6,
             (double)total / 1e6);
    log_bar(line);
}

/* --- reading back --- */

/* Read every picture of a shard where its index says, and compare the CRCs. */
static int check_pictures(struct data_writer *writer, const struct data_shard *shard,
                          const char *tar_path, const char *etag, struct err *err)
{
    char *name = text_copy(strrchr(tar_path, '/') + 1),
         *etag_copy = text_copy(etag != NULL ? etag : "");
    struct data_index index = {.root = text_copy(writer->folder),
                               .sharded = true,
                               .count = shard->count,
                               .samples = calloc(shard->count, sizeof *index.samples),
                               .files = 1,
                               .file_names = &name,
                               .file_etags = &etag_copy};
    struct data_pictures pictures = {0};
    int rc = -1;

    if (index.samples == NULL) {
        err_set(err, ERR_MEMORY, "no memory for the samples of '%s'", tar_path);
        goto out;
    }
    for (size_t i = 0; i < shard->count; i++) {
        index.samples[i] = (struct data_sample){.key = data_shard_key(shard, i),
                                                .offset = shard->records[i].offset,
                                                .bytes = shard->records[i].bytes,
                                                .crc32c = shard->records[i].crc32c};
        index.bytes += shard->records[i].bytes;
    }
    rc = data_pictures_open(&pictures, &index, writer->cancel, err);
    for (size_t i = 0; i < shard->count && rc == 0; i++) {
        if (writer->cancel != NULL && *writer->cancel)
            rc = err_set(err, ERR_STOPPED, "stopped while reading '%s' back", tar_path);
        else
            rc = data_pictures_get(&pictures, i, &writer->scratch, err);
    }
    data_pictures_close(&pictures);
out:
    free(index.samples);
    free(index.root);
    free(name);
    free(etag_copy);
    return rc;
}

/* What lies there under the shard's names: the index file, the tar's length, its pictures. first:
 * the number of its first sample. */
static int check_written(struct data_writer *writer, struct data_shard *shard, const char *tar_path,
                         const char *etag, uint64_t first, struct err *err)
{
    char *index_path = data_shard_index_path(tar_path);
    int rc = data_shard_read(shard, index_path, NULL, err);

    if (rc == 0 && !data_place_is_remote(tar_path)) /* else reading it will tell */
        rc = data_shard_check_tar(shard, tar_path, index_path, first, err);
    if (rc == 0)
        rc = check_pictures(writer, shard, tar_path, etag, err);
    free(index_path);
    return rc;
}

static int read_back(struct data_writer *writer, const char *etag, struct err *err)
{
    struct data_shard shard = {0};
    const int rc = check_written(writer, &shard, writer->tar_path, etag,
                                 writer->samples - writer->shard.count, err);

    data_shard_release(&shard);
    if (rc < 0 && err->code != ERR_STOPPED)
        err_wrap(err, "what was written reads back otherwise");
    return rc;
}

/* The shard is there: the top index learns of it. */
static void note_shard(struct data_writer *writer, const char *tar_path, size_t count,
                       uint64_t bytes, uint64_t tar_bytes)
{
    json_array_append_new(writer->shards,
                          json_pack("{s:s, s:I, s:I, s:I}", "name", strrchr(tar_path, '/') + 1,
                                    "count", (json_int_t)count, "bytes", (json_int_t)bytes,
                                    "tar_bytes", (json_int_t)tar_bytes));
}

/* --- writing --- */

/* The shard in hand is in the bucket already. */
static bool is_same(struct data_writer *writer, const struct buf *encoded, struct err *why)
{
    struct data_shard shard = {0};
    struct buf there = {0};
    bool same = check_written(writer, &shard, writer->tar_path, NULL,
                              writer->samples - writer->shard.count, why) == 0;

    if (same) {
        data_shard_encode(&shard, &there);
        same = there.bytes == encoded->bytes && memcmp(there.data, encoded->data, there.bytes) == 0;
    }
    data_shard_release(&shard);
    buf_release(&there);
    return same;
}

/* After a shard that did not pass: whether that is the shard's, or it just cannot be read now. What
 * S3 refuses is ERR_INPUT like what is damaged, so a bucket is asked once more. */
static int check_readable(const char *path, struct err *why)
{
    struct s3_client *client;
    struct data_place place = {0};
    int rc;

    if (why->code != ERR_INPUT)
        return -1;
    if (!data_place_is_remote(path))
        return 0;
    client = s3_client_shared(why);
    if (client == NULL || data_place_object(&place, path, why) < 0)
        return -1;
    rc = s3_object_head(client, place.bucket, place.key, NULL, why);
    data_place_release(&place);
    return rc < 0 ? -1 : 0;
}

/* A pack that was taken over may have ended its last upload after this one looked. What is not the
 * same is not ours to remove. */
static int take_up(struct data_writer *writer, const struct buf *encoded, struct err *err)
{
    struct err why = {0};

    if (is_same(writer, encoded, &why)) {
        data_writer_own(writer, json_array_size(writer->shards));
        return 0;
    }
    if (why.code != ERR_NONE && check_readable(writer->tar_path, &why) < 0)
        err_set(err, why.code, "%s", why.msg);
    else
        err_set(err, ERR_INPUT,
                "'%s' is there already, and not whole or not what is written here%s%s: who else "
                "writes below this prefix? When nobody does, the same command again goes on",
                writer->tar_path, why.code != ERR_NONE ? ": " : "", why.msg);
    end_shard(writer);
    return -1;
}

static int finish_shard(struct data_writer *writer, struct err *err)
{
    char *index_path = data_shard_index_path(writer->tar_path);
    struct buf encoded = {0};
    char *etag = NULL;
    int delivered, rc = -1;

    if (writer->note != NULL && data_packing_check(writer->note, err) < 0)
        goto out;
    data_target_expect(writer->target, writer->tar_path);
    if (data_tar_finish(&writer->tar, &writer->shard.tar_bytes, err) < 0)
        goto out;
    delivered = data_target_deliver(writer->target, writer->tar.file.fd, writer->tar_path, &etag,
                                    show_upload, writer, err);
    if (delivered < 0)
        goto out;
    data_tar_release(&writer->tar);
    data_shard_encode(&writer->shard, &encoded);
    if (delivered == S3_NO) {
        if (take_up(writer, &encoded, err) < 0)
            goto out;
    } else if (data_target_put(writer->target, index_path, encoded.data, encoded.bytes, err) < 0 ||
               read_back(writer, etag, err) < 0) {
        goto out;
    }
    note_shard(writer, writer->tar_path, writer->shard.count, writer->bytes,
               writer->shard.tar_bytes);
    end_shard(writer);
    rc = 0;
out:
    free(etag);
    buf_release(&encoded);
    free(index_path);
    return rc;
}

static const char *extension_of(const unsigned char *picture, size_t bytes, const char *key)
{
    const char *dot;

    if (data_jpeg_known(picture, bytes))
        return "jpg";
    if (data_png_known(picture, bytes))
        return "png";
    dot = strrchr(key, '.');
    return dot != NULL && strcasecmp(dot, ".png") == 0 ? "png" : "jpg";
}

int data_writer_put(struct data_writer *writer, const struct data_sample *sample,
                    const unsigned char *picture, struct err *err)
{
    struct data_shard_record record = {.bytes = sample->bytes,
                                       .label = (uint32_t)sample->label,
                                       .crc32c = digest_crc32c(0, picture, sample->bytes)};
    char name[64], label[16];

    if (writer->tar_path == NULL && begin_shard(writer, err) < 0)
        return -1;
    snprintf(name, sizeof name, "%012zu.%s", writer->samples,
             extension_of(picture, sample->bytes, sample->key));
    if (data_tar_put(&writer->tar, name, picture, sample->bytes, &record.offset, err) < 0)
        return -1;
    snprintf(name, sizeof name, "%012zu.cls", writer->samples);
    snprintf(label, sizeof label, "%" PRId32, sample->label);
    if (data_tar_put(&writer->tar, name, label, strlen(label), NULL, err) < 0)
        return -1;
    data_shard_add(&writer->shard, &record, sample->key);
    writer->samples++;
    writer->bytes += sample->bytes;
    return writer->tar.bytes >= writer->shard_bytes ? finish_shard(writer, err) : 0;
}

int data_writer_finish(struct data_writer *writer, struct err *err)
{
    return writer->tar_path != NULL ? finish_shard(writer, err) : 0;
}

/* --- going on --- */

/* What a sample takes up in a tar: two headers, the picture, its label. */
static uint64_t tar_bytes_of(const struct data_sample *sample)
{
    return 3 * TAR_BLOCK + ((uint64_t)sample->bytes + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
}

size_t data_writer_plan(const struct data_writer *writer, const struct data_index *index,
                        size_t first)
{
    uint64_t bytes = 0;
    size_t count = 0;

    while (first + count < index->count && bytes < writer->shard_bytes)
        bytes += tar_bytes_of(&index->samples[first + count++]);
    return count;
}

/* Whether a shard's index is the one that we would write, CRCs aside. */
static bool has_samples(const struct data_shard *shard, const struct data_index *index,
                        size_t first, size_t count)
{
    uint64_t at = 0;

    if (shard->count != count)
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct data_sample *sample = &index->samples[first + i];
        const struct data_shard_record *record = &shard->records[i];

        if (record->offset != at + TAR_BLOCK || record->bytes != sample->bytes ||
            record->label != (uint32_t)sample->label ||
            strcmp(data_shard_key(shard, i), sample->key) != 0)
            return false;
        at += tar_bytes_of(sample);
    }
    return true;
}

int data_writer_look(struct data_writer *writer, const struct data_index *index, size_t number,
                     size_t first, size_t count, uint64_t *tar_bytes, struct err *err)
{
    char *path = shard_path(writer, number);
    struct data_shard shard = {0};
    struct err why = {0};
    const bool reads = check_written(writer, &shard, path, NULL, first, &why) == 0;
    int rc = 0;

    *tar_bytes = 0;
    if (reads && has_samples(&shard, index, first, count))
        *tar_bytes = shard.tar_bytes;
    else if (!reads && check_readable(path, &why) < 0)
        rc = err_set(err, why.code, "%s", why.msg);
    else
        forget_shard(writer, path);
    data_shard_release(&shard);
    free(path);
    return rc;
}

void data_writer_own(struct data_writer *writer, size_t number)
{
    char *path = shard_path(writer, number), *index_path = data_shard_index_path(path);

    data_target_own(writer->target, path);
    data_target_own(writer->target, index_path);
    free(index_path);
    free(path);
}

void data_writer_pass(struct data_writer *writer, const struct data_index *index, size_t count,
                      uint64_t tar_bytes)
{
    char *path = shard_path(writer, json_array_size(writer->shards));
    uint64_t bytes = 0;

    for (size_t i = 0; i < count; i++)
        bytes += index->samples[writer->samples + i].bytes;
    note_shard(writer, path, count, bytes, tar_bytes);
    writer->samples += count;
    free(path);
}

/* --- the top index --- */

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

int data_writer_check_names(const struct data_index *index, struct err *err)
{
    json_t *classes = classes_json(index, err);

    json_decref(classes);
    return classes == NULL ? -1 : 0;
}

/* Which files of the shards are there, as long as they should be. */
struct presence {
    const struct data_writer *writer;
    bool *tars, *indices; /* (shards) */
};

static int see(void *context, const struct data_found *found, struct err *err)
{
    const struct presence *presence = context;
    const json_t *shards = presence->writer->shards;
    size_t number;
    char kind[4], name[64];

    (void)err;
    if (sscanf(found->name, "shard-%zu.%3s", &number, kind) != 2 ||
        number >= json_array_size(shards))
        return 0;
    snprintf(name, sizeof name, "shard-%06zu.%s", number, kind);
    if (strcmp(name, found->name) != 0)
        return 0;
    if (strcmp(kind, "idx") == 0)
        presence->indices[number] = true;
    else if (strcmp(kind, "tar") == 0)
        presence->tars[number] =
            (json_int_t)found->bytes ==
            json_integer_value(json_object_get(json_array_get(shards, number), "tar_bytes"));
    return 0;
}

static void see_file(struct presence *presence, const char *path)
{
    struct stat stat_now;

    if (stat(path, &stat_now) == 0)
        see(presence,
            &(struct data_found){.name = strrchr(path, '/') + 1,
                                 .bytes = (uint64_t)stat_now.st_size},
            NULL);
}

static int see_all(struct presence *presence, struct err *err)
{
    const struct data_writer *writer = presence->writer;

    if (data_place_is_remote(writer->folder))
        return data_place_list(writer->folder, false, see, presence, NULL, writer->cancel, err);
    for (size_t s = 0; s < json_array_size(writer->shards); s++) {
        char *path = shard_path(writer, s), *index_path = data_shard_index_path(path);

        see_file(presence, path);
        see_file(presence, index_path);
        free(index_path);
        free(path);
    }
    return 0;
}

/* Nobody is told that all is there before it is. */
static int check_all(const struct data_writer *writer, struct err *err)
{
    const size_t count = json_array_size(writer->shards);
    struct presence presence = {.writer = writer,
                                .tars = calloc(count + 1, sizeof(bool)),
                                .indices = calloc(count + 1, sizeof(bool))};
    int rc;

    if (presence.tars == NULL || presence.indices == NULL)
        abort();
    rc = see_all(&presence, err);
    for (size_t s = 0; s < count && rc == 0; s++)
        if (!presence.tars[s] || !presence.indices[s]) {
            char *path = shard_path(writer, s);

            rc = err_set(err, ERR_INPUT,
                         "'%s' was written, and then removed or changed: does another process "
                         "write there? The same command again writes what is missing",
                         path);
            free(path);
        }
    free(presence.tars);
    free(presence.indices);
    return rc;
}

int data_writer_top(struct data_writer *writer, const struct data_index *index, struct err *err)
{
    char *path = uri_join(writer->folder, SHARD_TOP_NAME), *text = NULL;
    json_t *classes = classes_json(index, err), *top = NULL;
    char fingerprint[DIGEST_HEX_CHARS];
    int rc = -1;

    if (classes == NULL || check_all(writer, err) < 0)
        goto out;
    digest_hex(index->fingerprint, fingerprint);
    top = json_pack("{s:s, s:i, s:i, s:O, s:I, s:I, s:s, s:O}", "format", SHARD_FORMAT, "version",
                    SHARD_VERSION, "order", DATA_ORDER_VERSION, "classes", classes, "count",
                    (json_int_t)index->count, "bytes", (json_int_t)index->bytes, "fingerprint",
                    fingerprint, "shards", writer->shards);
    text = json_dumps(top, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
    if (text == NULL)
        abort();
    rc = data_target_put(writer->target, path, text, strlen(text), err);
out:
    free(text);
    json_decref(top);
    json_decref(classes);
    free(path);
    return rc;
}
