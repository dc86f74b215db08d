#include "trainer/data/pack/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "base/uri.h"
#include "s3io/client.h"
#include "s3io/object.h"
#include "trainer/data/foreign/recordio.h"
#include "trainer/data/index/builder.h"
#include "trainer/data/index/numbers.h"
#include "trainer/data/set/list_file.h"
#include "trainer/data/set/open.h"
#include "trainer/data/set/root.h"
#include "trainer/data/stream/read.h"

struct data_source_record {
    uint64_t at;
    uint32_t raw_bytes;
};

static bool is_recordio(const char *path)
{
    const size_t bytes = strlen(path);

    return bytes > 4 && strcasecmp(path + bytes - 4, ".rec") == 0;
}

bool data_source_is_file(const char *path)
{
    return is_recordio(path) || data_list_is(path);
}

/* "DIR/NAME" -> "DIR"; "NAME" -> ".". */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (slash == NULL)
        return text_copy(".");
    return text_copy_bytes(path, slash == path ? 1 : (size_t)(slash - path));
}

/* --- RecordIO --- */

static int add_record(struct data_source *source, struct data_builder *builder, struct buf *places,
                      const struct data_record *record, size_t number, struct err *err)
{
    struct data_source_record place = {.at = record->at, .raw_bytes = (uint32_t)record->raw_bytes};
    struct data_sample sample = {.offset = record->at};
    const char *why;
    size_t picture;
    char key[32];

    if (record->raw_bytes > INT32_MAX) /* of empty parts */
        return data_bytes_refuse(&source->file, record->at, err, "a record above 2 GiB");
    why =
        data_record_image(record->head, record->head_bytes, record->bytes, &sample.label, &picture);
    if (why != NULL)
        return data_bytes_refuse(&source->file, record->at, err, "%s", why);
    sample.bytes = (uint32_t)(record->bytes - picture);
    snprintf(key, sizeof key, "%012zu.jpg", number);
    buf_append(places, &place, sizeof place);
    return data_builder_add(builder, &sample, key, err);
}

static int read_records(struct data_source *source, const char *path, struct err *err)
{
    struct data_builder builder = {0};
    struct buf places = {0};
    struct data_record record;
    size_t number = 0;
    uint64_t at = 0;
    int rc;

    if (data_bytes_open(&source->file, path, source->cancel, err) < 0)
        return -1;
    while ((rc = data_record_look(&source->file, &at, &record, err)) == 1) {
        rc = add_record(source, &builder, &places, &record, number++, err);
        if (rc < 0)
            break;
    }
    source->records = (struct data_source_record *)(void *)places.data;
    if (rc < 0) {
        data_builder_release(&builder);
        return -1;
    }
    data_builder_finish(&builder, &source->index);
    return number > 0 ? 0 : err_set(err, ERR_INPUT, "'%s' is empty", path);
}

static int get_record(const struct data_source *source, size_t sample, struct buf *out,
                      struct err *err)
{
    const struct data_source_record *place = &source->records[sample];
    const struct data_sample *entry = &source->index.samples[sample];
    int64_t joined;
    size_t skip;

    if (buf_reserve(out, place->raw_bytes, err) < 0 ||
        data_bytes_range(&source->file, place->at, out->data, place->raw_bytes, err) < 0)
        return -1;
    joined = data_record_join(out->data, place->raw_bytes);
    if (joined < (int64_t)entry->bytes)
        return data_bytes_refuse(&source->file, place->at, err,
                                 "the record is not what it was a moment ago");
    skip = (size_t)joined - entry->bytes;
    memmove(out->data, out->data + skip, entry->bytes);
    out->bytes = entry->bytes;
    return 0;
}

/* --- what it is known by --- */

static void put_number(struct digest_sha256 *digest, uint64_t number)
{
    char text[24];

    digest_sha256_put(digest, text, (size_t)snprintf(text, sizeof text, "%" PRIu64 "\n", number));
}

static void put_file(struct digest_sha256 *digest, const char *path)
{
    struct stat stat_now;

    if (stat(path, &stat_now) < 0) /* reading it will tell */
        memset(&stat_now, 0, sizeof stat_now);
    put_number(digest, (uint64_t)stat_now.st_size);
    put_number(digest, (uint64_t)stat_now.st_mtim.tv_sec);
    put_number(digest, (uint64_t)stat_now.st_mtim.tv_nsec);
    put_number(digest, (uint64_t)stat_now.st_ctim.tv_sec);
    put_number(digest, (uint64_t)stat_now.st_ctim.tv_nsec);
}

static void put_samples(struct digest_sha256 *digest, const struct data_index *index)
{
    for (size_t i = 0; i < index->count; i++) {
        if (data_place_is_remote(index->root)) {
            put_number(digest, index->samples[i].crc32c);
        } else {
            char *path = data_index_path(index, i);

            put_file(digest, path);
            free(path);
        }
    }
}

static void put_tars(struct digest_sha256 *digest, const struct data_index *index)
{
    for (size_t f = 0; f < index->files; f++) {
        char *path = uri_join(index->root, index->file_names[f]);

        digest_sha256_put(digest, index->file_names[f], strlen(index->file_names[f]) + 1);
        if (index->file_etags != NULL)
            digest_sha256_put(digest, index->file_etags[f], strlen(index->file_etags[f]) + 1);
        else
            put_file(digest, path);
        free(path);
    }
}

static void identify(struct data_source *source)
{
    struct digest_sha256 *digest = digest_sha256_new();
    const struct data_index *index = &source->index;

    digest_sha256_put(digest, index->fingerprint, sizeof index->fingerprint);
    if (source->records != NULL) {
        put_number(digest, source->file.total);
        put_number(digest, (uint64_t)source->file.changed_ns);
        if (source->file.etag != NULL)
            digest_sha256_put(digest, source->file.etag, strlen(source->file.etag));
    } else if (index->sharded) {
        put_tars(digest, index);
    } else {
        put_samples(digest, index);
    }
    digest_sha256_end(digest, source->identity);
    digest_sha256_free(digest);
}

/* --- all of them --- */

static int open_file(struct data_source *source, const char *path, const char *root,
                     char *const *class_names, int classes, struct err *err)
{
    struct data_index *index = &source->index;
    const bool list = data_list_is(path);
    int rc;

    index->root = list && root == NULL ? folder_of(path) : text_copy(list ? root : path);
    rc = list ? data_list_read(index, path, source->cancel, err) : read_records(source, path, err);
    if (rc < 0)
        return -1;
    data_numbers_name(index, class_names == NULL);
    return data_index_complete(index, list, class_names, classes, err);
}

static int open_folder(struct data_source *source, const char *path, char *const *class_names,
                       int classes, struct err *err)
{
    enum data_root_kind kind;

    if (data_root_look(path, &kind, source->cancel, err) < 0)
        return -1;
    if (kind == DATA_ROOT_SHARDS)
        return err_set(err, ERR_INPUT, "'%s' holds shards already", path);
    if (data_index_open(&source->index, path, class_names, classes, source->cancel, err) < 0)
        return -1;
    return 0;
}

int data_source_open(struct data_source *source, const char *path, const char *root,
                     char *const *class_names, int classes, const volatile sig_atomic_t *cancel,
                     struct err *err)
{
    int rc;

    *source = (struct data_source){.cancel = cancel, .file.fd = -1};
    rc = data_source_is_file(path) ? open_file(source, path, root, class_names, classes, err)
                                   : open_folder(source, path, class_names, classes, err);
    if (rc == 0 && source->records == NULL && !data_place_is_remote(source->index.root))
        source->reader = data_reader_new(&source->index, cancel);
    else if (rc == 0 && source->records == NULL)
        rc = data_place_folder(&source->place, source->index.root, err);
    if (rc < 0)
        data_source_close(source);
    else
        identify(source);
    return rc;
}

void data_source_close(struct data_source *source)
{
    data_reader_free(source->reader);
    data_place_release(&source->place);
    if (source->records != NULL || source->file.name != NULL)
        data_bytes_close(&source->file);
    free(source->records);
    data_index_release(&source->index);
    *source = (struct data_source){.file.fd = -1};
}

/* An object of its own must still have the ETag with which it was listed. */
static int check_object(const struct data_source *source, const struct data_sample *sample,
                        const struct s3_object *object, struct err *err)
{
    const uint32_t etag = digest_crc32c(0, object->etag, strlen(object->etag));

    if (source->index.sharded ||
        (object->bytes == sample->bytes && (sample->crc32c == 0 || etag == sample->crc32c)))
        return 0;
    return err_set(err, ERR_INPUT, "'s3://%s/%s%s' was replaced after its folder was listed",
                   source->place.bucket, source->place.key, sample->key);
}

static int get_object(const struct data_source *source, size_t sample, struct buf *out,
                      struct err *err)
{
    const struct data_index *index = &source->index;
    const struct data_sample *entry = &index->samples[sample];
    struct s3_client *client = s3_client_shared(err);
    struct s3_get get = {.bucket = source->place.bucket,
                         .offset = entry->offset,
                         .bytes = entry->bytes,
                         .cancel = source->cancel};
    struct s3_object object = {0};
    struct buf key = {0};
    int rc;

    if (client == NULL || buf_reserve(out, entry->bytes, err) < 0)
        return -1;
    buf_printf(&key, "%s%s", source->place.key,
               index->sharded ? index->file_names[entry->file] : entry->key);
    get.key = buf_text(&key);
    if (index->sharded && index->file_etags != NULL && index->file_etags[entry->file][0] != '\0')
        get.if_match = index->file_etags[entry->file];
    rc = s3_object_read(client, &get, out->data, &object, err);
    if (rc == S3_NO)
        rc = s3_object_missing(get.bucket, get.key, err);
    else if (rc == S3_YES)
        rc = check_object(source, entry, &object, err);
    if (rc == 0)
        out->bytes = entry->bytes;
    buf_release(&key);
    return rc;
}

int data_source_get(const struct data_source *source, size_t sample, struct buf *out,
                    struct err *err)
{
    out->bytes = 0;
    if (source->records != NULL)
        return get_record(source, sample, out, err);
    if (source->reader != NULL)
        return data_reader_get(source->reader, sample, out, NULL, err);
    return get_object(source, sample, out, err);
}
