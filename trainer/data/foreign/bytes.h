/*
 * trainer/data/foreign/bytes.h -- a run of bytes read by place: a file, an object in S3, memory, or
 * a stream that only goes on.
 *
 * For readers of formats that look here and there (the headers of a tar) and need not know where
 * the bytes come from. A reader has one `struct data_bytes`; it is used by one thread at a time.
 * Memory is bounded by DATA_BYTES_WINDOW beside what callers ask for.
 */
#ifndef DATA_FOREIGN_BYTES_H
#define DATA_FOREIGN_BYTES_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

struct err;

/* What is fetched of an object at once where it is read through, and where little is read between
 * long skips. A request costs some 20 to 50 ms at AWS, in which a connection carries 2 to 4 MB; a
 * skip longer than the window is passed over. */
#define DATA_BYTES_WINDOW ((size_t)1 << 20)
#define DATA_BYTES_PEEK   ((size_t)8 << 10)

struct data_bytes {
    char *name;         /* for messages: the path */
    uint64_t total;     /* bytes in all; UINT64_MAX: a stream, whose end nobody knows yet */
    char *etag;         /* of an object; NULL elsewhere */
    int64_t changed_ns; /* of a file: the later of mtime and ctime; 0 elsewhere */
    const volatile sig_atomic_t *cancel;
    /* how they are had: one of these */
    int fd; /* a file or a stream's; -1: none */
    bool stream, own_fd;
    char *bucket, *key;          /* an object */
    const unsigned char *memory; /* the caller's */
    /* what was read ahead of an object or a stream */
    struct buf window;
    uint64_t window_at;
    uint64_t asked; /* where the last request of the caller ended: how far was skipped since */
};

/** A file or an object. ERR_INPUT names it: missing, no regular file. */
int data_bytes_open(struct data_bytes *bytes, const char *path, const volatile sig_atomic_t *cancel,
                    struct err *err);
/** What can be read from fd, once and forward. It stays the caller's. */
void data_bytes_open_stream(struct data_bytes *bytes, int fd, const char *name,
                            const volatile sig_atomic_t *cancel);
void data_bytes_open_memory(struct data_bytes *bytes, const void *data, size_t count,
                            const char *name);
/** Accepts all-zero but for fd. */
void data_bytes_close(struct data_bytes *bytes);

/**
 * Read up to `count` bytes from `at` on into `out`; fewer only at the end: their number, or -1.
 * Of a stream, `at` must not lie before what was read already, but for the last DATA_BYTES_PEEK
 * bytes of data_bytes_peek. ERR_IO, ERR_NET, ERR_STOPPED; ERR_INPUT: an object that was replaced.
 */
ssize_t data_bytes_get(struct data_bytes *bytes, uint64_t at, void *out, size_t count,
                       struct err *err);

/** All of these bytes of a file or object, without reading ahead: any number of threads. As
 * data_bytes_need. */
int data_bytes_range(const struct data_bytes *bytes, uint64_t at, void *out, size_t count,
                     struct err *err);

/** As data_bytes_get, and all of them must be there: ERR_INPUT says where it ends. */
int data_bytes_need(struct data_bytes *bytes, uint64_t at, void *out, size_t count,
                    struct err *err);

/** As data_bytes_get for the first bytes of a run of which nothing was read yet (at most
 * DATA_BYTES_PEEK); they can be read again. */
ssize_t data_bytes_peek(struct data_bytes *bytes, void *out, size_t count, struct err *err);

/** ERR_INPUT: "'NAME' at byte AT: ...". Returns -1. */
int data_bytes_refuse(const struct data_bytes *bytes, uint64_t at, struct err *err, const char *fmt,
                      ...) __attribute__((format(printf, 4, 5)));

#endif
