#include "trainer/data/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"

#define BLOCK 512 /* a header, and what contents are padded to */

/* Of a write that the system refused libarchive's text is "Write error" alone; a format's own
 * errors have no errno, or one of its own below 0. */
static int failed(const struct data_tar *tar, struct err *err)
{
    const char *const why = archive_error_string(tar->archive);
    const int number = archive_errno(tar->archive);

    if (number > 0 && why != NULL && strcmp(why, "Write error") == 0)
        return err_set_errno(err, ERR_IO, number, "cannot write '%s'", tar->file.path);
    return err_set(err, ERR_IO, "cannot write '%s': %s", tar->file.path,
                   why != NULL ? why : "unknown reason");
}

int data_tar_open(struct data_tar *tar, const char *path, struct err *err)
{
    *tar = (struct data_tar){.file.fd = -1};
    if (file_new_open(&tar->file, path, err) < 0)
        return -1;
    tar->archive = archive_write_new();
    if (tar->archive == NULL)
        abort();
    if (archive_write_set_format_ustar(tar->archive) != ARCHIVE_OK ||
        archive_write_open_fd(tar->archive, tar->file.fd) != ARCHIVE_OK)
        return failed(tar, err);
    return 0;
}

static int put(struct data_tar *tar, struct archive_entry *entry, const void *data, size_t bytes,
               struct err *err)
{
    if (archive_write_header(tar->archive, entry) != ARCHIVE_OK)
        return failed(tar, err);
    if (bytes > 0 && archive_write_data(tar->archive, data, bytes) != (la_ssize_t)bytes)
        return failed(tar, err);
    return 0;
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
        *offset = tar->bytes + BLOCK;
    tar->bytes += BLOCK + (bytes + BLOCK - 1) / BLOCK * BLOCK;
    return 0;
}

int data_tar_finish(struct data_tar *tar, uint64_t *bytes, struct err *err)
{
    struct stat stat;

    if (archive_write_close(tar->archive) != ARCHIVE_OK)
        return failed(tar, err);
    if (fstat(tar->file.fd, &stat) < 0)
        return err_set_errno(err, ERR_IO, errno, "cannot write '%s'", tar->file.path);
    if (file_new_commit(&tar->file, err) < 0)
        return -1;
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
