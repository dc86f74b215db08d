#include "trainer/data/cache/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/file.h>
#include <sys/stat.h>

#include "trainer/data/cache/chunk.h"

#define SUFFIX     ".chunk"
#define MAGIC_BITS 4 /* that may be wrong in a beginning that is ours */

void data_cache_names_open(struct data_cache_names *names, int folder)
{
    const int again = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    names->dir = again >= 0 ? fdopendir(again) : NULL;
    if (names->dir == NULL && again >= 0)
        close(again);
}

bool data_cache_names_next(struct data_cache_names *names)
{
    const struct dirent *entry;

    do {
        entry = names->dir != NULL ? readdir(names->dir) : NULL;
    } while (entry != NULL &&
             (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
    names->name = entry != NULL ? entry->d_name : NULL;
    return entry != NULL;
}

void data_cache_names_close(struct data_cache_names *names)
{
    if (names->dir != NULL)
        closedir(names->dir);
    names->dir = NULL;
}

bool data_cache_key_read(const char *name, unsigned char key[DIGEST_SHA256_BYTES])
{
    if (strlen(name) != DIGEST_HEX_CHARS - 1 || strspn(name, "0123456789abcdef") != strlen(name))
        return false;
    for (int i = 0; i < DIGEST_SHA256_BYTES; i++) {
        const char pair[3] = {name[2 * i], name[2 * i + 1], '\0'};

        key[i] = (unsigned char)strtoul(pair, NULL, 16);
    }
    return true;
}

void data_cache_chunk_name(uint64_t chunk, char name[DATA_CACHE_NAME_CHARS])
{
    snprintf(name, DATA_CACHE_NAME_CHARS, "%08" PRIx64 SUFFIX, chunk);
}

/* Only what data_cache_chunk_name writes. */
static bool chunk_number(const char *name, uint64_t *chunk)
{
    char again[DATA_CACHE_NAME_CHARS];

    if (strspn(name, "0123456789abcdef") < 8 || strlen(name) >= sizeof again)
        return false;
    *chunk = strtoull(name, NULL, 16);
    data_cache_chunk_name(*chunk, again);
    return strcmp(name, again) == 0;
}

/* How a file with a chunk's name begins. */
enum beginning { UNREAD, ALIEN, NEW, OURS };

/* With damage: other people's bytes differ in some 32 of 64 bits. */
static bool is_magic(const char magic[DATA_CACHE_MAGIC_BYTES])
{
    int bits = 0;

    for (int i = 0; i < DATA_CACHE_MAGIC_BYTES; i++)
        bits += __builtin_popcount((unsigned char)(magic[i] ^ DATA_CACHE_CHUNK_MAGIC[i]));
    return bits <= MAGIC_BITS;
}

static enum beginning look(int fd, uint64_t *bytes)
{
    static const char none[DATA_CACHE_MAGIC_BYTES];
    char magic[DATA_CACHE_MAGIC_BYTES] = {0};
    struct stat stat;
    ssize_t got;

    if (fstat(fd, &stat) < 0)
        return UNREAD;
    *bytes = (uint64_t)stat.st_size;
    if (!S_ISREG(stat.st_mode))
        return ALIEN;
    got = pread(fd, magic, sizeof magic, 0);
    if (got < 0)
        return UNREAD;
    if (got > 0 && got < (ssize_t)sizeof magic)
        return ALIEN;
    if (memcmp(magic, none, sizeof magic) == 0)
        return NEW;
    return is_magic(magic) ? OURS : ALIEN;
}

static int open_chunk(int folder, const char *name)
{
    return openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

bool data_cache_is_chunk(int folder, const char *name, uint64_t *chunk, uint64_t *bytes)
{
    enum beginning beginning;
    int fd;

    if (!chunk_number(name, chunk) || (fd = open_chunk(folder, name)) < 0)
        return false;
    beginning = look(fd, bytes);
    if (beginning == NEW)
        unlinkat(folder, name, 0);
    close(fd);
    return beginning == OURS;
}

static enum data_cache_removal remove_open(int folder, const char *name, int fd, uint64_t *bytes)
{
    const enum beginning beginning = look(fd, bytes);

    if (beginning == UNREAD)
        return DATA_CACHE_FAILED;
    if (beginning == ALIEN)
        return DATA_CACHE_ALIEN;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? DATA_CACHE_BUSY : DATA_CACHE_FAILED;
    return unlinkat(folder, name, 0) == 0 ? DATA_CACHE_REMOVED : DATA_CACHE_FAILED;
}

enum data_cache_removal data_cache_remove(int folder, const char *name, uint64_t *bytes)
{
    enum data_cache_removal removal;
    uint64_t chunk;
    int fd;

    *bytes = 0;
    if (!chunk_number(name, &chunk))
        return DATA_CACHE_ALIEN;
    fd = open_chunk(folder, name);
    if (fd < 0 && errno == ENOENT)
        return DATA_CACHE_GONE;
    if (fd < 0)
        return errno == ELOOP || errno == ENXIO ? DATA_CACHE_ALIEN : DATA_CACHE_FAILED;
    removal = remove_open(folder, name, fd, bytes);
    close(fd);
    return removal;
}
