#include "base/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define BUF_CAPACITY_MIN 64

/* Doubling keeps the cost of many small appends linear. */
static int grow(struct buf *buf, size_t bytes)
{
    size_t capacity = buf->capacity < BUF_CAPACITY_MIN ? BUF_CAPACITY_MIN : buf->capacity;
    unsigned char *data;

    if (bytes > SIZE_MAX / 2 - buf->bytes)
        return -1;
    while (capacity < buf->bytes + bytes)
        capacity *= 2;
    if (capacity == buf->capacity)
        return 0;
    data = realloc(buf->data, capacity);
    if (data == NULL)
        return -1;
    buf->data = data;
    buf->capacity = capacity;
    return 0;
}

static void grow_or_abort(struct buf *buf, size_t bytes)
{
    if (grow(buf, bytes) < 0) {
        fprintf(stderr, "out of memory for %zu bytes\n", buf->bytes + bytes);
        abort();
    }
}

void buf_release(struct buf *buf)
{
    if (buf == NULL)
        return;
    free(buf->data);
    *buf = (struct buf){0};
}

int buf_reserve(struct buf *buf, size_t bytes, struct err *err)
{
    if (grow(buf, bytes) < 0)
        return err_set(err, ERR_MEMORY, "out of memory for %zu more bytes", bytes);
    return 0;
}

void buf_append(struct buf *buf, const void *data, size_t bytes)
{
    assert(bytes == 0 || data != NULL);
    if (bytes == 0)
        return;
    grow_or_abort(buf, bytes);
    memcpy(buf->data + buf->bytes, data, bytes);
    buf->bytes += bytes;
}

void buf_printf(struct buf *buf, const char *fmt, ...)
{
    char none[1];
    va_list args;
    int chars;

    va_start(args, fmt);
    chars = vsnprintf(none, sizeof none, fmt, args);
    va_end(args);
    assert(chars >= 0);
    grow_or_abort(buf, (size_t)chars + 1);
    va_start(args, fmt);
    vsnprintf((char *)buf->data + buf->bytes, (size_t)chars + 1, fmt, args);
    va_end(args);
    buf->bytes += (size_t)chars;
}

char *buf_text(struct buf *buf)
{
    grow_or_abort(buf, 1);
    buf->data[buf->bytes] = '\0';
    return (char *)buf->data;
}
