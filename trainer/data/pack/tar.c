#include "trainer/data/pack/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "trainer/data/index/shard.h"

static int failed(const struct data_tar *tar, struct err *err)
{
    const char *why = archive_error_string(tar->archive);

    return err_set(err, ERR_IO, "cannot write '%s': %s", tar->file.path,
                   why != NULL ? why : "unknown reason");
}

/* Of a write that failed libarchive 3.6 would say "Write error" and no reason, and leak its buffers
 * (archive_write_free does not close what is in a fatal state): it is not told. */
static la_ssize_t write_all(struct archive *archive, void *context, const void *data, size_t bytes)
{
    struct data_tar *const tar = context;

    (void)archive;
    if (tar->failure.code == ERR_NONE)
        (void)file_new_write(&tar->file, data, bytes, &tar->failure);
    return (la_ssize_t)bytes;
}

static int check_written(const struct data_tar *tar, struct err *err)
{
    if (tar->failure.code == ERR_NONE)
        return 0;
    if (err != NULL)
        *err = tar->failure;
    return -1;
}

static int begin(struct data_tar *tar, struct err *err)
{
    tar->archive = archive_write_new();
    if (tar->archive == NULL)
        abort();
    if (archive_write_set_format_ustar(tar->archive) != ARCHIVE_OK ||
        archive_write_set_bytes_in_last_block(tar->archive, 1) != ARCHIVE_OK || /* as of a file */
        archive_write_open(tar->archive, tar, NULL, write_all, NULL) != ARCHIVE_OK)
        return failed(tar, err);
    return 0;
}

int data_tar_open(struct data_tar *tar, const char *path, struct err *err)
{
    *tar = (struct data_tar){.file.fd = -1};
    return file_new_open(&tar->file, path, err) < 0 ? -1 : begin(tar, err);
}

int data_tar_open_nameless(struct data_tar *tar, const char *path, struct err *err)
{
    *tar = (struct data_tar){.file.fd = -1};
    return file_new_open_nameless(&tar->file, path, err) < 0 ? -1 : begin(tar, err);
}

static int put(struct data_tar *tar, struct archive_entry *entry, const void *data, size_t bytes,
               struct err *err)
{
    if (archive_write_header(tar->archive, entry) != ARCHIVE_OK)
        return failed(tar, err);
    if (bytes > 0 && archive_write_data(tar->archive, data, bytes) != (la_ssize_t)bytes)
        return failed(tar, err);
    return check_written(tar, err);
}

int data_tar_put(struct data_tar *tar, const char *name, const void *data, size_t bytes,
                 uint64_t *offset, struct err *err)
{
    struct archive_entry *entry = archive_entry_new();
    int rc;

    if (entry == NULL)
        abort();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_mtime(entry, 0, 0);
    archive_entry_set_size(entry, (la_int64_t)bytes);
    rc = put(tar, entry, data, bytes, err);
    archive_entry_free(entry);
    if (rc < 0)
        return -1;
    if (offset != NULL)
        *offset = tar->bytes + TAR_BLOCK;
    tar->bytes += TAR_BLOCK + (bytes + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    return 0;
}

int data_tar_finish(struct data_tar *tar, uint64_t *bytes, struct err *err)
{
    struct stat stat;

    if (archive_write_close(tar->archive) != ARCHIVE_OK)
        return failed(tar, err);
    if (check_written(tar, err) < 0)
        return -1;
    if (fstat(tar->file.fd, &stat) < 0)
        return err_set_errno(err, ERR_IO, errno, "cannot write '%s'", tar->file.path);
    if (tar->file.temp != NULL && file_new_commit(&tar->file, err) < 0)
        return -1;
    archive_write_free(tar->archive);
    tar->archive = NULL;
    *bytes = (uint64_t)stat.st_size;
    return 0;
}

void data_tar_release(struct data_tar *tar)
{
    if (tar->archive != NULL)
        archive_write_free(tar->archive);
    tar->archive = NULL;
    if (tar->file.path != NULL)
        file_new_release(&tar->file);
}
