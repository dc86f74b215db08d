#include "base/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/text.h"

#define READ_BYTES_MIN ((size_t)64 * 1024)

/* The folder a path is in: "." for a bare name, "/" for a name at the root. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (slash == NULL)
        return text_copy_bytes(".", 1);
    return text_copy_bytes(path, slash == path ? 1 : (size_t)(slash - path));
}

/* Read to the end, or to one byte past bytes_max, which proves that the file is too long. */
static int read_all(int fd, const char *path, size_t bytes_max, struct buf *out, struct err *err)
{
    const size_t begin = out->bytes;

    for (;;) {
        const size_t have = out->bytes - begin;
        ssize_t got;

        if (have > bytes_max)
            return err_set(err, ERR_INPUT, "'%s' is longer than %zu bytes", path, bytes_max);
        if (buf_reserve(out, READ_BYTES_MIN, err) < 0)
            return err_wrap(err, "cannot read '%s'", path);
        got = read(fd, out->data + out->bytes, out->capacity - out->bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_set_errno(err, ERR_IO, errno, "cannot read '%s'", path);
        if (got == 0)
            return 0;
        out->bytes += (size_t)got;
    }
}

int file_read(const char *path, size_t bytes_max, struct buf *out, struct err *err)
{
    const size_t begin = out->bytes;
    const int fd =
        open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not be waited for */
    struct stat info = {0};
    int rc;

    if (fd < 0)
        return err_set_errno(err, errno == ENOENT || errno == ENOTDIR ? ERR_INPUT : ERR_IO, errno,
                             "cannot read '%s'", path);
    if (fstat(fd, &info) == 0 && S_ISFIFO(info.st_mode)) {
        close(fd);
        return err_set(err, ERR_INPUT, "cannot read '%s': it is a pipe, not a file", path);
    }
    /* One allocation for a plain file; others (/proc) grow as they come. */
    if (S_ISREG(info.st_mode) && (size_t)info.st_size <= bytes_max)
        (void)buf_reserve(out, (size_t)info.st_size + READ_BYTES_MIN, NULL);
    rc = read_all(fd, path, bytes_max, out, err);
    if (rc < 0)
        out->bytes = begin;
    close(fd);
    return rc;
}

bool file_is_folder(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool file_exists(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0;
}

int file_make_folder(const char *path, struct err *err)
{
    char *part = text_copy(path);
    int rc = 0;

    /* Cut the path behind each component in turn. A mkdir that fails where a folder stands is fine,
     * whatever the reason (another rank was first, a read-only file system). */
    for (char *end = part; rc == 0 && *end != '\0';) {
        char kept;

        end += strspn(end, "/");
        end += strcspn(end, "/");
        kept = *end;
        *end = '\0';
        if (mkdir(part, 0777) < 0) {
            const int why = errno;

            if (!file_is_folder(part))
                rc = err_set_errno(err, ERR_IO, why, "cannot make the folder '%s'", part);
        }
        *end = kept;
    }
    free(part);
    return rc;
}

int file_check_writable(const char *folder, struct err *err)
{
    static const char suffix[] = ".sagemaker-ignore";
    char *probe;
    int fd;

    if (file_make_folder(folder, err) < 0)
        return -1;
    if (asprintf(&probe, "%s/.probe-XXXXXX%s", folder, suffix) < 0)
        abort();
    fd = mkostemps(probe, (int)sizeof suffix - 1, O_CLOEXEC);
    if (fd < 0) {
        err_set_errno(err, ERR_IO, errno, "cannot write in the folder '%s'", folder);
    } else {
        unlink(probe);
        close(fd);
    }
    free(probe);
    return fd < 0 ? -1 : 0;
}

/* Where the name would become too long for a folder it is cut, and its digest tells it from others
 * that begin alike. */
static char *temp_of(const char *path)
{
    enum { kept = 100 };
    const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
    const bool cut = strlen(name) + strlen("..tmp-4294967295.sagemaker-ignore") > NAME_MAX;
    char *folder = folder_of(path), *temp, hex[DIGEST_HEX_CHARS] = "";
    unsigned char sha[DIGEST_SHA256_BYTES];

    if (cut) {
        digest_sha256(name, strlen(name), sha);
        digest_hex(sha, hex);
    }
    if (asprintf(&temp, "%s/.%.*s%s.tmp-%ld.sagemaker-ignore", folder,
                 cut ? kept : (int)strlen(name), name, hex, (long)getpid()) < 0)
        abort();
    free(folder);
    return temp;
}

int file_new_open(struct file_new *file, const char *path, struct err *err)
{
    char *const temp = temp_of(path);
    int fd;

    fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) {
        err_set_errno(err, ERR_IO, errno, "cannot make '%s'", path);
        free(temp);
        return -1;
    }
    *file = (struct file_new){.fd = fd, .path = text_copy(path), .temp = temp};
    return 0;
}

int file_new_open_memory(struct file_new *file, const char *path, struct err *err)
{
    const int fd = memfd_create("convoy", MFD_CLOEXEC);

    if (fd < 0)
        return err_set_errno(err, ERR_MEMORY, errno, "cannot make '%s' in memory", path);
    *file = (struct file_new){.fd = fd, .path = text_copy(path)};
    return 0;
}

/* O_TMPFILE is not for every file system (NFS): there by a name that is gone at once. */
static int open_nameless(const char *path)
{
    char *folder = folder_of(path), *temp;
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    free(folder);
    if (fd >= 0)
        return fd;
    if (asprintf(&temp, "%s.XXXXXX", path) < 0)
        abort();
    fd = mkostemp(temp, O_CLOEXEC);
    if (fd >= 0)
        unlink(temp);
    free(temp);
    return fd;
}

int file_new_open_nameless(struct file_new *file, const char *path, struct err *err)
{
    const int fd = open_nameless(path);

    if (fd < 0)
        return err_set_errno(err, ERR_IO, errno, "cannot make '%s'", path);
    *file = (struct file_new){.fd = fd, .path = text_copy(path)};
    return 0;
}

int file_new_write(struct file_new *file, const void *data, size_t bytes, struct err *err)
{
    const char *p = data;

    assert(file->path != NULL && file->fd >= 0);
    while (bytes > 0) {
        const ssize_t put = write(file->fd, p, bytes);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return err_set_errno(err, ERR_IO, errno, "cannot write '%s'", file->path);
        p += put;
        bytes -= (size_t)put;
    }
    return 0;
}

/* The rename itself must survive a power cut too: it is a change of the folder. Some file systems
 * cannot sync a folder and say EINVAL; there is nothing more to be done on them. */
static int sync_folder_of(const char *path, struct err *err)
{
    char *folder = folder_of(path);
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = 0;

    if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL))
        rc = err_set_errno(err, ERR_IO, errno, "cannot sync the folder '%s'", folder);
    if (fd >= 0)
        close(fd);
    free(folder);
    return rc;
}

int file_new_commit(struct file_new *file, struct err *err)
{
    int fd = file->fd;

    assert(file->temp != NULL && fd >= 0);
    if (fsync(fd) < 0)
        return err_set_errno(err, ERR_IO, errno, "cannot write '%s'", file->path);
    file->fd = -1;
    if (close(fd) < 0) /* network file systems report a full disk here */
        return err_set_errno(err, ERR_IO, errno, "cannot write '%s'", file->path);
    if (rename(file->temp, file->path) < 0)
        return err_set_errno(err, ERR_IO, errno, "cannot put '%s' in place", file->path);
    free(file->temp);
    file->temp = NULL;
    return sync_folder_of(file->path, err);
}

void file_new_release(struct file_new *file)
{
    if (file == NULL)
        return;
    if (file->path != NULL && file->fd >= 0)
        close(file->fd);
    if (file->temp != NULL)
        unlink(file->temp);
    free(file->temp);
    free(file->path);
    *file = (struct file_new){.fd = -1};
}

int file_replace(const char *path, const void *data, size_t bytes, struct err *err)
{
    struct file_new file = {.fd = -1};
    int rc = -1;

    if (file_new_open(&file, path, err) < 0)
        goto out;
    if (file_new_write(&file, data, bytes, err) < 0)
        goto out;
    rc = file_new_commit(&file, err);
out:
    file_new_release(&file);
    return rc;
}

const char *file_temp_root(void)
{
    const char *root = getenv("TMPDIR");

    return root == NULL || root[0] == '\0' ? "/tmp" : root;
}
