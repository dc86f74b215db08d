/*
 * trainer/weights/pickle_value.h -- the objects of a pickle, and the store that they live in.
 *
 * An object may be a member of several others and of itself, as in Python, so nothing owns anything
 * but the store: all of it goes at once.
 */
#ifndef WEIGHTS_PICKLE_VALUE_H
#define WEIGHTS_PICKLE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/weights/safetensors.h"

/* Objects of all pickles of one store; a ResNet-152's state_dict has some 20,000. */
#define PICKLE_VALUES_MAX  1000000
/* Members of all tuples, lists and dicts: one object may be a member many times. */
#define PICKLE_MEMBERS_MAX 4000000

enum pickle_kind {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INTEGER,
    PICKLE_FLOAT,
    PICKLE_TEXT,
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_DICT,
    PICKLE_FUNCTION, /* one of the few names of torch_object.h */
    PICKLE_STORAGE,
    PICKLE_TENSOR,
};

enum torch_function {
    TORCH_ORDERED_DICT,
    TORCH_STORAGE_TYPE,
    TORCH_REBUILD_TENSOR,
    TORCH_REBUILD_TENSOR_V2,
    TORCH_REBUILD_PARAMETER,
    TORCH_PARAMETER,
    TORCH_TENSOR_TYPE,
};

/* Elements in memory that tensors are views of. */
struct torch_storage {
    enum safetensors_type type;
    const char *key; /* its name among the file's storages */
    size_t key_bytes;
    uint64_t count;                  /* elements of all of it */
    uint64_t view_begin, view_count; /* the part of it that this is */
    const unsigned char *data;       /* of all of it; NULL until it is looked up */
};

struct torch_tensor {
    const struct torch_storage *storage; /* NULL: a tensor without elements, not yet filled in */
    uint64_t offset;                     /* of its first element in the storage's view */
    int dims;
    uint64_t size[SAFETENSORS_DIMS_MAX], stride[SAFETENSORS_DIMS_MAX]; /* in elements */
};

struct pickle_value {
    enum pickle_kind kind;
    union {
        int64_t integer; /* PICKLE_BOOL too */
        struct {
            const char *data; /* inside of the pickle, without a NUL behind */
            size_t bytes;
        } text;
        struct {
            struct pickle_value **items; /* of a dict: key, value, key, value */
            size_t count, room;
        } list; /* PICKLE_TUPLE, PICKLE_LIST, PICKLE_DICT */
        struct {
            enum torch_function which;
            enum safetensors_type type; /* TORCH_STORAGE_TYPE */
        } function;
        struct torch_storage *storage;
        struct torch_tensor tensor;
    };
};

struct pickle_store {
    struct torch_storage **storages; /* each that a pickle named, as often as it did */
    size_t storage_count;
    struct pickle_chunk *chunks; /* the store's own from here on */
    size_t values, members, storage_room;
};

/** A new object of a kind, all zero but for that; NULL where there are PICKLE_VALUES_MAX. */
struct pickle_value *pickle_value_new(struct pickle_store *store, enum pickle_kind kind);
/** A storage, listed in the store. */
struct torch_storage *pickle_storage_new(struct pickle_store *store);
/** Append to a tuple, list or dict; -1 where there are PICKLE_MEMBERS_MAX. */
int pickle_value_append(struct pickle_store *store, struct pickle_value *list,
                        struct pickle_value *item);
/** Accepts all-zero. */
void pickle_store_release(struct pickle_store *store);

bool pickle_value_is_text(const struct pickle_value *value, const char *text);
/** What a kind is called in a message: "a list". */
const char *pickle_kind_name(enum pickle_kind kind);

#endif
