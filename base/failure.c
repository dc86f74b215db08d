#include "base/failure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"

/* Bytes of the character that begins at `at`: 1 to 4, or 0 if it is none (RFC 3629 section 4). */
static size_t character_bytes(const unsigned char *at)
{
    const size_t bytes = at[0] < 0x80                    ? 1
                         : at[0] >= 0xc2 && at[0] < 0xe0 ? 2
                         : at[0] >= 0xe0 && at[0] < 0xf0 ? 3
                         : at[0] >= 0xf0 && at[0] < 0xf5 ? 4
                                                         : 0;

    for (size_t i = 1; i < bytes; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    if (bytes == 3 && ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f)))
        return 0; /* too long a form; a surrogate */
    if (bytes == 4 && ((at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f)))
        return 0;
    return bytes;
}

/* Append at most chars_max characters of the text; returns how many. */
static size_t append(struct buf *out, const char *text, size_t chars_max)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t chars = 0;

    for (; *at != '\0' && chars < chars_max; chars++) {
        const size_t bytes = character_bytes(at);

        if (bytes == 0 || *at < 0x20 || *at == 0x7f)
            buf_append(out, "?", 1);
        else
            buf_append(out, at, bytes);
        at += bytes > 0 ? bytes : 1;
    }
    return chars;
}

static void compose(struct buf *out, const char *reason, const char *where)
{
    struct buf tail = {0};
    size_t tail_chars = 0;

    if (where != NULL && where[0] != '\0') {
        buf_append(&tail, " (", 2);
        tail_chars = 3 + append(&tail, where, FAILURE_CHARS_MAX / 4);
        buf_append(&tail, ")", 1);
    }
    append(out, reason, FAILURE_CHARS_MAX - tail_chars);
    buf_append(out, tail.data, tail.bytes);
    buf_release(&tail);
}

static int write_temporary(const char *temp, const struct buf *text, struct err *err)
{
    const int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    ssize_t put = 0;

    if (fd < 0)
        return err_set_errno(err, ERR_IO, errno, "cannot make '%s'", temp);
    errno = 0;
    put = write(fd, text->data, text->bytes); /* 4 KiB at most: one piece, or the disk is full */
    if (put != (ssize_t)text->bytes || fsync(fd) < 0) {
        err_set_errno(err, ERR_IO, errno == 0 ? ENOSPC : errno, "cannot write '%s'", temp);
        close(fd);
        return -1;
    }
    close(fd);
    return 0;
}

/* A link never replaces a file. Where the file system has none, a rename may know how not to; and
 * where that is not so either, a look must do. */
static int put_in_place(const char *temp, const char *path, struct err *err)
{
    if (link(temp, path) == 0 || errno == EEXIST)
        return 0;
    if (renameat2(AT_FDCWD, temp, AT_FDCWD, path, RENAME_NOREPLACE) == 0 || errno == EEXIST)
        return 0;
    if (file_exists(path) || rename(temp, path) == 0)
        return 0;
    return err_set_errno(err, ERR_IO, errno, "cannot put '%s' in place", path);
}

int failure_write(const char *path, const char *reason, const char *where, struct err *err)
{
    const char *const slash = strrchr(path, '/');
    char *const folder = strndup(path, slash != NULL ? (size_t)(slash - path) : 0);
    struct buf text = {0};
    char *temp = NULL;
    int rc = 0;

    if (folder == NULL || asprintf(&temp, "%s.tmp-%ld", path, (long)getpid()) < 0)
        abort();
    if (file_exists(path))
        goto out;
    compose(&text, reason, where);
    if (folder[0] != '\0' && file_make_folder(folder, err) < 0)
        rc = -1;
    else if (write_temporary(temp, &text, err) < 0 || put_in_place(temp, path, err) < 0)
        rc = -1;
    unlink(temp);
out:
    buf_release(&text);
    free(folder);
    free(temp);
    return rc;
}
