#include "trainer/data/set/bucket.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "trainer/data/index/builder.h"
#include "trainer/data/index/entry.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/place.h"
#include "trainer/data/set/folder.h"
#include "trainer/data/set/manifest.h"

/* A class as it was met in the listing. Most servers list bytewise, so that a class's keys come
 * together; where they do not, it is met several times. */
struct class
{
    char *name;
    size_t pictures;
};

struct reading {
    struct data_index *index;
    struct data_builder builder; /* labels are places in `classes` until all are known */
    struct class *classes;
    size_t count, capacity;
    struct buf nested; /* the folder inside a class that was met last, "CLASS/sub/" */
};

static void enter_class(struct reading *reading, const char *name, size_t bytes)
{
    if (reading->count > 0) {
        const char *last = reading->classes[reading->count - 1].name;

        if (strlen(last) == bytes && memcmp(last, name, bytes) == 0)
            return;
    }
    if (reading->count == reading->capacity) {
        reading->capacity = reading->capacity * 2 + 16;
        reading->classes =
            reallocarray(reading->classes, reading->capacity, sizeof *reading->classes);
        if (reading->classes == NULL)
            abort();
    }
    reading->classes[reading->count] = (struct class){.name = strndup(name, bytes)};
    if (reading->classes[reading->count++].name == NULL)
        abort();
}

/* What lies in a folder inside a class: the folder is one entry that is no picture. */
static void meet_nested(struct reading *reading, const char *key, size_t bytes)
{
    if (reading->nested.bytes == bytes && memcmp(reading->nested.data, key, bytes) == 0)
        return;
    reading->nested.bytes = 0;
    buf_append(&reading->nested, key, bytes);
    data_folder_leave(&reading->index->ignored, key, bytes);
}

static int add_picture(struct reading *reading, const struct data_found *found, struct err *err)
{
    struct data_sample sample = {
        .label = (int32_t)(reading->count - 1),
        .crc32c = digest_crc32c(0, found->etag, strlen(found->etag)),
    };

    if (found->bytes == 0) {
        data_folder_leave(&reading->index->empty, found->name, strlen(found->name));
        return 0;
    }
    if (data_folder_check_bytes(reading->index->root, found->name, found->bytes, err) < 0)
        return -1;
    sample.bytes = (uint32_t)found->bytes;
    reading->classes[reading->count - 1].pictures++;
    return data_builder_add(&reading->builder, &sample, found->name, err);
}

static int visit(void *context, const struct data_found *found, struct err *err)
{
    struct reading *reading = context;
    const char *slash = strchr(found->name, '/'), *name, *below;

    if (data_entry_is_hidden(found->name) || (slash == NULL && !found->folder) ||
        slash == found->name)
        return 0; /* hidden, or in no class folder */
    enter_class(reading, found->name,
                slash != NULL ? (size_t)(slash - found->name) : strlen(found->name));
    if (slash == NULL)
        return 0; /* the class folder's own key */
    name = slash + 1;
    below = strchr(name, '/');
    if (data_entry_is_hidden(name))
        return 0;
    if (below != NULL || found->folder)
        meet_nested(reading, found->name,
                    below != NULL ? (size_t)(below - found->name) : strlen(found->name));
    else if (data_entry_is_picture(name))
        return add_picture(reading, found, err);
    else
        data_folder_leave(&reading->index->ignored, found->name, strlen(found->name));
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The classes' names in bytewise order, each once. ("a-b" is listed before "a": '-' comes before
 * '/'.) */
static void name_classes(struct reading *reading)
{
    struct data_index *index = reading->index;
    char **names = calloc(reading->count + 1, sizeof *names);
    size_t kept = 0;

    if (names == NULL)
        abort();
    for (size_t i = 0; i < reading->count; i++)
        names[i] = reading->classes[i].name;
    qsort(names, reading->count, sizeof *names, by_name);
    for (size_t i = 0; i < reading->count; i++)
        if (kept == 0 || strcmp(names[kept - 1], names[i]) != 0)
            names[kept++] = names[i];
    for (size_t i = 0; i < kept; i++)
        if ((names[i] = strdup(names[i])) == NULL)
            abort();
    index->class_names = names;
    index->classes = (int)kept;
}

/* From places in the listing to labels; every class must have pictures. */
static int label_samples(struct reading *reading, struct err *err)
{
    struct data_index *index = reading->index;
    int32_t *labels = calloc(reading->count + 1, sizeof *labels);
    size_t *pictures = calloc((size_t)index->classes + 1, sizeof *pictures);
    int rc = 0;

    if (labels == NULL || pictures == NULL)
        abort();
    for (size_t i = 0; i < reading->count; i++) {
        char *const *found = bsearch(&reading->classes[i].name, index->class_names,
                                     (size_t)index->classes, sizeof *index->class_names, by_name);

        labels[i] = (int32_t)(found - index->class_names);
        pictures[labels[i]] += reading->classes[i].pictures;
    }
    for (size_t i = 0; i < index->count; i++)
        index->samples[i].label = labels[index->samples[i].label];
    for (int c = 0; c < index->classes && rc == 0; c++)
        if (pictures[c] == 0)
            rc = data_folder_check_class(index->root, index->class_names[c], err);
    free(labels);
    free(pictures);
    return rc;
}

int data_bucket_read(struct data_index *index, struct data_manifest *manifest,
                     const volatile sig_atomic_t *cancel, struct err *err)
{
    struct reading reading = {.index = index};
    int rc = data_manifest_list(manifest, index->root, true, visit, &reading, cancel, err);

    if (rc == 0) {
        data_builder_finish(&reading.builder, index);
        name_classes(&reading);
        rc = label_samples(&reading, err);
    }
    data_builder_release(&reading.builder);
    buf_release(&reading.nested);
    for (size_t i = 0; i < reading.count; i++)
        free(reading.classes[i].name);
    free(reading.classes);
    return rc;
}
