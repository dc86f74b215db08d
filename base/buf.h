/*
 * base/buf.h -- a growing run of bytes.
 *
 * All zero is an empty buf. Growth is small allocations' business: it aborts when memory is out,
 * except for buf_reserve, which reports it.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>

struct err;

struct buf {
    unsigned char *data; /* NULL while capacity is 0 */
    size_t bytes, capacity;
};

/** Free the storage and make the buf all zero. Accepts all-zero and NULL. */
void buf_release(struct buf *buf);

/** Make room for `bytes` more. -1 (ERR_MEMORY) leaves the buf as it was. */
int buf_reserve(struct buf *buf, size_t bytes, struct err *err);

void buf_append(struct buf *buf, const void *data, size_t bytes);
void buf_printf(struct buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** The bytes as a C string: a NUL is kept behind the last byte, not counted. Valid until the next
 * change. */
char *buf_text(struct buf *buf);

#endif
