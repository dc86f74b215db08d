/* trainer/weights/zip_new.c -- see zip_new.h. */
#include "trainer/weights/zip_new.h"

#include <endian.h>
#include <string.h>
#include <zlib.h>

#include "base/err.h"
#include "base/file.h"

#define LOCAL_SIGNATURE     0x04034b50
#define DIRECTORY_SIGNATURE 0x02014b50
#define END_SIGNATURE       0x06054b50
#define VERSION_NEEDED      20
#define FLAG_UTF8           0x0800
#define DATE_1980           0x0021 /* the first of January */

#define ALIGN              64
#define LOCAL_BYTES        30
#define PADDING_ID         0x4246 /* "FB": the extra field that PyTorch pads with */
#define PADDING_HEAD_BYTES 4
#define ENTRIES_MAX        65535

static void put16(struct buf *out, unsigned value)
{
    const uint16_t little = htole16((uint16_t)value);

    buf_append(out, &little, sizeof little);
}

static void put32(struct buf *out, uint64_t value)
{
    const uint32_t little = htole32((uint32_t)value);

    buf_append(out, &little, sizeof little);
}

/* The fields that an entry's own header and the directory have in common. */
static void put_common(struct buf *out, uint32_t crc, size_t bytes, size_t name_bytes,
                       size_t padding)
{
    put16(out, VERSION_NEEDED);
    put16(out, FLAG_UTF8);
    put16(out, 0); /* stored */
    put16(out, 0); /* midnight */
    put16(out, DATE_1980);
    put32(out, crc);
    put32(out, bytes);
    put32(out, bytes);
    put16(out, (unsigned)name_bytes);
    put16(out, (unsigned)padding);
}

static void put_local(struct buf *out, const char *name, uint32_t crc, size_t bytes, uint64_t at)
{
    static const unsigned char zeros[ALIGN];
    const size_t name_bytes = strlen(name);
    const uint64_t begin = at + LOCAL_BYTES + name_bytes + PADDING_HEAD_BYTES;
    const size_t padding = (size_t)((ALIGN - begin % ALIGN) % ALIGN);

    put32(out, LOCAL_SIGNATURE);
    put_common(out, crc, bytes, name_bytes, PADDING_HEAD_BYTES + padding);
    buf_append(out, name, name_bytes);
    put16(out, PADDING_ID);
    put16(out, (unsigned)padding);
    buf_append(out, zeros, padding);
}

static void put_directory(struct buf *out, const char *name, uint32_t crc, size_t bytes,
                          uint64_t at)
{
    const size_t name_bytes = strlen(name);

    put32(out, DIRECTORY_SIGNATURE);
    put16(out, VERSION_NEEDED);
    put_common(out, crc, bytes, name_bytes, 0);
    put16(out, 0); /* no comment */
    put16(out, 0); /* the first disk */
    put16(out, 0); /* no attributes, of either kind */
    put32(out, 0);
    put32(out, at);
    buf_append(out, name, name_bytes);
}

static int write_all(struct zip_new *zip, const void *data, size_t bytes, struct err *err)
{
    zip->bytes += bytes;
    return file_new_write(zip->file, data, bytes, err);
}

/* Whether all of it, the directory included, stays countable in 32 bits. */
static int check_room(const struct zip_new *zip, size_t bytes, struct err *err)
{
    const uint64_t rest = 1 << 20; /* headers, names, the directory's end */

    if (zip->entries == ENTRIES_MAX || bytes > UINT32_MAX ||
        zip->bytes + bytes + zip->directory.bytes + rest > UINT32_MAX)
        return err_set(err, ERR_INPUT,
                       "'%s' would have more than 4 GiB or %d tensors, too much for this format: "
                       "safetensors holds it",
                       zip->file->path, ENTRIES_MAX);
    return 0;
}

int zip_new_put(struct zip_new *zip, const char *name, const void *data, size_t bytes,
                struct err *err)
{
    const uint32_t crc = (uint32_t)crc32_z(0, bytes > 0 ? data : (const void *)"", bytes);
    const uint64_t at = zip->bytes;
    struct buf head = {0};
    int rc = -1;

    if (check_room(zip, bytes, err) < 0)
        return -1;
    put_local(&head, name, crc, bytes, at);
    if (write_all(zip, head.data, head.bytes, err) == 0)
        rc = bytes > 0 ? write_all(zip, data, bytes, err) : 0;
    put_directory(&zip->directory, name, crc, bytes, at);
    zip->entries++;
    buf_release(&head);
    return rc;
}

int zip_new_finish(struct zip_new *zip, struct err *err)
{
    const uint64_t at = zip->bytes;
    const size_t bytes = zip->directory.bytes;

    put32(&zip->directory, END_SIGNATURE);
    put16(&zip->directory, 0); /* one disk */
    put16(&zip->directory, 0);
    put16(&zip->directory, zip->entries);
    put16(&zip->directory, zip->entries);
    put32(&zip->directory, bytes);
    put32(&zip->directory, at);
    put16(&zip->directory, 0); /* no comment */
    return write_all(zip, zip->directory.data, zip->directory.bytes, err);
}

void zip_new_release(struct zip_new *zip)
{
    buf_release(&zip->directory);
}
