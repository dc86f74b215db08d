/* tests/fuzz/fuzz.c -- see fuzz.h. */
#include "fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"

#define PATH_CHARS  512
#define FOLDERS_MAX 4

void fuzz_must(bool holds)
{
    if (!holds)
        abort();
}

void fuzz_must_equal(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
    fuzz_must(a_bytes == b_bytes);
    if (a_bytes > 0 && memcmp(a, b, a_bytes) != 0)
        abort();
}

void fuzz_must_say(int rc, const struct err *err, unsigned codes)
{
    if (rc >= 0) {
        fuzz_must(err->code == ERR_NONE);
        return;
    }
    fuzz_must(err->code != ERR_NONE && (codes & FUZZ_CODE(err->code)) != 0);
    fuzz_must(err->msg[0] != '\0' && strchr(err->msg, '\n') == NULL);
}

static int memory_fd = -1;

int fuzz_file(const void *data, size_t bytes)
{
    if (memory_fd < 0)
        memory_fd = memfd_create("input", 0);
    fuzz_must(memory_fd >= 0 && ftruncate(memory_fd, 0) == 0 &&
              pwrite(memory_fd, data, bytes, 0) == (ssize_t)bytes &&
              lseek(memory_fd, 0, SEEK_SET) == 0);
    return memory_fd;
}

const char *fuzz_file_path(void)
{
    static char path[32];

    snprintf(path, sizeof path, "/proc/self/fd/%d", memory_fd);
    return path;
}

const char *fuzz_folder(void)
{
    static char paths[FOLDERS_MAX][PATH_CHARS];
    static int count;
    char *const path = paths[count++];

    fuzz_must(count <= FOLDERS_MAX);
    snprintf(path, PATH_CHARS, "%s/fuzz-XXXXXX", file_temp_root());
    fuzz_must(mkdtemp(path) != NULL);
    return path;
}

void fuzz_write(const char *folder, const char *name, const void *data, size_t bytes)
{
    char path[PATH_CHARS];
    int fd;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    fuzz_must(fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes);
    close(fd);
}
