#include "trainer/failure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

/* Bytes of the character that begins here, 0 where none does: RFC 3629, table of section 4. */
static size_t character_bytes(const unsigned char *s)
{
    const size_t bytes = s[0] < 0x80                    ? 1
                         : s[0] >= 0xc2 && s[0] <= 0xdf ? 2
                         : s[0] >= 0xe0 && s[0] <= 0xef ? 3
                         : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                                        : 0;

    for (size_t i = 1; i < bytes; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0; /* longer than need be, a surrogate, or beyond the last */
    return bytes;
}

/* Append as many whole characters as there is room for; the rest of a text is left out. */
static void append(char *line, size_t *used, size_t room, const char *text)
{
    for (const unsigned char *s = (const unsigned char *)text; *s != '\0';) {
        const size_t bytes = character_bytes(s), put = bytes > 0 ? bytes : 1;

        if (*used + put > room)
            return;
        if (bytes > 0)
            memcpy(line + *used, s, bytes);
        else
            line[*used] = '?';
        *used += put;
        s += put;
    }
}

static bool write_all(int fd, const char *line, size_t bytes)
{
    return write(fd, line, bytes) == (ssize_t)bytes && fsync(fd) == 0;
}

/* Give the file its name unless that is taken; not every file system has links. */
static bool put_in_place(const char *temp, const char *path)
{
    if (link(temp, path) == 0 || errno == EEXIST)
        return true;
    return renameat2(AT_FDCWD, temp, AT_FDCWD, path, RENAME_NOREPLACE) == 0 || errno == EEXIST;
}

void train_failure_write(const char *prefix, const char *message)
{
    const char *const path = getenv("CONVOY_FAILURE");
    char line[TRAIN_FAILURE_BYTES], *temp;
    size_t used = 0;
    int fd;

    if (path == NULL || path[0] == '\0' || access(path, F_OK) == 0)
        return;
    append(line, &used, sizeof line - 1, prefix);
    append(line, &used, sizeof line - 1, " ");
    append(line, &used, sizeof line - 1, message);
    line[used++] = '\n';
    if (asprintf(&temp, "%s.tmp-%ld", path, (long)getpid()) < 0)
        abort();
    fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0 || !write_all(fd, line, used) || !put_in_place(temp, path))
        log_warn("cannot write '%s', which CONVOY_FAILURE names: %s", path, strerror(errno));
    if (fd >= 0) {
        close(fd);
        unlink(temp);
    }
    free(temp);
}
