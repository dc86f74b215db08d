/* trainer/weights/torch.c -- see torch.h. */
#include "trainer/weights/torch.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trainer/weights/pickle.h"
#include "trainer/weights/torch_storage.h"

/* Pickles of protocol 2: of the number 0x1950a86a20f9469cfc6c, and of 1001. */
static const unsigned char magic[] = {0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46,
                                      0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e};
static const unsigned char version[] = {0x80, 0x02, 0x4d, 0xe9, 0x03, 0x2e};

bool weights_torch_is_old(const void *bytes, size_t count)
{
    return count >= sizeof magic && memcmp(bytes, magic, sizeof magic) == 0;
}

/* Which object is the state_dict */

/* `left`: how many members may still be looked at. A file may hold one dict under a million keys.
 */
static bool is_dict_of_tensors(const struct pickle_value *value, size_t *left)
{
    if (value->kind != PICKLE_DICT || value->list.count == 0)
        return false;
    for (size_t i = 0; i < value->list.count; i += 2) {
        if (*left == 0)
            return false;
        (*left)--;
        if (value->list.items[i]->kind != PICKLE_TEXT ||
            value->list.items[i + 1]->kind != PICKLE_TENSOR)
            return false;
    }
    return true;
}

static const struct pickle_value *find_member(const struct pickle_value *top, size_t *left,
                                              const char *path, struct err *err)
{
    const struct pickle_value *found = NULL, *key = NULL;

    for (size_t i = 0; top->kind == PICKLE_DICT && i < top->list.count; i += 2) {
        const struct pickle_value *const name = top->list.items[i];

        if (name->kind != PICKLE_TEXT || !is_dict_of_tensors(top->list.items[i + 1], left))
            continue;
        if (found != NULL) {
            err_set(err, ERR_INPUT,
                    "'%s' has tensors in '%.*s' and in '%.*s': save the state_dict() that is meant "
                    "alone",
                    path, (int)key->text.bytes, key->text.data, (int)name->text.bytes,
                    name->text.data);
            return NULL;
        }
        found = top->list.items[i + 1];
        key = name;
    }
    if (found == NULL)
        err_set(err, ERR_INPUT, "'%s' is %s without a dict of tensors: save a state_dict()", path,
                pickle_kind_name(top->kind));
    return found;
}

/* Tensors */

/* Whether every element lies in the storage. */
static bool is_inside(const struct torch_tensor *tensor)
{
    const uint64_t count = tensor->storage->view_count;
    uint64_t last = tensor->offset;

    for (int d = 0; d < tensor->dims; d++) {
        if (tensor->size[d] == 0)
            return tensor->offset <= count;
    }
    for (int d = 0; d < tensor->dims; d++) {
        uint64_t span;

        if (__builtin_mul_overflow(tensor->size[d] - 1, tensor->stride[d], &span) ||
            __builtin_add_overflow(last, span, &last))
            return false;
    }
    return last < count;
}

static int make_view(struct weights_view *view, const struct pickle_value *name,
                     const struct torch_tensor *tensor, const char *path, struct err *err)
{
    const struct torch_storage *const storage = tensor->storage;

    if (storage == NULL || !is_inside(tensor))
        return err_set(err, ERR_INPUT, "'%s': tensor '%.*s' is not inside of its storage", path,
                       (int)name->text.bytes, name->text.data);
    *view = (struct weights_view){.name = name->text.data,
                                  .name_bytes = name->text.bytes,
                                  .type = storage->type,
                                  .dims = tensor->dims};
    memcpy(view->size, tensor->size, sizeof view->size);
    memcpy(view->stride, tensor->stride, sizeof view->stride);
    view->data = storage->data;
    if (weights_view_count(view) > 0) /* else the offset may be the storage's end */
        view->data += (storage->view_begin + tensor->offset) * safetensors_type_bytes(view->type);
    return 0;
}

static int make_views(struct weights_torch *file, const struct pickle_value *top, const char *path,
                      struct err *err)
{
    size_t left = PICKLE_MEMBERS_MAX;
    const struct pickle_value *const dict =
        is_dict_of_tensors(top, &left) ? top : find_member(top, &left, path, err);

    if (dict == NULL)
        return -1;
    file->views = calloc(dict->list.count / 2, sizeof file->views[0]);
    if (file->views == NULL)
        return err_set(err, ERR_MEMORY, "'%s': no memory for its table of tensors", path);
    for (size_t i = 0; i < dict->list.count; i += 2) {
        if (make_view(&file->views[file->view_count], dict->list.items[i],
                      &dict->list.items[i + 1]->tensor, path, err) < 0)
            return -1;
        file->view_count++;
    }
    return 0;
}

/* The two formats */

static int check_kind_of_zip(const struct weights_zip *zip, const char *path, struct err *err)
{
    const struct weights_zip_entry *const order = weights_zip_find(zip, "byteorder");

    if (weights_zip_find(zip, "constants.pkl") != NULL)
        return err_set(err, ERR_INPUT,
                       "'%s' is a TorchScript program: refused; save the model's state_dict()",
                       path);
    if (weights_zip_find(zip, "data.pkl") == NULL)
        return err_set(err, ERR_INPUT, "'%s' is a zip, but not one of PyTorch: it has no data.pkl",
                       path);
    if (order != NULL && (order->bytes != 6 || memcmp(order->data, "little", 6) != 0))
        return err_set(err, ERR_INPUT, "'%s' is of a machine of another byte order", path);
    return 0;
}

static int open_zip(struct weights_torch *file, const void *bytes, size_t count, const char *path,
                    struct err *err)
{
    const struct weights_zip_entry *data;
    const struct pickle_value *top;

    if (weights_zip_open(&file->zip, bytes, count, path, err) < 0 ||
        check_kind_of_zip(&file->zip, path, err) < 0)
        return -1;
    data = weights_zip_find(&file->zip, "data.pkl");
    top = pickle_read(&file->store, data->data, data->bytes, path, NULL, err);
    if (top == NULL || torch_storage_bind_zip(&file->store, &file->zip, path, err) < 0)
        return -1;
    return make_views(file, top, path, err);
}

/* A dict with the writer's byte order, and sizes of types that nothing here depends on. */
static int check_writer(const struct pickle_value *writer, const char *path, struct err *err)
{
    if (writer->kind != PICKLE_DICT)
        return err_set(err, ERR_INPUT, "'%s' is damaged: it does not describe its writer", path);
    for (size_t i = 0; i < writer->list.count; i += 2) {
        if (pickle_value_is_text(writer->list.items[i], "little_endian") &&
            (writer->list.items[i + 1]->kind != PICKLE_BOOL ||
             writer->list.items[i + 1]->integer == 0))
            return err_set(err, ERR_INPUT, "'%s' is of a machine of another byte order", path);
    }
    return 0;
}

static int open_old(struct weights_torch *file, const unsigned char *bytes, size_t count,
                    const char *path, struct err *err)
{
    const struct pickle_value *writer, *top;
    size_t at = sizeof magic + sizeof version, used;

    if (count < at)
        return err_set(err, ERR_INPUT, "'%s' is cut short: %zu bytes", path, count);
    if (memcmp(bytes + sizeof magic, version, sizeof version) != 0)
        return err_set(err, ERR_INPUT, "'%s' is of an unknown version of PyTorch's old format",
                       path);
    writer = pickle_read(&file->store, bytes + at, count - at, path, &used, err);
    if (writer == NULL || check_writer(writer, path, err) < 0)
        return -1;
    at += used;
    top = pickle_read(&file->store, bytes + at, count - at, path, &used, err);
    if (top == NULL)
        return -1;
    at += used;
    if (torch_storage_bind_old(&file->store, bytes + at, count - at, path, err) < 0)
        return -1;
    return make_views(file, top, path, err);
}

int weights_torch_open(struct weights_torch *file, const void *bytes, size_t count,
                       const char *path, struct err *err)
{
    int rc;

    *file = (struct weights_torch){0};
    rc = weights_torch_is_old(bytes, count) ? open_old(file, bytes, count, path, err)
                                            : open_zip(file, bytes, count, path, err);
    if (rc < 0)
        weights_torch_close(file);
    return rc;
}

void weights_torch_close(struct weights_torch *file)
{
    free(file->views);
    weights_zip_close(&file->zip);
    pickle_store_release(&file->store);
    *file = (struct weights_torch){0};
}
