/* trainer/weights/weights.c -- see weights.h. */
#include "trainer/weights/weights.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trainer/weights/sniff.h"
#include "trainer/weights/torch.h"
#include "trainer/weights/view.h"

#define PREFIX "module."
#define ALIGN  64 /* of each tensor in `data` */

/* Elements that a file may have for each of its bytes: a float32 that is shared by 16 tensors. A
 * stride of 0 makes as many as it likes out of one. */
#define ELEMENTS_PER_BYTE 4
#define ELEMENTS_MIN      65536

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_names(const struct weights *weights, const char *path, struct err *err)
{
    const char **const names = malloc(weights->count * sizeof names[0]);
    int rc = 0;

    if (names == NULL)
        return err_set(err, ERR_MEMORY, "'%s': no memory for its table of tensors", path);
    for (size_t i = 0; i < weights->count; i++)
        names[i] = weights->tensors[i].name;
    qsort(names, weights->count, sizeof names[0], by_name);
    for (size_t i = 1; i < weights->count && rc == 0; i++) {
        if (strcmp(names[i - 1], names[i]) == 0)
            rc = err_set(err, ERR_INPUT, "'%s' has two tensors '%s'", path, names[i]);
    }
    free(names);
    return rc;
}

static bool all_have_prefix(const struct weights_view *views, size_t count)
{
    const size_t bytes = strlen(PREFIX);

    for (size_t i = 0; i < count; i++) {
        if (views[i].name_bytes <= bytes || memcmp(views[i].name, PREFIX, bytes) != 0)
            return false;
    }
    return true;
}

static int copy_names(struct weights *weights, const struct weights_view *views, size_t count,
                      const char *path, struct err *err)
{
    const size_t skip = all_have_prefix(views, count) ? strlen(PREFIX) : 0;
    size_t bytes = 0;
    char *at;

    for (size_t i = 0; i < count; i++) {
        if (views[i].name_bytes == 0 || memchr(views[i].name, '\0', views[i].name_bytes) != NULL)
            return err_set(err, ERR_INPUT, "'%s' has a tensor without a name", path);
        bytes += views[i].name_bytes - skip + 1;
    }
    at = weights->names = malloc(bytes);
    if (at == NULL)
        return err_set(err, ERR_MEMORY, "'%s': no memory for its table of tensors", path);
    for (size_t i = 0; i < count; i++) {
        memcpy(at, views[i].name + skip, views[i].name_bytes - skip);
        at[views[i].name_bytes - skip] = '\0';
        weights->tensors[i].name = at;
        at += views[i].name_bytes - skip + 1;
    }
    return check_names(weights, path, err);
}

static size_t padded(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* Room for all elements, if they are not more than the file's size makes plausible. */
static int make_room(struct weights *weights, const struct weights_view *views, size_t count,
                     size_t file_bytes, const char *path, struct err *err)
{
    uint64_t left = ELEMENTS_MIN + ELEMENTS_PER_BYTE * (uint64_t)file_bytes;
    size_t bytes = 0;

    for (size_t i = 0; i < count; i++) {
        const uint64_t elements = weights_view_count(&views[i]);

        if (elements > left)
            return err_set(err, ERR_INPUT,
                           "'%s': tensor '%s' has too many elements for a file of %zu bytes: "
                           "refused",
                           path, weights->tensors[i].name, file_bytes);
        left -= elements;
        bytes += padded((size_t)elements * safetensors_type_bytes(weights_view_result(&views[i])));
    }
    weights->data = aligned_alloc(ALIGN, bytes + ALIGN);
    if (weights->data == NULL)
        return err_set(err, ERR_MEMORY, "'%s': no memory for its tensors (%zu MB)", path,
                       bytes / 1000000);
    return 0;
}

static int copy_tensors(struct weights *weights, const struct weights_view *views, size_t count,
                        const char *path, struct err *err)
{
    unsigned char *at = weights->data;

    for (size_t i = 0; i < count; i++) {
        struct safetensors_entry *const tensor = &weights->tensors[i];

        tensor->type = weights_view_result(&views[i]);
        tensor->dims = views[i].dims;
        memcpy(tensor->size, views[i].size, sizeof tensor->size);
        tensor->data = at;
        if (weights_view_copy(&views[i], at, path, err) < 0)
            return -1;
        at += padded((size_t)weights_view_count(&views[i]) * safetensors_type_bytes(tensor->type));
    }
    return 0;
}

static int take_views(struct weights *weights, const struct weights_view *views, size_t count,
                      size_t file_bytes, const char *path, struct err *err)
{
    if (count == 0)
        return err_set(err, ERR_INPUT, "'%s' has no tensors", path);
    weights->tensors = calloc(count, sizeof weights->tensors[0]);
    if (weights->tensors == NULL)
        return err_set(err, ERR_MEMORY, "'%s': no memory for its table of tensors", path);
    weights->count = count;
    if (copy_names(weights, views, count, path, err) < 0 ||
        make_room(weights, views, count, file_bytes, path, err) < 0)
        return -1;
    return copy_tensors(weights, views, count, path, err);
}

static int read_torch(struct weights *weights, const void *bytes, size_t count, const char *path,
                      struct err *err)
{
    struct weights_torch file;
    int rc;

    weights->format = "PyTorch";
    if (weights_torch_open(&file, bytes, count, path, err) < 0)
        return -1;
    rc = take_views(weights, file.views, file.view_count, count, path, err);
    weights_torch_close(&file);
    return rc;
}

static struct weights_view view_of(const struct safetensors_entry *entry)
{
    struct weights_view view = {.name = entry->name,
                                .name_bytes = strlen(entry->name),
                                .type = entry->type,
                                .dims = entry->dims,
                                .data = entry->data};
    uint64_t stride = 1;

    for (int d = entry->dims - 1; d >= 0; d--) {
        view.size[d] = entry->size[d];
        view.stride[d] = stride;
        stride *= entry->size[d];
    }
    return view;
}

static int read_safetensors(struct weights *weights, const void *bytes, size_t count,
                            const char *path, struct err *err)
{
    struct safetensors file;
    struct weights_view *views;
    int rc = -1;

    weights->format = "safetensors";
    if (safetensors_open_bytes(&file, bytes, count, path, err) < 0)
        return -1;
    views = calloc(file.entry_count + 1, sizeof views[0]);
    if (views == NULL) {
        err_set(err, ERR_MEMORY, "'%s': no memory for its table of tensors", path);
    } else {
        for (size_t i = 0; i < file.entry_count; i++)
            views[i] = view_of(&file.entries[i]);
        rc = take_views(weights, views, file.entry_count, count, path, err);
    }
    free(views);
    safetensors_close(&file);
    return rc;
}

int weights_open_bytes(struct weights *weights, const void *bytes, size_t count, const char *path,
                       struct err *err)
{
    enum weights_format format;
    int rc;

    *weights = (struct weights){0};
    if (weights_sniff(bytes, count, &format, path, err) < 0)
        return -1;
    rc = format == WEIGHTS_TORCH ? read_torch(weights, bytes, count, path, err)
                                 : read_safetensors(weights, bytes, count, path, err);
    if (rc < 0)
        weights_release(weights);
    return rc;
}

const struct safetensors_entry *weights_find(const struct weights *weights, const char *name)
{
    for (size_t i = 0; i < weights->count; i++) {
        if (strcmp(weights->tensors[i].name, name) == 0)
            return &weights->tensors[i];
    }
    return NULL;
}

void weights_release(struct weights *weights)
{
    free(weights->tensors);
    free(weights->names);
    free(weights->data);
    *weights = (struct weights){0};
}
