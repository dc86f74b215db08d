/*
 * trainer/data/cache/chunk.h -- the file that keeps the pictures of a chunk.
 *
 * A chunk is G consecutive samples of an index; how long each is stands in the index, so every
 * picture has its place from the beginning and the file its full length (with holes). Version 1,
 * little-endian, n samples:
 *
 *     at        bytes
 *     0         8       "CVYCCH1\n"
 *     8         32      key of the index (SHA-256, cache.h)
 *     40        8       number of the chunk
 *     48        4       n
 *     52        4       CRC-32C of all before
 *     56        8 n     a record each: CRC-32C of the picture; CRC-32C of the index's key, the
 *                       chunk's number, the sample's place in it, its length and the first CRC
 *                       (4 bytes each but for the key and the number). Zeros: it is not there
 *     56 + 8 n          the pictures
 *
 * A picture is written before its record: who is killed in between leaves a record that is not
 * valid, and what is read must have the CRC of its record. So nothing has to be renamed or flushed
 * to disk, and several processes may fill one file.
 */
#ifndef DATA_CACHE_CHUNK_H
#define DATA_CACHE_CHUNK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"

struct data_sample;

#define DATA_CACHE_CHUNK_MAGIC "CVYCCH1\n"
#define DATA_CACHE_MAGIC_BYTES 8

struct data_cache_record {
    uint32_t crc, mark;
};

/* A chunk, and its file where it is open. */
struct data_cache_chunk {
    const unsigned char *key; /* (DIGEST_SHA256_BYTES) */
    uint64_t number;
    const struct data_sample *samples; /* (count) */
    uint32_t count;
    int fd;                            /* the caller's */
    struct data_cache_record *records; /* (count), heap; NULL: not read yet */
};

/** Length of the file. */
uint64_t data_cache_chunk_bytes(const struct data_cache_chunk *chunk);
/** Give a new file its length and header. -1 with errno. */
int data_cache_chunk_begin(const struct data_cache_chunk *chunk);
/** Check the header, read the records. -1: the file is not this chunk's (errno 0), or errno. */
int data_cache_chunk_load(struct data_cache_chunk *chunk);
/** Free the records. */
void data_cache_chunk_unload(struct data_cache_chunk *chunk);
/** Of a loaded chunk: whether sample i was kept. */
bool data_cache_chunk_has(const struct data_cache_chunk *chunk, uint32_t i);
/** Of a loaded chunk: read sample i, which it has. -1: its bytes are not what was written (errno
 * 0), or errno. */
int data_cache_chunk_read(const struct data_cache_chunk *chunk, uint32_t i, void *out);
/** Sample i is not there any more. -1 with errno. */
int data_cache_chunk_void(const struct data_cache_chunk *chunk, uint32_t i);
/** Keep sample i. -1 with errno. */
int data_cache_chunk_write(const struct data_cache_chunk *chunk, uint32_t i, const void *data);

#endif
