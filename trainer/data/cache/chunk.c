#include "trainer/data/cache/chunk.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trainer/data/index/index.h"

struct header {
    char magic[DATA_CACHE_MAGIC_BYTES];
    unsigned char key[DIGEST_SHA256_BYTES];
    uint64_t number;
    uint32_t count, crc;
};
_Static_assert(sizeof(struct header) == 56, "as chunk.h has it");

static struct header header_of(const struct data_cache_chunk *chunk)
{
    struct header header = {.number = chunk->number, .count = chunk->count};

    memcpy(header.magic, DATA_CACHE_CHUNK_MAGIC, sizeof header.magic);
    memcpy(header.key, chunk->key, sizeof header.key);
    header.crc = digest_crc32c(0, &header, offsetof(struct header, crc));
    return header;
}

static uint64_t record_at(uint32_t i)
{
    return sizeof(struct header) + i * sizeof(struct data_cache_record);
}

static uint64_t sample_at(const struct data_cache_chunk *chunk, uint32_t sample)
{
    uint64_t at = record_at(chunk->count);

    for (uint32_t i = 0; i < sample; i++)
        at += chunk->samples[i].bytes;
    return at;
}

static uint32_t mark_of(const struct data_cache_chunk *chunk, uint32_t i, uint32_t picture)
{
    const uint32_t words[] = {i, chunk->samples[i].bytes, picture};
    uint32_t crc = digest_crc32c(0, chunk->key, DIGEST_SHA256_BYTES);

    crc = digest_crc32c(crc, &chunk->number, sizeof chunk->number);
    return digest_crc32c(crc, words, sizeof words);
}

/* Positions are the caller's, so threads and processes do not disturb each other. */
static int read_all(int fd, void *out, size_t bytes, uint64_t at)
{
    size_t done = 0;

    while (done < bytes) {
        const ssize_t got = pread(fd, (char *)out + done, bytes - done, (off_t)(at + done));

        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            errno = 0;
        if (got <= 0)
            return -1;
        done += (size_t)got;
    }
    return 0;
}

static int write_all(int fd, const void *data, size_t bytes, uint64_t at)
{
    size_t done = 0;

    while (done < bytes) {
        const ssize_t put = pwrite(fd, (const char *)data + done, bytes - done, (off_t)(at + done));

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return -1;
        done += (size_t)put;
    }
    return 0;
}

uint64_t data_cache_chunk_bytes(const struct data_cache_chunk *chunk)
{
    return sample_at(chunk, chunk->count);
}

int data_cache_chunk_begin(const struct data_cache_chunk *chunk)
{
    const struct header header = header_of(chunk);

    if (ftruncate(chunk->fd, (off_t)data_cache_chunk_bytes(chunk)) < 0)
        return -1;
    return write_all(chunk->fd, &header, sizeof header, 0);
}

int data_cache_chunk_load(struct data_cache_chunk *chunk)
{
    const struct header want = header_of(chunk);
    struct header header;
    const size_t bytes = chunk->count * sizeof *chunk->records;

    if (read_all(chunk->fd, &header, sizeof header, 0) < 0)
        return -1;
    errno = 0;
    if (memcmp(&header, &want, sizeof header) != 0)
        return -1;
    data_cache_chunk_unload(chunk);
    chunk->records = malloc(bytes);
    if (chunk->records == NULL)
        abort();
    return read_all(chunk->fd, chunk->records, bytes, record_at(0));
}

void data_cache_chunk_unload(struct data_cache_chunk *chunk)
{
    free(chunk->records);
    chunk->records = NULL;
}

bool data_cache_chunk_has(const struct data_cache_chunk *chunk, uint32_t i)
{
    const struct data_cache_record *record = &chunk->records[i];

    assert(i < chunk->count);
    return (record->crc != 0 || record->mark != 0) &&
           record->mark == mark_of(chunk, i, record->crc);
}

int data_cache_chunk_read(const struct data_cache_chunk *chunk, uint32_t i, void *out)
{
    const size_t bytes = chunk->samples[i].bytes;

    if (read_all(chunk->fd, out, bytes, sample_at(chunk, i)) < 0)
        return -1;
    errno = 0;
    return digest_crc32c(0, out, bytes) == chunk->records[i].crc ? 0 : -1;
}

int data_cache_chunk_void(const struct data_cache_chunk *chunk, uint32_t i)
{
    const struct data_cache_record none = {0};

    return write_all(chunk->fd, &none, sizeof none, record_at(i));
}

int data_cache_chunk_write(const struct data_cache_chunk *chunk, uint32_t i, const void *data)
{
    const size_t bytes = chunk->samples[i].bytes;
    struct data_cache_record record = {.crc = digest_crc32c(0, data, bytes)};

    record.mark = mark_of(chunk, i, record.crc);
    if (write_all(chunk->fd, data, bytes, sample_at(chunk, i)) < 0)
        return -1;
    return write_all(chunk->fd, &record, sizeof record, record_at(i));
}
