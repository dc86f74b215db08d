/* trainer/weights/pickle_value.c -- see pickle_value.h. */
#include "trainer/weights/pickle_value.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES ((size_t)64 << 10)

struct pickle_chunk {
    struct pickle_chunk *next;
    size_t bytes, room;
    alignas(max_align_t) unsigned char data[];
};

static void *take(struct pickle_store *store, size_t bytes)
{
    const size_t align = alignof(max_align_t), padded = (bytes + align - 1) / align * align;
    struct pickle_chunk *chunk = store->chunks;

    if (chunk == NULL || chunk->room - chunk->bytes < padded) {
        const size_t room = padded > CHUNK_BYTES ? padded : CHUNK_BYTES;

        chunk = malloc(sizeof *chunk + room);
        if (chunk == NULL)
            abort();
        *chunk = (struct pickle_chunk){.next = store->chunks, .room = room};
        store->chunks = chunk;
    }
    void *const data = chunk->data + chunk->bytes;

    chunk->bytes += padded;
    memset(data, 0, padded);
    return data;
}

struct pickle_value *pickle_value_new(struct pickle_store *store, enum pickle_kind kind)
{
    struct pickle_value *value;

    if (store->values == PICKLE_VALUES_MAX)
        return NULL;
    store->values++;
    value = take(store, sizeof *value);
    value->kind = kind;
    return value;
}

struct torch_storage *pickle_storage_new(struct pickle_store *store)
{
    struct torch_storage *const storage = take(store, sizeof *storage);

    if (store->storage_count == store->storage_room) {
        store->storage_room = store->storage_room * 2 + 64;
        store->storages = realloc(store->storages, store->storage_room * sizeof store->storages[0]);
        if (store->storages == NULL)
            abort();
    }
    store->storages[store->storage_count++] = storage;
    return storage;
}

/* What was outgrown stays in the store: less than what took its place. */
int pickle_value_append(struct pickle_store *store, struct pickle_value *list,
                        struct pickle_value *item)
{
    if (store->members == PICKLE_MEMBERS_MAX)
        return -1;
    store->members++;
    if (list->list.count == list->list.room) {
        const size_t room = list->list.room == 0 ? 4 : list->list.room * 2;
        struct pickle_value **const items = take(store, room * sizeof items[0]);

        if (list->list.count > 0)
            memcpy(items, list->list.items, list->list.count * sizeof items[0]);
        list->list.items = items;
        list->list.room = room;
    }
    list->list.items[list->list.count++] = item;
    return 0;
}

void pickle_store_release(struct pickle_store *store)
{
    while (store->chunks != NULL) {
        struct pickle_chunk *const next = store->chunks->next;

        free(store->chunks);
        store->chunks = next;
    }
    free(store->storages);
    *store = (struct pickle_store){0};
}

bool pickle_value_is_text(const struct pickle_value *value, const char *text)
{
    return value->kind == PICKLE_TEXT && value->text.bytes == strlen(text) &&
           memcmp(value->text.data, text, value->text.bytes) == 0;
}

const char *pickle_kind_name(enum pickle_kind kind)
{
    static const char *const names[] = {
        [PICKLE_NONE] = "None",           [PICKLE_BOOL] = "a bool",
        [PICKLE_INTEGER] = "an integer",  [PICKLE_FLOAT] = "a float",
        [PICKLE_TEXT] = "a text",         [PICKLE_TUPLE] = "a tuple",
        [PICKLE_LIST] = "a list",         [PICKLE_DICT] = "a dict",
        [PICKLE_FUNCTION] = "a function", [PICKLE_STORAGE] = "a storage",
        [PICKLE_TENSOR] = "a tensor",
    };

    return names[kind];
}
