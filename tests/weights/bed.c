/* tests/weights/bed.c -- see bed.h. */
#include "bed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/file.h"
#include "trainer/weights/zip_new.h"

void bed_text(struct buf *pickle, const char *text)
{
    const uint32_t bytes = (uint32_t)strlen(text);

    buf_append(pickle, "X", 1);
    buf_append(pickle, &bytes, sizeof bytes);
    buf_append(pickle, text, bytes);
}

void bed_number(struct buf *pickle, int64_t number)
{
    buf_append(pickle, "\x8a\x08", 2);
    buf_append(pickle, &number, sizeof number);
}

static void put_numbers(struct buf *pickle, const int64_t *numbers, int count)
{
    buf_append(pickle, "(", 1);
    for (int i = 0; i < count; i++)
        bed_number(pickle, numbers[i]);
    buf_append(pickle, "t", 1);
}

/* with_view: the sixth part, None where view is NULL */
static void put_tensor(struct buf *pickle, const struct bed_tensor *tensor, int with_view,
                       const int64_t view[2])
{
    buf_printf(pickle, "ctorch._utils\n_rebuild_tensor_v2\n((");
    bed_text(pickle, "storage");
    buf_printf(pickle, "ctorch\n%sStorage\n", tensor->type);
    bed_text(pickle, tensor->key);
    bed_text(pickle, "cpu");
    bed_number(pickle, tensor->count);
    if (view != NULL) {
        bed_text(pickle, "view");
        bed_number(pickle, view[0]);
        bed_number(pickle, view[1]);
        buf_append(pickle, "\x87", 1);
    } else if (with_view) {
        buf_append(pickle, "N", 1);
    }
    buf_append(pickle, "tQ", 2);
    bed_number(pickle, tensor->offset);
    put_numbers(pickle, tensor->size, tensor->dims);
    put_numbers(pickle, tensor->stride, tensor->strides > 0 ? tensor->strides : tensor->dims);
    buf_printf(pickle, "\x89" BED_DICT "tR");
}

void bed_put_tensor(struct buf *pickle, const struct bed_tensor *tensor)
{
    put_tensor(pickle, tensor, 0, NULL);
}

void bed_put_old_tensor(struct buf *pickle, const struct bed_tensor *tensor, const int64_t view[2])
{
    put_tensor(pickle, tensor, 1, view);
}

void bed_pickle(struct buf *pickle, const char *name, const struct bed_tensor *tensor)
{
    buf_printf(pickle, BED_PROTO BED_DICT);
    bed_text(pickle, name);
    bed_put_tensor(pickle, tensor);
    buf_printf(pickle, "s.");
}

static void put_counting(struct zip_new *zip, const char *name, size_t bytes)
{
    unsigned char *const data = malloc(bytes + 1);

    for (size_t i = 0; i < bytes; i++)
        data[i] = (unsigned char)i;
    assert_int_equal(zip_new_put(zip, name, data, bytes, NULL), 0);
    free(data);
}

void bed_zip(struct buf *file, const struct buf *pickle, size_t bytes)
{
    struct file_new memory = {.fd = -1};
    struct zip_new zip = {.file = &memory};

    assert_int_equal(file_new_open_memory(&memory, "zip", NULL), 0);
    assert_int_equal(zip_new_put(&zip, "a/data.pkl", pickle->data, pickle->bytes, NULL), 0);
    put_counting(&zip, "a/data/0", bytes);
    assert_int_equal(zip_new_finish(&zip, NULL), 0);
    assert_int_equal(buf_reserve(file, (size_t)zip.bytes, NULL), 0);
    assert_int_equal(pread(memory.fd, file->data + file->bytes, (size_t)zip.bytes, 0), zip.bytes);
    file->bytes += (size_t)zip.bytes;
    zip_new_release(&zip);
    file_new_release(&memory);
}

void bed_old(struct buf *file, const struct buf *pickle, const char *const *keys, size_t count)
{
    buf_append(file, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.",
               21);
    buf_printf(file, BED_PROTO "}(");
    bed_text(file, "little_endian");
    buf_printf(file, "\x88u.");
    buf_append(file, pickle->data, pickle->bytes);
    buf_printf(file, BED_PROTO "](");
    for (size_t i = 0; i < count; i++)
        bed_text(file, keys[i]);
    buf_printf(file, "e.");
}

void bed_old_storage(struct buf *file, uint64_t count)
{
    buf_append(file, &count, sizeof count);
    for (uint64_t i = 0; i < count; i++) {
        const float value = (float)i;

        buf_append(file, &value, sizeof value);
    }
}

void bed_expect_refusal(const char *name, const struct buf *file, const char *says)
{
    struct weights weights;
    struct err err = {0};
    unsigned char *const exact = malloc(file->bytes + (file->bytes == 0)); /* for ASan */

    if (file->bytes > 0)
        memcpy(exact, file->data, file->bytes);
    if (weights_open_bytes(&weights, exact, file->bytes, "f.pth", &err) == 0)
        fail_msg("%s: was read", name);
    if (err.code != ERR_INPUT || strstr(err.msg, says) == NULL || strstr(err.msg, "f.pth") == NULL)
        fail_msg("%s: '%s' does not say '%s'", name, err.msg, says);
    if (weights.tensors != NULL || weights.data != NULL || weights.names != NULL)
        fail_msg("%s: left open", name);
    free(exact);
}
