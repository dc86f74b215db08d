#include "trainer/data/index/index.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "base/uri.h"
#include "trainer/data/index/builder.h"
#include "trainer/data/index/names.h"
#include "trainer/data/index/numbers.h"
#include "trainer/data/index/pages.h"
#include "trainer/data/index/place.h"

#define CHUNK_BYTES                                                                                \
    ((uint64_t)4 << 20) /* DESIGN: one range request over S3 pays for itself at about 4 MB */
#define CHUNK_SAMPLES_MAX 256

static void put_u32(unsigned char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (unsigned char)(value >> (8 * i));
}

/* Sum the bytes and take the fingerprint: SHA-256 over, for each class, its name and a NUL; one
 * more NUL; for each sample its key, a NUL, label and bytes (u32, little-endian). Of a joined index
 * also, for each part, its number of samples (u32): what a host has of its own is part of what an
 * epoch is. */
void data_index_seal(struct data_index *index)
{
    struct digest_sha256 *digest = digest_sha256_new();
    unsigned char numbers[8];

    index->bytes = 0;
    for (int i = 0; i < index->classes; i++)
        digest_sha256_put(digest, index->class_names[i], strlen(index->class_names[i]) + 1);
    digest_sha256_put(digest, "", 1);
    for (size_t i = 0; i < index->count; i++) {
        const struct data_sample *sample = &index->samples[i];

        put_u32(numbers, (uint32_t)sample->label);
        put_u32(numbers + 4, sample->bytes);
        digest_sha256_put(digest, sample->key, strlen(sample->key) + 1);
        digest_sha256_put(digest, numbers, sizeof numbers);
        index->bytes += sample->bytes;
    }
    for (size_t p = 0; p < index->part_count; p++) {
        put_u32(numbers, (uint32_t)index->parts[p].count);
        digest_sha256_put(digest, numbers, sizeof(uint32_t));
    }
    digest_sha256_end(digest, index->fingerprint);
    digest_sha256_free(digest);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Replace the index's classes by others that contain them. */
static int bind_classes(struct data_index *index, char *const *class_names, int classes,
                        struct err *err)
{
    int32_t *labels = calloc((size_t)index->classes + 1, sizeof *labels); /* old label -> new */
    char **names;
    int rc = -1;

    if (labels == NULL)
        abort();
    for (int i = 0; i < index->classes; i++) {
        char *const *found = bsearch(&index->class_names[i], class_names, (size_t)classes,
                                     sizeof *class_names, by_name);

        const int number = found != NULL
                               ? (int)(found - class_names)
                               : data_numbers_find(class_names, classes, index->class_names[i]);

        if (number < 0) {
            err_set(err, ERR_INPUT,
                    "class '%s' of '%s' is not among the %d classes of the training data",
                    index->class_names[i], index->root, classes);
            goto out;
        }
        labels[i] = number;
    }
    if (index->pages != NULL)
        data_pages_bind(index->pages, labels, index->classes);
    else
        for (size_t i = 0; i < index->count; i++)
            index->samples[i].label = labels[index->samples[i].label];
    names = data_names_copy(class_names, (size_t)classes); /* they may be the index's own */
    data_names_free(index->class_names, (size_t)index->classes);
    index->class_names = names;
    index->classes = classes;
    if (index->pages == NULL)
        data_index_seal(index);
    rc = 0;
out:
    free(labels);
    return rc;
}

struct sorted {
    unsigned char sha256[DIGEST_SHA256_BYTES];
    struct data_sample sample;
};

static int by_digest(const void *a, const void *b)
{
    return memcmp(((const struct sorted *)a)->sha256, ((const struct sorted *)b)->sha256,
                  DIGEST_SHA256_BYTES);
}

int data_index_sort(struct data_index *index, struct err *err)
{
    struct sorted *sorted = calloc(index->count + 1, sizeof *sorted);

    if (sorted == NULL)
        return err_set(err, ERR_MEMORY, "no memory to sort the %zu pictures of '%s'", index->count,
                       index->root);
    for (size_t i = 0; i < index->count; i++) {
        sorted[i].sample = index->samples[i];
        digest_sha256(sorted[i].sample.key, strlen(sorted[i].sample.key), sorted[i].sha256);
    }
    qsort(sorted, index->count, sizeof *sorted, by_digest);
    for (size_t i = 0; i < index->count; i++)
        index->samples[i] = sorted[i].sample;
    free(sorted);
    return 0;
}

int data_index_bind(struct data_index *index, char *const *class_names, int classes,
                    struct err *err)
{
    if (class_names != NULL)
        return bind_classes(index, class_names, classes, err);
    if (index->classes == 1)
        return err_set(err, ERR_INPUT,
                       "'%s' has one class only ('%s'): training needs at least two classes",
                       index->root, index->class_names[0]);
    return 0;
}

int data_index_complete(struct data_index *index, bool sort, char *const *class_names, int classes,
                        struct err *err)
{
    if (sort && data_index_sort(index, err) < 0)
        return -1;
    data_index_seal(index);
    return data_index_bind(index, class_names, classes, err);
}

void data_index_release(struct data_index *index)
{
    if (index == NULL)
        return;
    data_pages_free(index->pages);
    free(index->root);
    free(index->samples);
    data_names_free(index->class_names, (size_t)index->classes);
    data_names_free(index->file_names, index->files);
    data_names_free(index->file_etags, index->files);
    free(index->keys);
    free(index->ignored.first);
    free(index->empty.first);
    free(index->parts);
    *index = (struct data_index){0};
}

char *data_index_path(const struct data_index *index, size_t sample)
{
    assert(sample < index->count);
    if (index->root[0] == '\0') /* given files: keys are paths as they were given (files.h) */
        return text_copy(index->samples[sample].key);
    if (index->pages != NULL)
        return uri_join(index->root, index->file_names[data_pages_file(index->pages, sample)]);
    return uri_join(index->root, index->sharded ? index->file_names[index->samples[sample].file]
                                                : index->samples[sample].key);
}

int data_index_hold(const struct data_index *index, uint64_t sample,
                    const volatile sig_atomic_t *cancel, struct err *err)
{
    return index->pages != NULL ? data_pages_hold(index->pages, sample, cancel, err) : 0;
}

void data_index_drop(const struct data_index *index, uint64_t sample)
{
    if (index->pages != NULL)
        data_pages_drop(index->pages, sample);
}

const struct data_sample *data_index_sample(const struct data_index *index, uint64_t sample)
{
    return index->pages != NULL ? data_pages_sample(index->pages, sample) : &index->samples[sample];
}

size_t data_index_chunk_samples(const struct data_index *index)
{
    const uint64_t samples =
        index->bytes > 0 ? CHUNK_BYTES * index->count / index->bytes : CHUNK_SAMPLES_MAX;

    return samples < 1 ? 1 : samples > CHUNK_SAMPLES_MAX ? CHUNK_SAMPLES_MAX : samples;
}

/* What goes ahead of the texts and samples. Both ends are the same build: native bytes will do. */
struct encoded {
    uint64_t count, files, bytes, ignored, empty;
    int32_t classes, sharded, etags, paged;
    unsigned char fingerprint[DIGEST_SHA256_BYTES];
};

static void append_text(struct buf *out, const char *text)
{
    buf_append(out, text, strlen(text) + 1);
}

void data_index_encode(const struct data_index *index, struct buf *out)
{
    struct encoded head = {
        .count = index->count,
        .files = index->files,
        .bytes = index->bytes,
        .ignored = index->ignored.count,
        .empty = index->empty.count,
        .classes = index->classes,
        .sharded = index->sharded,
        .etags = index->file_etags != NULL,
        .paged = index->pages != NULL,
    };

    memcpy(head.fingerprint, index->fingerprint, sizeof head.fingerprint);
    buf_append(out, &head, sizeof head);
    append_text(out, index->root);
    for (int i = 0; i < index->classes; i++)
        append_text(out, index->class_names[i]);
    for (size_t i = 0; i < index->files; i++)
        append_text(out, index->file_names[i]);
    for (size_t i = 0; index->file_etags != NULL && i < index->files; i++)
        append_text(out, index->file_etags[i]);
    if (index->pages != NULL)
        data_pages_encode(index->pages, out);
    for (size_t i = 0; index->pages == NULL && i < index->count; i++) {
        struct data_sample sample = index->samples[i];

        sample.key = NULL; /* the key follows instead */
        buf_append(out, &sample, sizeof sample);
        append_text(out, index->samples[i].key);
    }
}

/* What is left to decode. */
struct rest {
    const char *at;
    size_t bytes;
};

static bool take(struct rest *rest, void *to, size_t bytes)
{
    if (rest->bytes < bytes)
        return false;
    memcpy(to, rest->at, bytes);
    rest->at += bytes;
    rest->bytes -= bytes;
    return true;
}

static const char *take_text(struct rest *rest)
{
    const char *text = rest->at;
    const char *end = rest->bytes > 0 ? memchr(text, '\0', rest->bytes) : NULL;

    if (end == NULL)
        return NULL;
    rest->bytes -= (size_t)(end + 1 - text);
    rest->at = end + 1;
    return text;
}

static bool take_names(struct rest *rest, size_t count, char ***names, size_t *taken)
{
    const char *name;

    if (count > rest->bytes) /* each takes a byte at least */
        return false;
    *names = calloc(count + 1, sizeof **names);
    if (*names == NULL)
        abort();
    for (*taken = 0; *taken < count; (*taken)++) {
        if ((name = take_text(rest)) == NULL)
            return false;
        (*names)[*taken] = text_copy(name);
    }
    return true;
}

static int take_samples(struct rest *rest, const struct encoded *head, struct data_index *index,
                        struct err *err)
{
    struct data_builder builder = {0};
    struct data_sample sample;
    const char *key;

    for (uint64_t i = 0; i < head->count; i++) {
        if (!take(rest, &sample, sizeof sample) || (key = take_text(rest)) == NULL) {
            data_builder_release(&builder);
            return err_set(err, ERR_INTERNAL,
                           "an index received ends after %llu of its %llu samples",
                           (unsigned long long)i, (unsigned long long)head->count);
        }
        if (data_builder_add(&builder, &sample, key, err) < 0) {
            data_builder_release(&builder);
            return -1;
        }
    }
    data_builder_finish(&builder, index);
    return 0;
}

int data_index_decode(struct data_index *index, const void *data, size_t bytes, struct err *err)
{
    struct rest rest = {.at = data, .bytes = bytes};
    struct data_index decoded = {0};
    struct encoded head;
    const char *root;
    size_t classes = 0, etags = 0;
    bool whole;

    whole = take(&rest, &head, sizeof head) && (root = take_text(&rest)) != NULL;
    if (whole) {
        decoded.root = text_copy(root);
        decoded.sharded = head.sharded != 0;
        decoded.bytes = head.bytes;
        decoded.ignored.count = head.ignored;
        decoded.empty.count = head.empty;
        memcpy(decoded.fingerprint, head.fingerprint, sizeof head.fingerprint);
        whole = take_names(&rest, (size_t)head.classes, &decoded.class_names, &classes);
        decoded.classes = (int)classes;
        whole = whole && take_names(&rest, head.files, &decoded.file_names, &decoded.files);
        if (whole && head.etags != 0)
            whole = take_names(&rest, head.files, &decoded.file_etags, &etags);
    }
    if (whole && head.paged != 0) {
        decoded.count = head.count;
        decoded.pages = data_pages_decode(&decoded, rest.at, rest.bytes);
        whole = decoded.pages != NULL;
    }
    if (!whole || (head.paged == 0 && take_samples(&rest, &head, &decoded, err) < 0)) {
        if (!whole)
            err_set(err, ERR_INTERNAL, "an index received is cut short: %zu bytes", bytes);
        data_index_release(&decoded);
        return -1;
    }
    *index = decoded;
    return 0;
}
