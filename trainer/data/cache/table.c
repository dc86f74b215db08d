#include "trainer/data/cache/table.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define NAME  "table"
#define MAGIC "CVYCCT1\n"

struct header {
    char magic[8];
    unsigned char key[DIGEST_SHA256_BYTES];
    uint64_t chunks, zeros, crc;
};
_Static_assert(sizeof(struct header) == 64, "as table.h has it");

static struct header header_of(const struct data_cache_table *table)
{
    struct header header = {.chunks = table->chunks};

    memcpy(header.magic, MAGIC, sizeof header.magic);
    memcpy(header.key, table->key, sizeof header.key);
    header.crc = digest_crc32c(0, &header, offsetof(struct header, crc));
    return header;
}

uint32_t data_cache_state_after(uint32_t epoch)
{
    return epoch + 1 + DATA_CACHE_STATE_FOUND;
}

uint32_t data_cache_state_needed_from(uint32_t state)
{
    return state - DATA_CACHE_STATE_FOUND;
}

uint64_t data_cache_table_bytes(uint64_t chunks)
{
    return sizeof(struct header) + chunks * sizeof(uint32_t);
}

static void let_go(struct data_cache_table *table)
{
    if (table->mapped != NULL)
        munmap(table->mapped, data_cache_table_bytes(table->chunks));
    if (table->fd >= 0)
        close(table->fd);
    table->mapped = NULL;
    table->states = NULL;
    table->fd = -1;
}

void data_cache_table_close(struct data_cache_table *table)
{
    let_go(table);
    if (table->folder >= 0)
        close(table->folder);
    table->folder = -1;
}

static int map(struct data_cache_table *table)
{
    const int both = PROT_READ | PROT_WRITE;

    table->mapped =
        mmap(NULL, data_cache_table_bytes(table->chunks), both, MAP_SHARED, table->fd, 0);
    if (table->mapped == MAP_FAILED) {
        table->mapped = NULL;
        return -1;
    }
    table->states = (uint32_t *)((char *)table->mapped + sizeof(struct header));
    return 0;
}

/* Whether what is open is a table of this key; takes its chunks. */
static bool is_table(struct data_cache_table *table)
{
    struct header header, want;
    struct stat stat;

    if (pread(table->fd, &header, sizeof header, 0) != (ssize_t)sizeof header ||
        fstat(table->fd, &stat) < 0)
        return false;
    if (table->chunks == 0)
        table->chunks = header.chunks;
    want = header_of(table);
    return memcmp(&want, &header, sizeof want) == 0 && table->chunks < UINT32_MAX &&
           (uint64_t)stat.st_size == data_cache_table_bytes(table->chunks);
}

int data_cache_table_map(struct data_cache_table *table)
{
    const uint64_t chunks = table->chunks;

    table->fd = openat(table->folder, NAME, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (table->fd >= 0 && is_table(table) && map(table) == 0)
        return 0;
    let_go(table);
    table->chunks = chunks;
    return -1;
}

/* All its blocks are taken now: writing to a mapped file cannot say that a disk is full. What is
 * there and damaged may be mapped by others, so it is never cut shorter than they have it. */
int data_cache_table_make(struct data_cache_table *table)
{
    const struct header header = header_of(table);
    const off_t bytes = (off_t)data_cache_table_bytes(table->chunks);
    struct stat stat = {0};
    int number;

    table->fd = openat(table->folder, NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (table->fd < 0)
        return -1;
    number = posix_fallocate(table->fd, 0, bytes);
    if (number == 0 &&
        (fstat(table->fd, &stat) < 0 || (stat.st_size > bytes && ftruncate(table->fd, bytes) < 0) ||
         map(table) < 0))
        number = errno;
    if (number == 0) {
        memcpy(table->mapped, &header, sizeof header);
        return 0;
    }
    unlinkat(table->folder, NAME, 0);
    let_go(table);
    errno = number;
    return -1;
}

bool data_cache_table_idle(int folder)
{
    const int fd = openat(folder, NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    bool idle;

    if (fd < 0)
        return errno == ENOENT;
    idle = flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return idle;
}

int data_cache_table_remove(int folder, uint64_t *bytes)
{
    const int fd = openat(folder, NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    char magic[8] = {0};
    struct stat stat;
    int rc = -1;

    if (fd < 0)
        return -1;
    if (fstat(fd, &stat) == 0 && pread(fd, magic, sizeof magic, 0) == (ssize_t)sizeof magic &&
        memcmp(magic, MAGIC, sizeof magic) == 0) {
        *bytes = (uint64_t)stat.st_size;
        rc = unlinkat(folder, NAME, 0);
    }
    close(fd);
    return rc;
}
