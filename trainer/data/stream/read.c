/*
 * trainer/data/stream/read.c -- samples by open and pread.
 *
 * Shards stay open once they were used. Above READER_OPEN_MAX of them the others are opened for
 * each read: a process may have 1,024 files open as a rule, and a large data set has more shards.
 */
#include "trainer/data/stream/read.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "trainer/data/index/index.h"

#define READER_OPEN_MAX 512
#define READER_NAME_MAX 512

struct data_reader {
    const struct data_index *index;
    const volatile sig_atomic_t *cancel;
    pthread_mutex_t mutex; /* guards the two below */
    int *shards;           /* (index->files) open shards, -1 for one that is not */
    int shards_open;
};

struct data_reader *data_reader_new(const struct data_index *index,
                                    const volatile sig_atomic_t *cancel)
{
    struct data_reader *reader = calloc(1, sizeof *reader);
    int *shards = calloc(index->files + 1, sizeof *shards);

    if (reader == NULL || shards == NULL)
        abort();
    for (size_t i = 0; i < index->files; i++)
        shards[i] = -1;
    reader->index = index;
    reader->cancel = cancel;
    reader->shards = shards;
    pthread_mutex_init(&reader->mutex, NULL);
    return reader;
}

void data_reader_free(struct data_reader *reader)
{
    if (reader == NULL)
        return;
    for (size_t i = 0; i < reader->index->files; i++)
        if (reader->shards[i] >= 0)
            close(reader->shards[i]);
    pthread_mutex_destroy(&reader->mutex);
    free(reader->shards);
    free(reader);
}

void data_reader_name(const struct data_reader *reader, uint64_t sample, char *name, size_t bytes)
{
    const struct data_index *index = reader->index;
    char *path = data_index_path(index, sample);
    const bool held = data_index_hold(index, sample, reader->cancel, NULL) == 0;

    if (index->sharded)
        snprintf(name, bytes, "%s in %s",
                 held ? data_index_sample(index, sample)->key : "a picture", path);
    else
        snprintf(name, bytes, "%s", path);
    if (held)
        data_index_drop(index, sample);
    free(path);
}

int data_reader_wrap(const struct data_reader *reader, uint64_t sample, struct err *err)
{
    char name[READER_NAME_MAX];

    data_reader_name(reader, sample, name, sizeof name);
    return err_wrap(err, "'%s'", name);
}

/* What the user can mend in the data, against what befell the machine. */
static enum err_code unreadable_code(int number)
{
    return number == ENOENT || number == ENOTDIR || number == EACCES ? ERR_INPUT : ERR_IO;
}

static int reader_open(const char *path, struct err *err)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        err_set_errno(err, unreadable_code(errno), errno, "cannot open '%s'", path);
    return fd;
}

/* A shard that was opened, or the same that another thread opened meanwhile; *keep as below. */
static int reader_keep(struct data_reader *reader, size_t shard, int fd, bool *keep)
{
    int kept;

    pthread_mutex_lock(&reader->mutex);
    if (reader->shards[shard] < 0 && reader->shards_open < READER_OPEN_MAX) {
        reader->shards[shard] = fd;
        reader->shards_open++;
    }
    kept = reader->shards[shard];
    pthread_mutex_unlock(&reader->mutex);
    *keep = kept >= 0;
    if (kept < 0 || kept == fd)
        return fd;
    close(fd);
    return kept;
}

/* The file of a sample; *keep tells whether it stays open. -1 on failure. */
static int reader_file(struct data_reader *reader, const struct data_sample *sample,
                       const char *path, bool *keep, struct err *err)
{
    int fd;

    *keep = false;
    if (!reader->index->sharded)
        return reader_open(path, err);
    assert(sample->file < reader->index->files);
    pthread_mutex_lock(&reader->mutex);
    fd = reader->shards[sample->file];
    pthread_mutex_unlock(&reader->mutex);
    *keep = fd >= 0;
    if (fd >= 0)
        return fd;
    fd = reader_open(path, err); /* of a network's disk it may take long: nobody else waits */
    return fd < 0 ? -1 : reader_keep(reader, sample->file, fd, keep);
}

/* Read until `bytes` are there; fewer at the end of the file. -1 with errno set on failure. */
static ssize_t reader_read(int fd, void *out, size_t bytes, uint64_t offset)
{
    size_t have = 0;

    while (have < bytes) {
        const ssize_t got = pread(fd, (char *)out + have, bytes - have, (off_t)(offset + have));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        have += (size_t)got;
    }
    return (ssize_t)have;
}

/* Whether a file of its own is what was listed. */
static int reader_check_file(const struct data_sample *sample, int fd, const char *path,
                             const struct buf *bytes, struct err *err)
{
    struct stat stat;

    if (fstat(fd, &stat) < 0)
        return err_set_errno(err, ERR_IO, errno, "cannot read '%s'", path);
    if (!S_ISREG(stat.st_mode))
        return err_set(err, ERR_INPUT,
                       "'%s' is no file (a pipe, a device or a folder): give its content as a file",
                       path);
    if (stat.st_size > INT32_MAX)
        return err_set(err, ERR_INPUT, "'%s' is larger than 2 GiB", path);
    if (bytes->bytes == sample->bytes && stat.st_size == sample->bytes)
        return 0;
    return err_set(err, ERR_INPUT, "'%s' is not as long as when the folder was listed", path);
}

/* Whether the bytes are those that the index was made from. */
static int reader_check(const struct data_index *index, const struct data_sample *sample, int fd,
                        const char *path, const struct buf *bytes, struct err *err)
{
    if (!index->sharded)
        return reader_check_file(sample, fd, path, bytes, err);
    if (bytes->bytes < sample->bytes)
        return err_set(err, ERR_INPUT, "'%s' does not match its index: it ends before '%s' does",
                       path, sample->key);
    if (sample->crc32c != 0 && digest_crc32c(0, bytes->data, bytes->bytes) != sample->crc32c)
        return err_set(err, ERR_INPUT, "'%s' does not match its index: '%s' has another CRC-32C",
                       path, sample->key);
    return 0;
}

/* Of a sample that is held. */
static int reader_get(struct data_reader *reader, uint64_t sample, struct buf *out, struct err *err)
{
    const struct data_sample *entry = data_index_sample(reader->index, sample);
    char *path = data_index_path(reader->index, sample);
    bool keep = false;
    int fd = -1, rc = -1;
    ssize_t got;

    out->bytes = 0;
    if (buf_reserve(out, entry->bytes, err) < 0)
        goto out;
    fd = reader_file(reader, entry, path, &keep, err);
    if (fd < 0)
        goto out;
    got = reader_read(fd, out->data, entry->bytes, entry->offset);
    if (got < 0) {
        err_set_errno(err, unreadable_code(errno), errno, "cannot read '%s'", path);
        goto out;
    }
    out->bytes = (size_t)got;
    rc = reader_check(reader->index, entry, fd, path, out, err);
out:
    if (fd >= 0 && !keep)
        close(fd);
    free(path);
    return rc;
}

int data_reader_get(struct data_reader *reader, uint64_t sample, struct buf *out, int32_t *label,
                    struct err *err)
{
    int rc = data_index_hold(reader->index, sample, reader->cancel, err);

    if (rc < 0)
        return -1;
    if (label != NULL)
        *label = data_index_sample(reader->index, sample)->label;
    rc = reader_get(reader, sample, out, err);
    data_index_drop(reader->index, sample);
    return rc;
}
