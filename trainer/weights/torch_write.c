/* trainer/weights/torch_write.c -- the writing half of torch.h. */
#include <assert.h>
#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "trainer/weights/torch.h"
#include "trainer/weights/zip_new.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "tensors are written as they lie in memory");

#define FOLDER "archive/" /* PyTorch's own name where a file has none */

static void put_byte(struct buf *out, unsigned char byte)
{
    buf_append(out, &byte, 1);
}

static void put_text(struct buf *out, const char *text)
{
    const size_t bytes = strlen(text);
    const uint32_t length = htole32((uint32_t)bytes);

    put_byte(out, 'X'); /* BINUNICODE */
    buf_append(out, &length, sizeof length);
    buf_append(out, text, bytes);
}

/* The shortest instruction of protocol 2 that holds it, as Python chooses. */
static void put_number(struct buf *out, uint64_t number)
{
    const uint64_t little = htole64(number);

    if (number < 0x100) {
        put_byte(out, 'K'); /* BININT1 */
        buf_append(out, &little, 1);
    } else if (number < 0x10000) {
        put_byte(out, 'M'); /* BININT2 */
        buf_append(out, &little, 2);
    } else if (number < 0x80000000) {
        put_byte(out, 'J'); /* BININT */
        buf_append(out, &little, 4);
    } else {
        put_byte(out, 0x8a); /* LONG1 */
        put_byte(out, 8);
        buf_append(out, &little, 8);
    }
}

static void put_name(struct buf *out, const char *module, const char *name)
{
    buf_printf(out, "c%s\n%s\n", module, name); /* GLOBAL */
}

/* An OrderedDict without members: MARK, TUPLE and SETITEMS around what follows fill one. */
static void put_empty_dict(struct buf *out)
{
    put_name(out, "collections", "OrderedDict");
    buf_append(out, ")R", 2); /* EMPTY_TUPLE, REDUCE */
}

static uint64_t element_count(const struct safetensors_entry *entry)
{
    uint64_t count = 1;

    for (int d = 0; d < entry->dims; d++)
        count *= entry->size[d];
    return count;
}

/* The persistent id ('storage', type, key, 'cpu', count). */
static void put_storage(struct buf *out, const struct safetensors_entry *entry, size_t key)
{
    char text[32];

    snprintf(text, sizeof text, "%zu", key);
    put_byte(out, '('); /* MARK */
    put_text(out, "storage");
    put_name(out, "torch", entry->type == SAFETENSORS_F32 ? "FloatStorage" : "LongStorage");
    put_text(out, text);
    put_text(out, "cpu");
    put_number(out, element_count(entry));
    buf_append(out, "tQ", 2); /* TUPLE, BINPERSID */
}

/* _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks) */
static void put_tensor(struct buf *out, const struct safetensors_entry *entry, size_t key)
{
    put_name(out, "torch._utils", "_rebuild_tensor_v2");
    put_byte(out, '(');
    put_storage(out, entry, key);
    put_number(out, 0);
    put_byte(out, '(');
    for (int d = 0; d < entry->dims; d++)
        put_number(out, entry->size[d]);
    buf_append(out, "t(", 2);
    for (int d = 0; d < entry->dims; d++) {
        uint64_t stride = 1;

        for (int inner = d + 1; inner < entry->dims; inner++)
            stride *= entry->size[inner] > 0 ? entry->size[inner] : 1;
        put_number(out, stride);
    }
    buf_append(out, "t\x89", 2); /* TUPLE, NEWFALSE */
    put_empty_dict(out);
    buf_append(out, "tR", 2);
}

static void put_pickle(struct buf *out, const struct safetensors_entry *entries, size_t count)
{
    buf_append(out, "\x80\x02", 2); /* PROTO 2 */
    put_empty_dict(out);
    put_byte(out, '(');
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++)
            assert(strcmp(entries[i].name, entries[j].name) != 0);
        put_text(out, entries[i].name);
        put_tensor(out, &entries[i], i);
    }
    buf_append(out, "u.", 2); /* SETITEMS, STOP */
}

/* A member that torch.load looks at beside the objects. */
static int put_small(struct zip_new *zip, const char *name, const char *text, struct err *err)
{
    return zip_new_put(zip, name, text, strlen(text), err);
}

int weights_torch_write(struct file_new *file, const struct safetensors_entry *entries,
                        size_t count, struct err *err)
{
    struct zip_new zip = {.file = file};
    struct buf pickle = {0};
    int rc = -1;

    put_pickle(&pickle, entries, count);
    if (zip_new_put(&zip, FOLDER "data.pkl", pickle.data, pickle.bytes, err) < 0 ||
        put_small(&zip, FOLDER "byteorder", "little", err) < 0)
        goto out;
    for (size_t i = 0; i < count; i++) {
        char name[64];

        assert(entries[i].type == SAFETENSORS_F32 || entries[i].type == SAFETENSORS_I64);
        snprintf(name, sizeof name, FOLDER "data/%zu", i);
        if (zip_new_put(&zip, name, entries[i].data,
                        (size_t)element_count(&entries[i]) *
                            safetensors_type_bytes(entries[i].type),
                        err) < 0)
            goto out;
    }
    if (put_small(&zip, FOLDER "version", "3\n", err) == 0 && zip_new_finish(&zip, err) == 0)
        rc = 0;
out:
    buf_release(&pickle);
    zip_new_release(&zip);
    return rc;
}
