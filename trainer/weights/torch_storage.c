/* trainer/weights/torch_storage.c -- see torch_storage.h. */
#include "trainer/weights/torch_storage.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trainer/weights/pickle.h"
#include "trainer/weights/zip.h"

#define KEY_BYTES_MAX 64 /* of a storage's name; PyTorch's are numbers */

static int compare_keys(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    const int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);

    return order != 0 ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int by_key(const void *a, const void *b)
{
    const struct torch_storage *const x = *(struct torch_storage *const *)a,
                                      *const y = *(struct torch_storage *const *)b;

    return compare_keys(x->key, x->key_bytes, y->key, y->key_bytes);
}

/* Sort them, so that those of one key stand side by side, and see that these agree. */
static int sort(struct pickle_store *store, const char *path, struct err *err)
{
    struct torch_storage **const all = store->storages;

    if (store->storage_count == 0)
        return err_set(err, ERR_INPUT, "'%s' has no tensors", path);
    qsort(all, store->storage_count, sizeof all[0], by_key);
    for (size_t i = 0; i < store->storage_count; i++) {
        const struct torch_storage *const one = all[i], *const last = i > 0 ? all[i - 1] : one;

        if (one->key_bytes == 0 || one->key_bytes > KEY_BYTES_MAX ||
            memchr(one->key, '\0', one->key_bytes) != NULL)
            return err_set(err, ERR_INPUT, "'%s' has a storage whose key is no number", path);
        if (by_key(&one, &last) == 0 && (one->type != last->type || one->count != last->count))
            return err_set(err, ERR_INPUT,
                           "'%s': storage '%.*s' has two types or two sizes: refused", path,
                           (int)one->key_bytes, one->key);
    }
    return 0;
}

static int bind_entry(struct torch_storage *storage, const struct weights_zip *zip,
                      const char *path, struct err *err)
{
    const size_t element = safetensors_type_bytes(storage->type);
    const struct weights_zip_entry *entry;
    char name[sizeof "data/" + KEY_BYTES_MAX] = "data/";

    memcpy(name + strlen(name), storage->key, storage->key_bytes);
    entry = weights_zip_find(zip, name);
    if (entry == NULL)
        return err_set(err, ERR_INPUT, "'%s' has no entry '%s' with the elements of a tensor", path,
                       name);
    if (entry->bytes % element != 0 || entry->bytes / element != storage->count)
        return err_set(err, ERR_INPUT, "'%s': entry '%s' has %zu bytes, not %llu elements of %zu",
                       path, name, entry->bytes, (unsigned long long)storage->count, element);
    storage->data = entry->bytes > 0 ? entry->data : (const void *)"";
    return 0;
}

int torch_storage_bind_zip(struct pickle_store *store, const struct weights_zip *zip,
                           const char *path, struct err *err)
{
    if (sort(store, path, err) < 0)
        return -1;
    for (size_t i = 0; i < store->storage_count; i++) {
        if (bind_entry(store->storages[i], zip, path, err) < 0)
            return -1;
    }
    return 0;
}

/* The first of a key's storages, which stand side by side; the end of them all if there is none. */
static size_t first_of(const struct pickle_store *store, const char *key, size_t key_bytes)
{
    size_t low = 0, high = store->storage_count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const struct torch_storage *const at = store->storages[middle];

        if (compare_keys(at->key, at->key_bytes, key, key_bytes) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool has_key(const struct pickle_store *store, size_t i, const struct pickle_value *key)
{
    return i < store->storage_count &&
           compare_keys(store->storages[i]->key, store->storages[i]->key_bytes, key->text.data,
                        key->text.bytes) == 0;
}

/* One storage at bytes[*at]: its count, then its elements. */
static int bind_next(struct pickle_store *store, const struct pickle_value *key,
                     const unsigned char *bytes, size_t count, size_t *at, const char *path,
                     struct err *err)
{
    size_t i = key->kind == PICKLE_TEXT ? first_of(store, key->text.data, key->text.bytes)
                                        : store->storage_count;
    uint64_t elements;

    if (key->kind != PICKLE_TEXT || !has_key(store, i, key) || store->storages[i]->data != NULL)
        return err_set(err, ERR_INPUT,
                       "'%s' is damaged: its list of storages is not that of its "
                       "tensors",
                       path);
    const size_t element = safetensors_type_bytes(store->storages[i]->type);

    if (count - *at < sizeof elements)
        return err_set(err, ERR_INPUT, "'%s' is cut short: it ends within its tensors", path);
    memcpy(&elements, bytes + *at, sizeof elements);
    *at += sizeof elements;
    if (le64toh(elements) != store->storages[i]->count)
        return err_set(err, ERR_INPUT, "'%s': storage '%.*s' has %llu elements, not %llu", path,
                       (int)key->text.bytes, key->text.data, (unsigned long long)le64toh(elements),
                       (unsigned long long)store->storages[i]->count);
    if (store->storages[i]->count > (count - *at) / element)
        return err_set(err, ERR_INPUT, "'%s' is cut short: it ends within its tensors", path);
    for (; has_key(store, i, key); i++)
        store->storages[i]->data = bytes + *at;
    *at += (size_t)le64toh(elements) * element;
    return 0;
}

static int check_bound(const struct pickle_store *store, const char *path, struct err *err)
{
    for (size_t i = 0; i < store->storage_count; i++) {
        if (store->storages[i]->data == NULL)
            return err_set(err, ERR_INPUT, "'%s' does not have the elements of storage '%.*s'",
                           path, (int)store->storages[i]->key_bytes, store->storages[i]->key);
    }
    return 0;
}

int torch_storage_bind_old(struct pickle_store *store, const void *bytes, size_t count,
                           const char *path, struct err *err)
{
    const struct pickle_value *keys;
    size_t at;

    if (sort(store, path, err) < 0)
        return -1;
    keys = pickle_read(store, bytes, count, path, &at, err);
    if (keys == NULL)
        return -1;
    if (keys->kind != PICKLE_LIST)
        return err_set(err, ERR_INPUT, "'%s' is damaged: its list of storages is %s", path,
                       pickle_kind_name(keys->kind));
    for (size_t i = 0; i < keys->list.count; i++) {
        if (bind_next(store, keys->list.items[i], bytes, count, &at, path, err) < 0)
            return -1;
    }
    if (at != count)
        return err_set(err, ERR_INPUT, "'%s' has %zu bytes behind its last tensor", path,
                       count - at);
    return check_bound(store, path, err);
}
