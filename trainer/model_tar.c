/* trainer/model_tar.c -- a model as SageMaker keeps it: a tar of the model folder, most often
 * compressed by gzip. */
#include <archive.h>
#include <archive_entry.h>
#include <string.h>

#include "base/err.h"
#include "trainer/model_dir.h"

/* What a tar may have besides, which is unpacked to get behind it. */
#define ENTRIES_MAX   10000
#define UNPACKED_MAX  ((int64_t)8 << 30)
#define READ_AT_ATIME ((size_t)1 << 20)

struct wanted {
    const char *name;
    size_t bytes_max;
    struct buf *content;
};

/* The file that an entry is, or NULL. */
static const struct wanted *find(const struct wanted *wanted, size_t count,
                                 struct archive_entry *entry)
{
    const char *const path = archive_entry_pathname(entry);
    const char *const slash = path != NULL ? strrchr(path, '/') : NULL;
    const char *const name = slash != NULL ? slash + 1 : path;

    if (name == NULL || archive_entry_filetype(entry) != AE_IFREG)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (strcmp(name, wanted[i].name) == 0)
            return &wanted[i];
    return NULL;
}

static int damaged(struct archive *archive, const char *path, struct err *err)
{
    const char *const why = archive_error_string(archive);

    return err_set(err, ERR_INPUT, "'%s' is no tar, or is damaged: %s", path,
                   why != NULL ? why : "unknown reason");
}

static int take(struct archive *archive, const struct wanted *file, const char *path,
                struct err *err)
{
    la_ssize_t got = 1;

    if (file->content->bytes > 0)
        return err_set(err, ERR_INPUT, "'%s' has more than one %s", path, file->name);
    while (got > 0) {
        if (buf_reserve(file->content, READ_AT_ATIME, err) < 0)
            return -1;
        got = archive_read_data(archive, file->content->data + file->content->bytes, READ_AT_ATIME);
        if (got < 0)
            return damaged(archive, path, err);
        file->content->bytes += (size_t)got;
        if (file->content->bytes > file->bytes_max)
            return err_set(err, ERR_INPUT, "%s in '%s' has more than %zu bytes", file->name, path,
                           file->bytes_max);
    }
    return 0;
}

static int take_all(struct archive *archive, const struct wanted *wanted, size_t count,
                    const char *path, struct err *err)
{
    struct archive_entry *entry = NULL;
    int64_t unpacked = 0;
    int rc;

    for (int entries = 0;
         (rc = archive_read_next_header(archive, &entry)) == ARCHIVE_OK || rc == ARCHIVE_WARN;
         entries++) {
        const struct wanted *const file = find(wanted, count, entry);

        unpacked += archive_entry_size(entry);
        if (entries >= ENTRIES_MAX || unpacked < 0 || unpacked > UNPACKED_MAX)
            return err_set(err, ERR_INPUT, "'%s' holds far more than a model", path);
        if (file != NULL && take(archive, file, path, err) < 0)
            return -1;
    }
    if (rc != ARCHIVE_EOF)
        return damaged(archive, path, err);
    for (size_t i = 0; i < count; i++)
        if (wanted[i].content->bytes == 0)
            return err_set(err, ERR_INPUT, "'%s' holds no model that 'convoy train' left: no %s",
                           path, wanted[i].name);
    return 0;
}

int train_model_tar_read(const struct buf *tar, const char *path, struct train_model_files *files,
                         struct err *err)
{
    const struct wanted wanted[] = {
        {"config.json", TRAIN_MODEL_CONFIG_BYTES_MAX, &files->config},
        {"class_labels.json", TRAIN_MODEL_LABELS_BYTES_MAX, &files->labels},
        {"model.safetensors", TRAIN_MODEL_WEIGHTS_BYTES_MAX, &files->weights},
    };
    struct archive *const archive = archive_read_new();
    int rc = -1;

    if (archive == NULL)
        return err_set(err, ERR_MEMORY, "no memory to read '%s'", path);
    archive_read_support_filter_gzip(archive);
    archive_read_support_format_tar(archive);
    if (archive_read_open_memory(archive, tar->data, tar->bytes) != ARCHIVE_OK)
        damaged(archive, path, err);
    else
        rc = take_all(archive, wanted, sizeof wanted / sizeof wanted[0], path, err);
    archive_read_free(archive);
    return rc;
}
