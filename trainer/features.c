#include "trainer/features.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/err.h"

struct train_features {
    size_t rows, floats;
    size_t memory_rows; /* the first ones are in memory */
    float *memory;
    char *folder;
    int fd; /* the others: row memory_rows at offset 0; -1: there are none */
    uint32_t *crc32c;
    bool *known;
};

uint64_t train_features_bytes(size_t rows, size_t floats)
{
    return (uint64_t)rows * floats * sizeof(float);
}

static size_t row_bytes(const struct train_features *features)
{
    return features->floats * sizeof(float);
}

/* A file that has no name from the start, or loses it at once. */
static int open_nameless(const char *folder)
{
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    char *path = NULL;

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
        return fd;
    if (asprintf(&path, "%s/features-XXXXXX", folder) < 0)
        abort();
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    free(path);
    return fd;
}

static bool is_in_memory(int fd)
{
    struct statfs info;

    return fstatfs(fd, &info) == 0 && info.f_type == TMPFS_MAGIC;
}

static int take_file(struct train_features *features, struct err *err)
{
    const uint64_t bytes =
        train_features_bytes(features->rows - features->memory_rows, features->floats);
    int reason;

    features->fd = open_nameless(features->folder);
    if (features->fd < 0)
        return err_set(err, ERR_IO, "cannot make a file in '%s': %s", features->folder,
                       strerror(errno));
    if (is_in_memory(features->fd))
        return err_set(err, ERR_IO,
                       "%.1f MB find no room in memory, and '%s' is memory too (tmpfs): let TMPDIR "
                       "name a folder on a disk",
                       (double)bytes / 1e6, features->folder);
    do
        reason = posix_fallocate(features->fd, 0, (off_t)bytes);
    while (reason == EINTR);
    if (reason != 0)
        return err_set(err, ERR_IO, "cannot take %.1f MB of '%s': %s", (double)bytes / 1e6,
                       features->folder, strerror(reason));
    return 0;
}

struct train_features *train_features_new(size_t rows, size_t floats, uint64_t memory_bytes,
                                          const char *folder, struct err *err)
{
    struct train_features *features = calloc(1, sizeof(*features));
    const uint64_t fitting = memory_bytes / (floats * sizeof(float));

    if (features == NULL)
        abort();
    *features = (struct train_features){.rows = rows,
                                        .floats = floats,
                                        .memory_rows = fitting < rows ? (size_t)fitting : rows,
                                        .folder = strdup(folder),
                                        .fd = -1,
                                        .crc32c = calloc(rows + 1, sizeof(uint32_t)),
                                        .known = calloc(rows + 1, sizeof(bool))};
    features->memory = malloc(features->memory_rows * row_bytes(features) + 1);
    if (features->folder == NULL || features->crc32c == NULL || features->known == NULL ||
        features->memory == NULL) {
        err_set(err, ERR_MEMORY, "no memory for the features of %zu pictures (%.1f MB)", rows,
                (double)(features->memory_rows * row_bytes(features) +
                         rows * (sizeof(uint32_t) + sizeof(bool))) /
                    1e6);
        train_features_free(features);
        return NULL;
    }
    if (features->memory_rows < rows && take_file(features, err) < 0) {
        train_features_free(features);
        return NULL;
    }
    return features;
}

size_t train_features_in_memory(const struct train_features *features)
{
    return features->memory_rows;
}

void train_features_free(struct train_features *features)
{
    if (features == NULL)
        return;
    if (features->fd >= 0)
        close(features->fd);
    free(features->memory);
    free(features->crc32c);
    free(features->known);
    free(features->folder);
    free(features);
}

bool train_features_has(const struct train_features *features, size_t row)
{
    return features->known[row];
}

static off_t file_offset(const struct train_features *features, size_t row)
{
    return (off_t)train_features_bytes(row - features->memory_rows, features->floats);
}

static int write_row(const struct train_features *features, size_t row, const float *values,
                     struct err *err)
{
    const char *at = (const char *)values;
    size_t left = row_bytes(features);
    off_t offset = file_offset(features, row);

    while (left > 0) {
        const ssize_t wrote = pwrite(features->fd, at, left, offset);

        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return err_set(err, ERR_IO, "cannot write features to a file in '%s': %s",
                           features->folder, strerror(errno));
        at += wrote;
        offset += wrote;
        left -= (size_t)wrote;
    }
    return 0;
}

static int read_row(const struct train_features *features, size_t row, float *out, struct err *err)
{
    char *at = (char *)out;
    size_t left = row_bytes(features);
    off_t offset = file_offset(features, row);

    while (left > 0) {
        const ssize_t got = pread(features->fd, at, left, offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return err_set(err, ERR_IO, "cannot read features from a file in '%s': %s",
                           features->folder, got == 0 ? "it is short" : strerror(errno));
        at += got;
        offset += got;
        left -= (size_t)got;
    }
    return 0;
}

int train_features_put(struct train_features *features, size_t row, size_t count,
                       const float *values, struct err *err)
{
    assert(row + count <= features->rows);
    for (; count > 0; row++, count--, values += features->floats) {
        if (row < features->memory_rows)
            memcpy(features->memory + row * features->floats, values, row_bytes(features));
        else if (write_row(features, row, values, err) < 0)
            return -1;
        features->crc32c[row] = digest_crc32c(0, values, row_bytes(features));
        features->known[row] = true;
    }
    return 0;
}

int train_features_get(const struct train_features *features, size_t row, float *out,
                       struct err *err)
{
    assert(row < features->rows && features->known[row]);
    if (row < features->memory_rows)
        memcpy(out, features->memory + row * features->floats, row_bytes(features));
    else if (read_row(features, row, out, err) < 0)
        return -1;
    if (digest_crc32c(0, out, row_bytes(features)) != features->crc32c[row])
        return err_set(err, ERR_IO,
                       "the features of picture %zu are not those that were stored (%s)", row,
                       row < features->memory_rows ? "in memory" : features->folder);
    return 0;
}
