/* trainer/weights/torch_object.c -- see torch_object.h. */
#include "trainer/weights/torch_object.h"

#include <string.h>

#include "base/err.h"

static const struct {
    const char *module, *name;
    enum torch_function which;
    enum safetensors_type type;
} functions[] = {
    {"collections", "OrderedDict", TORCH_ORDERED_DICT, 0},
    {"torch._utils", "_rebuild_tensor", TORCH_REBUILD_TENSOR, 0}, /* before PyTorch 0.4 */
    {"torch._utils", "_rebuild_tensor_v2", TORCH_REBUILD_TENSOR_V2, 0},
    {"torch._utils", "_rebuild_parameter", TORCH_REBUILD_PARAMETER, 0},
    {"torch.nn.parameter", "Parameter", TORCH_PARAMETER, 0}, /* before 0.4 */
    {"torch", "FloatStorage", TORCH_STORAGE_TYPE, SAFETENSORS_F32},
    {"torch", "DoubleStorage", TORCH_STORAGE_TYPE, SAFETENSORS_F64},
    {"torch", "HalfStorage", TORCH_STORAGE_TYPE, SAFETENSORS_F16},
    {"torch", "BFloat16Storage", TORCH_STORAGE_TYPE, SAFETENSORS_BF16},
    {"torch", "LongStorage", TORCH_STORAGE_TYPE, SAFETENSORS_I64},
    {"torch", "IntStorage", TORCH_STORAGE_TYPE, SAFETENSORS_I32},
    {"torch", "ShortStorage", TORCH_STORAGE_TYPE, SAFETENSORS_I16},
    {"torch", "CharStorage", TORCH_STORAGE_TYPE, SAFETENSORS_I8},
    {"torch", "ByteStorage", TORCH_STORAGE_TYPE, SAFETENSORS_U8},
    {"torch", "BoolStorage", TORCH_STORAGE_TYPE, SAFETENSORS_BOOL},
    {"torch", "FloatTensor", TORCH_TENSOR_TYPE, 0}, /* before 0.2: empty, and filled by BUILD */
    {"torch", "DoubleTensor", TORCH_TENSOR_TYPE, 0},
    {"torch", "HalfTensor", TORCH_TENSOR_TYPE, 0},
    {"torch", "LongTensor", TORCH_TENSOR_TYPE, 0},
};

static const char *name_of(enum torch_function which)
{
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        if (functions[i].which == which)
            return functions[i].name;
    }
    return "?";
}

int torch_object_find(const char *module, const char *name, struct pickle_value *value,
                      const char *path, struct err *err)
{
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        if (strcmp(functions[i].module, module) == 0 && strcmp(functions[i].name, name) == 0) {
            value->kind = PICKLE_FUNCTION;
            value->function.which = functions[i].which;
            value->function.type = functions[i].type;
            return 0;
        }
    }
    return err_set(err, ERR_INPUT,
                   "'%s' calls '%s.%s': refused; only tensors are read (save the model's "
                   "state_dict() alone)",
                   path, module, name);
}

static const struct pickle_value *item(const struct pickle_value *list, size_t i)
{
    return list->list.items[i];
}

static int read_count(const struct pickle_value *value, uint64_t *count)
{
    if (value->kind != PICKLE_INTEGER || value->integer < 0)
        return -1;
    *count = (uint64_t)value->integer;
    return 0;
}

/* A tuple of sizes or strides; its length, or -1. */
static int read_counts(const struct pickle_value *value, uint64_t counts[SAFETENSORS_DIMS_MAX])
{
    if (value->kind != PICKLE_TUPLE || value->list.count > SAFETENSORS_DIMS_MAX)
        return -1;
    for (size_t i = 0; i < value->list.count; i++) {
        if (read_count(item(value, i), &counts[i]) < 0)
            return -1;
    }
    return (int)value->list.count;
}

/* (storage, offset, size, stride, ...); whether the elements are inside is looked at when the
 * storage is known. */
static int read_tensor(struct torch_tensor *tensor, const struct pickle_value *state,
                       const char *path, struct err *err)
{
    const struct pickle_value *const storage = item(state, 0);
    int strides;

    if (item(state, 2)->kind == PICKLE_TUPLE && item(state, 2)->list.count > SAFETENSORS_DIMS_MAX)
        return err_set(err, ERR_INPUT, "'%s' has a tensor of %zu dimensions; up to %d are read",
                       path, item(state, 2)->list.count, SAFETENSORS_DIMS_MAX);
    tensor->dims = read_counts(item(state, 2), tensor->size);
    strides = read_counts(item(state, 3), tensor->stride);
    if (storage->kind != PICKLE_STORAGE || read_count(item(state, 1), &tensor->offset) < 0 ||
        tensor->dims < 0 || strides != tensor->dims)
        return err_set(err, ERR_INPUT,
                       "'%s' has a tensor that is not a storage, an offset, sizes and strides",
                       path);
    tensor->storage = storage->storage;
    return 0;
}

static int make_tensor(struct pickle_value *made, const struct pickle_value *arguments,
                       const char *path, struct err *err)
{
    made->kind = PICKLE_TENSOR;
    return read_tensor(&made->tensor, arguments, path, err);
}

/* Python 2 gives an OrderedDict its members as one list of pairs. */
static int make_dict(struct pickle_store *store, struct pickle_value *made,
                     const struct pickle_value *arguments, const char *path, struct err *err)
{
    made->kind = PICKLE_DICT;
    if (arguments->list.count == 0)
        return 0;
    const struct pickle_value *const pairs = item(arguments, 0);

    if (arguments->list.count > 1 || pairs->kind != PICKLE_LIST)
        return err_set(err, ERR_INPUT, "'%s' has an OrderedDict that is not a list of pairs", path);
    for (size_t i = 0; i < pairs->list.count; i++) {
        const struct pickle_value *const pair = item(pairs, i);

        if ((pair->kind != PICKLE_LIST && pair->kind != PICKLE_TUPLE) || pair->list.count != 2)
            return err_set(err, ERR_INPUT, "'%s' has an OrderedDict that is not a list of pairs",
                           path);
        if (pickle_value_append(store, made, pair->list.items[0]) < 0 ||
            pickle_value_append(store, made, pair->list.items[1]) < 0)
            return err_set(err, ERR_INPUT, "'%s' has containers of more than %d members", path,
                           PICKLE_MEMBERS_MAX);
    }
    return 0;
}

/* A Parameter is its tensor, the first argument; before PyTorch 0.2 it comes with its state. */
static int make_parameter(struct pickle_value *made, const struct pickle_value *arguments,
                          const char *path, struct err *err)
{
    made->kind = PICKLE_TENSOR;
    if (arguments->list.count == 0)
        return 0;
    if (item(arguments, 0)->kind != PICKLE_TENSOR)
        return err_set(err, ERR_INPUT, "'%s' has a Parameter that is %s", path,
                       pickle_kind_name(item(arguments, 0)->kind));
    made->tensor = item(arguments, 0)->tensor;
    return 0;
}

/* How many arguments each takes. */
static bool count_is_right(enum torch_function which, size_t count)
{
    static const struct {
        size_t min, max;
    } wanted[] = {
        [TORCH_ORDERED_DICT] = {0, 1},      [TORCH_STORAGE_TYPE] = {1, 0}, /* none is right */
        [TORCH_REBUILD_TENSOR] = {4, 4},    [TORCH_REBUILD_TENSOR_V2] = {6, 7},
        [TORCH_REBUILD_PARAMETER] = {3, 3}, [TORCH_PARAMETER] = {0, 2},
        [TORCH_TENSOR_TYPE] = {0, 0},
    };

    return count >= wanted[which].min && count <= wanted[which].max;
}

static int make(struct pickle_store *store, struct pickle_value *made, enum torch_function which,
                const struct pickle_value *arguments, const char *path, struct err *err)
{
    switch (which) {
    case TORCH_ORDERED_DICT:
        return make_dict(store, made, arguments, path, err);
    case TORCH_REBUILD_TENSOR:
    case TORCH_REBUILD_TENSOR_V2:
        return make_tensor(made, arguments, path, err);
    case TORCH_REBUILD_PARAMETER:
    case TORCH_PARAMETER:
        return make_parameter(made, arguments, path, err);
    case TORCH_TENSOR_TYPE:
        made->kind = PICKLE_TENSOR;
        return 0;
    case TORCH_STORAGE_TYPE:
        break;
    }
    return err_set(err, ERR_INPUT, "'%s' calls '%s'", path, name_of(which));
}

struct pickle_value *torch_object_call(struct pickle_store *store,
                                       const struct pickle_value *function,
                                       const struct pickle_value *arguments, const char *path,
                                       struct err *err)
{
    struct pickle_value *made;

    if (function->kind != PICKLE_FUNCTION || arguments->kind != PICKLE_TUPLE) {
        err_set(err, ERR_INPUT, "'%s' calls %s with %s: refused; only tensors are read", path,
                pickle_kind_name(function->kind), pickle_kind_name(arguments->kind));
        return NULL;
    }
    const enum torch_function which = function->function.which;

    if (!count_is_right(which, arguments->list.count)) {
        err_set(err, ERR_INPUT, "'%s' calls '%s' with %zu arguments: refused", path, name_of(which),
                arguments->list.count);
        return NULL;
    }
    made = pickle_value_new(store, PICKLE_NONE);
    if (made == NULL) {
        err_set(err, ERR_INPUT, "'%s' has more than %d objects", path, PICKLE_VALUES_MAX);
        return NULL;
    }
    return make(store, made, which, arguments, path, err) < 0 ? NULL : made;
}

/* (storage, offset, size, stride) for an empty tensor; for a Parameter its flags, which do not
 * matter here, or, oldest of all, five things of which the first is the tensor. */
static int build_tensor(struct torch_tensor *tensor, const struct pickle_value *state,
                        const char *path, struct err *err)
{
    if (state->kind != PICKLE_TUPLE)
        return err_set(err, ERR_INPUT, "'%s' has a tensor whose state is %s", path,
                       pickle_kind_name(state->kind));
    if (state->list.count == 4 && tensor->storage == NULL)
        return read_tensor(tensor, state, path, err);
    if (state->list.count == 5 && item(state, 0)->kind == PICKLE_TENSOR) {
        *tensor = item(state, 0)->tensor;
        return 0;
    }
    if (state->list.count != 3)
        return err_set(err, ERR_INPUT, "'%s' has a tensor whose state has %zu parts", path,
                       state->list.count);
    return 0;
}

int torch_object_build(struct pickle_value *object, const struct pickle_value *state,
                       const char *path, struct err *err)
{
    if (object->kind == PICKLE_TENSOR)
        return build_tensor(&object->tensor, state, path, err);
    if (object->kind == PICKLE_DICT && state->kind == PICKLE_DICT)
        return 0; /* attributes, such as the _metadata of a state_dict */
    return err_set(err, ERR_INPUT, "'%s' gives a state to %s: refused; only tensors are read", path,
                   pickle_kind_name(object->kind));
}

/* (key, offset, count) of a storage that is part of another, in files of PyTorch before 1.6. */
static int read_view(struct torch_storage *storage, const struct pickle_value *view)
{
    if (view->kind == PICKLE_NONE)
        return 0;
    if (view->kind != PICKLE_TUPLE || view->list.count != 3 ||
        read_count(item(view, 1), &storage->view_begin) < 0 ||
        read_count(item(view, 2), &storage->view_count) < 0)
        return -1;
    return storage->view_begin <= storage->count &&
                   storage->view_count <= storage->count - storage->view_begin
               ? 0
               : -1;
}

static int read_storage(struct torch_storage *storage, const struct pickle_value *id)
{
    const struct pickle_value *const type = item(id, 1), *const key = item(id, 2);

    if (!pickle_value_is_text(item(id, 0), "storage") || type->kind != PICKLE_FUNCTION ||
        type->function.which != TORCH_STORAGE_TYPE || key->kind != PICKLE_TEXT ||
        item(id, 3)->kind != PICKLE_TEXT || read_count(item(id, 4), &storage->count) < 0)
        return -1;
    storage->type = type->function.type;
    storage->key = key->text.data;
    storage->key_bytes = key->text.bytes;
    storage->view_count = storage->count;
    return id->list.count == 6 ? read_view(storage, item(id, 5)) : 0;
}

struct pickle_value *torch_object_storage(struct pickle_store *store, const struct pickle_value *id,
                                          const char *path, struct err *err)
{
    struct pickle_value *const value = pickle_value_new(store, PICKLE_STORAGE);

    if (value == NULL) {
        err_set(err, ERR_INPUT, "'%s' has more than %d objects", path, PICKLE_VALUES_MAX);
        return NULL;
    }
    value->storage = pickle_storage_new(store);
    if (id->kind != PICKLE_TUPLE || (id->list.count != 5 && id->list.count != 6) ||
        read_storage(value->storage, id) < 0) {
        err_set(err, ERR_INPUT,
                "'%s' has a persistent id that is not ('storage', type, key, location, count)",
                path);
        return NULL;
    }
    return value;
}
