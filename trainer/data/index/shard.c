#include "trainer/data/index/shard.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/err.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/place.h"

static const char magic[8] = "CVYIDX1\n";

#define HEADER_BYTES     (sizeof magic + 3 * 8)
#define RECORD_BYTES     24
#define CRC_BYTES        4
#define INDEX_BYTES_MAX  ((size_t)1 << 32)
#define REMOTE_READS_MAX 3 /* an index that is damaged may have become so on its way */
#define TAR_NAME_DIGITS  12
#define TAR_SIZE_OFFSET  124
#define TAR_MAGIC_OFFSET 257

void data_shard_release(struct data_shard *shard)
{
    free(shard->records);
    buf_release(&shard->keys);
    *shard = (struct data_shard){0};
}

void data_shard_add(struct data_shard *shard, const struct data_shard_record *record,
                    const char *key)
{
    if (shard->count == shard->capacity) {
        shard->capacity = shard->capacity * 2 + 64;
        shard->records = reallocarray(shard->records, shard->capacity, sizeof *shard->records);
        if (shard->records == NULL)
            abort();
    }
    shard->records[shard->count] = *record;
    shard->records[shard->count++].key = (uint32_t)shard->keys.bytes;
    buf_append(&shard->keys, key, strlen(key) + 1);
}

const char *data_shard_key(const struct data_shard *shard, size_t record)
{
    return (const char *)shard->keys.data + shard->records[record].key;
}

static void put_u32(struct buf *out, uint32_t value)
{
    unsigned char bytes[4];

    for (int i = 0; i < 4; i++)
        bytes[i] = (unsigned char)(value >> (8 * i));

    buf_append(out, bytes, sizeof bytes);
}

static void put_u64(struct buf *out, uint64_t value)
{
    put_u32(out, (uint32_t)value);
    put_u32(out, (uint32_t)(value >> 32));
}

static uint32_t get_u32(const unsigned char *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static uint64_t get_u64(const unsigned char *bytes)
{
    return get_u32(bytes) | (uint64_t)get_u32(bytes + 4) << 32;
}

void data_shard_encode(const struct data_shard *shard, struct buf *out)
{
    const size_t begin = out->bytes;

    buf_append(out, magic, sizeof magic);
    put_u64(out, shard->count);
    put_u64(out, shard->tar_bytes);
    put_u64(out, shard->keys.bytes);
    for (size_t i = 0; i < shard->count; i++) {
        const struct data_shard_record *record = &shard->records[i];

        put_u64(out, record->offset);
        put_u32(out, record->bytes);
        put_u32(out, record->label);
        put_u32(out, record->crc32c);
        put_u32(out, record->key);
    }
    buf_append(out, shard->keys.data, shard->keys.bytes);
    put_u32(out, digest_crc32c(0, out->data + begin, out->bytes - begin));
}

/* A record that passed its CRC and is still impossible was written by somebody else's program. */
static int check_record(const struct data_shard *shard, const struct data_shard_record *record)
{
    if (record->key >= shard->keys.bytes || record->bytes == 0 || record->label > INT32_MAX)
        return -1;
    if (strlen((const char *)shard->keys.data + record->key) > SHARD_KEY_BYTES_MAX)
        return -1;
    if (record->offset < TAR_BLOCK || record->offset > shard->tar_bytes ||
        record->bytes > shard->tar_bytes - record->offset)
        return -1;
    return 0;
}

static int decode_records(struct data_shard *shard, const unsigned char *at, const char *path,
                          struct err *err)
{
    shard->records = calloc(shard->count, sizeof *shard->records);
    if (shard->records == NULL)
        return err_set(err, ERR_MEMORY, "no memory for the %zu samples of '%s'", shard->count,
                       path);
    for (size_t i = 0; i < shard->count; i++, at += RECORD_BYTES) {
        shard->records[i] = (struct data_shard_record){
            .offset = get_u64(at),
            .bytes = get_u32(at + 8),
            .label = get_u32(at + 12),
            .crc32c = get_u32(at + 16),
            .key = get_u32(at + 20),
        };
        if (check_record(shard, &shard->records[i]) < 0)
            return err_set(err, ERR_INPUT,
                           "'%s' is damaged: its record %zu makes no sense: pack again", path, i);
    }
    return 0;
}

static int decode(struct data_shard *shard, const unsigned char *data, size_t bytes,
                  const char *path, struct err *err)
{
    const size_t body = bytes - CRC_BYTES; /* meant once the length is checked */
    uint64_t count, key_bytes;

    if (bytes < HEADER_BYTES + CRC_BYTES || memcmp(data, magic, sizeof magic) != 0)
        return err_set(err, ERR_INPUT,
                       "'%s' is no index of a shard, or of another version: pack again", path);
    if (digest_crc32c(0, data, body) != get_u32(data + body))
        return err_set(err, ERR_INPUT, "'%s' is damaged: its CRC-32C does not match: pack again",
                       path);
    count = get_u64(data + sizeof magic);
    key_bytes = get_u64(data + sizeof magic + 16);
    if (count == 0 || count > body / RECORD_BYTES || key_bytes == 0 || key_bytes > UINT32_MAX ||
        HEADER_BYTES + count * RECORD_BYTES + key_bytes != body || data[body - 1] != '\0')
        return err_set(err, ERR_INPUT, "'%s' is damaged: its lengths do not add up: pack again",
                       path);
    shard->count = shard->capacity = count;
    shard->tar_bytes = get_u64(data + sizeof magic + 8);
    buf_append(&shard->keys, data + body - key_bytes, key_bytes);
    return decode_records(shard, data + HEADER_BYTES, path, err);
}

int data_shard_decode(struct data_shard *shard, const void *data, size_t bytes, const char *path,
                      struct err *err)
{
    const int rc = decode(shard, data, bytes, path, err);

    if (rc < 0)
        data_shard_release(shard);
    return rc;
}

int data_shard_read(struct data_shard *shard, const char *path, const volatile sig_atomic_t *cancel,
                    struct err *err)
{
    const int reads_max = data_place_is_remote(path) ? REMOTE_READS_MAX : 1;
    struct buf file = {0};
    int rc = -1;

    for (int reads = 0; reads < reads_max && rc < 0; reads++) {
        file.bytes = 0;
        if (data_place_load_until(path, INDEX_BYTES_MAX, cancel, &file, err) < 0)
            break;
        rc = data_shard_decode(shard, file.data, file.bytes, path, err);
    }
    buf_release(&file);
    return rc;
}

int data_shard_check_top(const struct data_shard *shard, const struct data_shard_top *top,
                         int classes, const char *index_path, struct err *err)
{
    const bool same = shard->count == top->count && shard->tar_bytes == top->tar_bytes;
    uint64_t bytes = 0;

    for (size_t i = 0; same && i < shard->count; i++) {
        const struct data_shard_record *const record = &shard->records[i];

        if (record->label >= (uint32_t)classes)
            return err_set(err, ERR_INPUT,
                           "'%s' has label %" PRIu32 " where '" SHARD_TOP_NAME
                           "' has %d classes: pack again",
                           index_path, record->label, classes);
        bytes += record->bytes;
    }
    if (same && bytes == top->bytes)
        return 0;
    return err_set(err, ERR_INPUT,
                   "the index '%s' does not match '" SHARD_TOP_NAME "' beside it: pack again",
                   index_path);
}

struct data_sample data_shard_sample(const struct data_shard *shard, size_t record, uint32_t file)
{
    const struct data_shard_record *const from = &shard->records[record];

    return (struct data_sample){.key = data_shard_key(shard, record),
                                .offset = from->offset,
                                .bytes = from->bytes,
                                .crc32c = from->crc32c,
                                .file = file,
                                .label = (int32_t)from->label};
}

/* POSIX ustar: the name first, the size in octal digits at 124, "ustar" at 257. */
static int header_matches(int fd, const struct data_shard_record *record, uint64_t sample)
{
    unsigned char header[TAR_BLOCK];
    char name[32], size[16];

    if (pread(fd, header, sizeof header, (off_t)(record->offset - TAR_BLOCK)) != sizeof header)
        return 0;
    snprintf(name, sizeof name, "%0*" PRIu64 ".", TAR_NAME_DIGITS, sample);
    snprintf(size, sizeof size, "%011" PRIo32, record->bytes);
    return memcmp(header, name, strlen(name)) == 0 &&
           memcmp(header + TAR_SIZE_OFFSET, size, strlen(size)) == 0 &&
           memcmp(header + TAR_MAGIC_OFFSET, "ustar", 5) == 0;
}

static int mismatch(const char *tar_path, const char *index_path, struct err *err)
{
    return err_set(err, ERR_INPUT, "the index '%s' does not match its tar '%s': pack again",
                   index_path, tar_path);
}

int data_shard_check_bytes(const struct data_shard *shard, const char *tar_path,
                           const char *index_path, uint64_t bytes, struct err *err)
{
    if (bytes < shard->tar_bytes)
        return err_set(err, ERR_INPUT,
                       "shard '%s' is cut short: has %" PRIu64 " of %" PRIu64 " bytes", tar_path,
                       bytes, shard->tar_bytes);
    return bytes > shard->tar_bytes ? mismatch(tar_path, index_path, err) : 0;
}

int data_shard_check_tar(const struct data_shard *shard, const char *tar_path,
                         const char *index_path, uint64_t first_sample, struct err *err)
{
    const size_t last = shard->count - 1;
    struct stat stat;
    int fd, rc = 0;

    fd = open(tar_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_set_errno(err, errno == ENOENT ? ERR_INPUT : ERR_IO, errno,
                             "cannot read shard '%s'", tar_path);
    if (fstat(fd, &stat) < 0)
        rc = err_set_errno(err, ERR_IO, errno, "cannot read shard '%s'", tar_path);
    else if (data_shard_check_bytes(shard, tar_path, index_path, (uint64_t)stat.st_size, err) < 0)
        rc = -1;
    else if (!header_matches(fd, &shard->records[0], first_sample) ||
             !header_matches(fd, &shard->records[last], first_sample + last))
        rc = mismatch(tar_path, index_path, err);
    close(fd);
    return rc;
}

bool data_shard_is_name(const char *name, const char *extension)
{
    const size_t bytes = strlen(name), begin = strlen("shard-"), end = strlen(extension);

    return bytes > begin + end && strncmp(name, "shard-", begin) == 0 &&
           strcmp(name + bytes - end, extension) == 0;
}

char *data_shard_index_path(const char *tar_path)
{
    const size_t stem = strlen(tar_path) - strlen(".tar");
    char *path = strdup(tar_path);

    if (path == NULL)
        abort();
    assert(strcmp(path + stem, ".tar") == 0);
    memcpy(path + stem, ".idx", strlen(".idx"));
    return path;
}
