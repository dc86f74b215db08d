#include "trainer/data/foreign/bytes.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/text.h"
#include "s3io/client.h"
#include "s3io/object.h"
#include "trainer/data/index/place.h"

#define STREAM_WAIT_MS 200 /* how soon a stop is seen while a stream says nothing */

static int open_object(struct data_bytes *bytes, const char *path, struct err *err)
{
    struct s3_client *client = s3_client_shared(err);
    struct s3_object object = {0};
    struct data_place place = {0};
    int rc;

    if (client == NULL || data_place_object(&place, path, err) < 0)
        return -1;
    bytes->bucket = place.bucket;
    bytes->key = place.key;
    rc = s3_object_head(client, place.bucket, place.key, &object, err);
    if (rc == S3_NO)
        return s3_object_missing(place.bucket, place.key, err);
    if (rc < 0)
        return -1;
    bytes->total = object.bytes;
    bytes->etag = text_copy(object.etag);
    return 0;
}

static int64_t nanoseconds(struct timespec time)
{
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int open_file(struct data_bytes *bytes, const char *path, struct err *err)
{
    struct stat stat;
    int64_t modified, changed;

    bytes->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bytes->own_fd = true;
    if (bytes->fd < 0 || fstat(bytes->fd, &stat) < 0)
        return err_set_errno(err, errno == ENOENT || errno == ENOTDIR ? ERR_INPUT : ERR_IO, errno,
                             "cannot read '%s'", path);
    if (!S_ISREG(stat.st_mode))
        return err_set(err, ERR_INPUT, "'%s' is no file", path);
    modified = nanoseconds(stat.st_mtim);
    changed = nanoseconds(stat.st_ctim);
    bytes->total = (uint64_t)stat.st_size;
    bytes->changed_ns = modified > changed ? modified : changed;
    return 0;
}

int data_bytes_open(struct data_bytes *bytes, const char *path, const volatile sig_atomic_t *cancel,
                    struct err *err)
{
    int rc;

    *bytes = (struct data_bytes){.name = text_copy(path), .fd = -1, .cancel = cancel};
    rc = data_place_is_remote(path) ? open_object(bytes, path, err) : open_file(bytes, path, err);
    if (rc < 0)
        data_bytes_close(bytes);
    return rc;
}

void data_bytes_open_stream(struct data_bytes *bytes, int fd, const char *name,
                            const volatile sig_atomic_t *cancel)
{
    *bytes = (struct data_bytes){
        .name = text_copy(name), .total = UINT64_MAX, .fd = fd, .stream = true, .cancel = cancel};
}

void data_bytes_open_memory(struct data_bytes *bytes, const void *data, size_t count,
                            const char *name)
{
    *bytes = (struct data_bytes){.name = text_copy(name), .total = count, .fd = -1, .memory = data};
}

void data_bytes_close(struct data_bytes *bytes)
{
    if (bytes->own_fd && bytes->fd >= 0)
        close(bytes->fd);
    free(bytes->name);
    free(bytes->etag);
    free(bytes->bucket);
    free(bytes->key);
    buf_release(&bytes->window);
    *bytes = (struct data_bytes){.fd = -1};
}

static int stopped(const struct data_bytes *bytes, struct err *err)
{
    return err_set(err, ERR_STOPPED, "stopped while reading '%s'", bytes->name);
}

static bool is_cancelled(const struct data_bytes *bytes)
{
    return bytes->cancel != NULL && *bytes->cancel;
}

static ssize_t read_file(const struct data_bytes *bytes, uint64_t at, unsigned char *out,
                         size_t count, struct err *err)
{
    size_t have = 0;

    while (have < count) {
        const ssize_t got = pread(bytes->fd, out + have, count - have, (off_t)(at + have));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_set_errno(err, ERR_IO, errno, "cannot read '%s'", bytes->name);
        if (got == 0)
            break;
        have += (size_t)got;
    }
    return (ssize_t)have;
}

/* --- a stream: what comes is read once; `window` is what was peeked at --- */

/* Whatever there is now, at most count; 0 at the end. A writer may say nothing for long. */
static ssize_t read_some(struct data_bytes *bytes, unsigned char *out, size_t count,
                         struct err *err)
{
    for (;;) {
        struct pollfd poll_fd = {.fd = bytes->fd, .events = POLLIN};
        ssize_t got;

        if (is_cancelled(bytes))
            return stopped(bytes, err);
        if (poll(&poll_fd, 1, STREAM_WAIT_MS) == 0)
            continue;
        got = read(bytes->fd, out, count);
        if (got >= 0)
            return got;
        if (errno != EINTR && errno != EAGAIN)
            return err_set_errno(err, ERR_IO, errno, "cannot read '%s'", bytes->name);
    }
}

/* Of what was peeked at, the part that begins at `at`. */
static size_t take_window(const struct data_bytes *bytes, uint64_t at, void *out, size_t count)
{
    const uint64_t end = bytes->window_at + bytes->window.bytes;
    const size_t left = at >= bytes->window_at && at < end ? (size_t)(end - at) : 0;
    const size_t taken = left < count ? left : count;

    if (taken > 0)
        memcpy(out, bytes->window.data + (at - bytes->window_at), taken);
    return taken;
}

/* asked: where the stream stands. */
static ssize_t read_stream(struct data_bytes *bytes, uint64_t at, unsigned char *out, size_t count,
                           struct err *err)
{
    size_t have = take_window(bytes, at, out, count);
    unsigned char skipped[4096];

    assert(have > 0 || count == 0 || at >= bytes->asked);
    while (bytes->asked < at) {
        const uint64_t left = at - bytes->asked;
        const ssize_t got =
            read_some(bytes, skipped, left < sizeof skipped ? (size_t)left : sizeof skipped, err);

        if (got <= 0)
            return got;
        bytes->asked += (uint64_t)got;
    }
    while (have < count) {
        const ssize_t got = read_some(bytes, out + have, count - have, err);

        if (got < 0)
            return -1;
        if (got == 0)
            break;
        have += (size_t)got;
        bytes->asked += (uint64_t)got;
    }
    return (ssize_t)have;
}

/* --- an object: ranges --- */

static int fetch(const struct data_bytes *bytes, uint64_t at, void *out, size_t count,
                 struct err *err)
{
    struct s3_client *client = s3_client_shared(err);
    const struct s3_get get = {.bucket = bytes->bucket,
                               .key = bytes->key,
                               .offset = at,
                               .bytes = count,
                               .if_match = bytes->etag,
                               .cancel = bytes->cancel};
    int rc;

    if (client == NULL)
        return -1;
    rc = s3_object_read(client, &get, out, NULL, err);
    return rc == S3_NO ? s3_object_missing(bytes->bucket, bytes->key, err) : rc < 0 ? -1 : 0;
}

static ssize_t read_object(struct data_bytes *bytes, uint64_t at, unsigned char *out, size_t count,
                           struct err *err)
{
    const uint64_t left = at < bytes->total ? bytes->total - at : 0;
    const size_t wanted = left < count ? (size_t)left : count;
    const uint64_t skipped = at > bytes->asked ? at - bytes->asked : 0;
    size_t have = take_window(bytes, at, out, wanted);
    size_t ahead;

    bytes->asked = at + wanted;
    if (have == wanted)
        return (ssize_t)wanted;
    if (wanted - have >= DATA_BYTES_WINDOW)
        return fetch(bytes, at + have, out + have, wanted - have, err) < 0 ? -1 : (ssize_t)wanted;
    ahead = skipped > DATA_BYTES_WINDOW / 4 ? DATA_BYTES_PEEK : DATA_BYTES_WINDOW;
    if (ahead < wanted - have)
        ahead = wanted - have;
    if (ahead > left - have)
        ahead = (size_t)(left - have);
    bytes->window.bytes = 0;
    if (buf_reserve(&bytes->window, ahead, err) < 0 ||
        fetch(bytes, at + have, bytes->window.data, ahead, err) < 0)
        return -1;
    bytes->window.bytes = ahead;
    bytes->window_at = at + have;
    memcpy(out + have, bytes->window.data, wanted - have);
    return (ssize_t)wanted;
}

ssize_t data_bytes_get(struct data_bytes *bytes, uint64_t at, void *out, size_t count,
                       struct err *err)
{
    if (is_cancelled(bytes))
        return stopped(bytes, err);
    if (bytes->stream)
        return read_stream(bytes, at, out, count, err);
    if (bytes->key != NULL)
        return read_object(bytes, at, out, count, err);
    if (bytes->memory != NULL) {
        const uint64_t left = at < bytes->total ? bytes->total - at : 0;
        const size_t wanted = left < count ? (size_t)left : count;

        if (wanted > 0)
            memcpy(out, bytes->memory + at, wanted);
        return (ssize_t)wanted;
    }
    return read_file(bytes, at, out, count, err);
}

static int ends_early(const struct data_bytes *bytes, uint64_t at, size_t missing, struct err *err)
{
    return data_bytes_refuse(bytes, at, err, "it ends here, where %zu bytes more are needed",
                             missing);
}

int data_bytes_range(const struct data_bytes *bytes, uint64_t at, void *out, size_t count,
                     struct err *err)
{
    ssize_t got;

    if (at > bytes->total || count > bytes->total - at)
        return ends_early(bytes, bytes->total, count, err);
    if (bytes->key != NULL)
        return fetch(bytes, at, out, count, err);
    got = read_file(bytes, at, out, count, err);
    if (got >= 0 && (size_t)got < count)
        return ends_early(bytes, at + (size_t)got, count - (size_t)got, err);
    return got < 0 ? -1 : 0;
}

int data_bytes_need(struct data_bytes *bytes, uint64_t at, void *out, size_t count, struct err *err)
{
    const ssize_t got = data_bytes_get(bytes, at, out, count, err);

    if (got < 0)
        return -1;
    if ((size_t)got < count)
        return ends_early(bytes, at + (size_t)got, count - (size_t)got, err);
    return 0;
}

ssize_t data_bytes_peek(struct data_bytes *bytes, void *out, size_t count, struct err *err)
{
    ssize_t got;

    assert(count <= DATA_BYTES_PEEK);
    got = data_bytes_get(bytes, 0, out, count, err);
    if (got > 0 && bytes->stream && bytes->window.bytes < (size_t)got) {
        bytes->window.bytes = 0;
        buf_append(&bytes->window, out, (size_t)got);
    }
    return got;
}

int data_bytes_refuse(const struct data_bytes *bytes, uint64_t at, struct err *err, const char *fmt,
                      ...)
{
    char why[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    return err_set(err, ERR_INPUT, "'%s' at byte %" PRIu64 ": %s", bytes->name, at, why);
}
