/* trainer/data/set/manifest_list.c -- the objects of a manifest as the bucket has them: the second
 * half of manifest.h. Their lengths and ETags come from one listing of the folder that they share,
 * a request for each 1,000 keys there. */
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/err.h"
#include "trainer/data/index/builder.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/numbers.h"
#include "trainer/data/set/folder.h"
#include "trainer/data/set/manifest.h"

static struct data_manifest_entry *find(const struct data_manifest *manifest, const char *name)
{
    size_t begin = 0, end = manifest->count;

    while (begin < end) {
        const size_t middle = begin + (end - begin) / 2;
        const int side = strcmp(name, manifest->entries[middle].name);

        if (side == 0)
            return &manifest->entries[middle];
        if (side < 0)
            end = middle;
        else
            begin = middle + 1;
    }
    return NULL;
}

bool data_manifest_has(const struct data_manifest *manifest, const char *name)
{
    return find(manifest, name) != NULL;
}

struct listing {
    struct data_manifest *manifest;
    data_place_visit *visit;
    void *context;
};

static int visit_named(void *context, const struct data_found *found, struct err *err)
{
    const struct listing *const listing = context;
    struct data_manifest_entry *const entry =
        found->folder ? NULL : find(listing->manifest, found->name);

    if (entry == NULL)
        return 0;
    entry->met = true;
    return listing->visit(listing->context, found, err);
}

static int check_met(const struct data_manifest *manifest, struct err *err)
{
    const struct data_manifest_entry *first = NULL;

    for (size_t i = 0; i < manifest->count; i++)
        if (!manifest->entries[i].met &&
            (first == NULL || manifest->entries[i].number < first->number))
            first = &manifest->entries[i];
    if (first == NULL)
        return 0;
    return err_set(err, ERR_INPUT, "'%s' %s %zu: there is no '%s/%s'", manifest->path,
                   manifest->labelled ? "line" : "entry", first->number, manifest->root,
                   first->name);
}

int data_manifest_list(struct data_manifest *manifest, const char *folder, bool deep,
                       data_place_visit *visit, void *context, const volatile sig_atomic_t *cancel,
                       struct err *err)
{
    struct listing listing = {.manifest = manifest, .visit = visit, .context = context};

    if (manifest == NULL)
        return data_place_list(folder, deep, visit, context, NULL, cancel, err);
    for (size_t i = 0; i < manifest->count; i++)
        manifest->entries[i].met = false;
    if (data_place_list(manifest->root, true, visit_named, &listing, NULL, cancel, err) < 0)
        return -1;
    return check_met(manifest, err);
}

/* --- pictures that have their labels here --- */

struct labelled {
    struct data_manifest *manifest;
    struct data_index *index;
    struct data_builder builder;
};

static int visit_labelled(void *context, const struct data_found *found, struct err *err)
{
    struct labelled *const labelled = context;
    const struct data_sample sample = {
        .label = find(labelled->manifest, found->name)->label,
        .bytes = (uint32_t)found->bytes,
        .crc32c = digest_crc32c(0, found->etag, strlen(found->etag)),
    };

    if (found->bytes == 0) {
        data_folder_leave(&labelled->index->empty, found->name, strlen(found->name));
        return 0;
    }
    if (data_folder_check_bytes(labelled->index->root, found->name, found->bytes, err) < 0)
        return -1;
    return data_builder_add(&labelled->builder, &sample, found->name, err);
}

int data_manifest_read_labelled(struct data_manifest *manifest, struct data_index *index,
                                const volatile sig_atomic_t *cancel, struct err *err)
{
    struct labelled labelled = {.manifest = manifest, .index = index};
    const int rc =
        data_manifest_list(manifest, index->root, true, visit_labelled, &labelled, cancel, err);

    if (rc == 0) {
        data_builder_finish(&labelled.builder, index);
        if (index->count == 0)
            return err_set(err, ERR_INPUT, "'%s' names empty objects only", manifest->path);
        data_numbers_name(index, false);
    }
    data_builder_release(&labelled.builder);
    return rc;
}
