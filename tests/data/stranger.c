#include "stranger.h"

#include <stdio.h>
#include <string.h>

static const unsigned char magic[4] = {0x0a, 0x23, 0xd7, 0xce};

static void put_u32(struct buf *out, uint32_t value)
{
    unsigned char bytes[4];

    for (int i = 0; i < 4; i++)
        bytes[i] = (unsigned char)(value >> (8 * i));
    buf_append(out, bytes, sizeof bytes);
}

static void put_part(struct buf *out, uint32_t place, const unsigned char *data, size_t bytes)
{
    buf_append(out, magic, sizeof magic);
    put_u32(out, place << 29 | (uint32_t)bytes);
    buf_append(out, data, bytes);
    buf_append(out, "\0\0\0", (4 - bytes % 4) % 4);
}

/* dmlc-core, RecordIOWriter::WriteRecord. */
void stranger_record(struct buf *out, const void *data, size_t bytes)
{
    const unsigned char *const at = data;
    size_t begin = 0;

    for (size_t i = 0; i + 4 <= bytes; i += 4)
        if (memcmp(at + i, magic, sizeof magic) == 0) {
            put_part(out, begin == 0 ? 1 : 2, at + begin, i - begin);
            begin = i + 4;
        }
    put_part(out, begin == 0 ? 0 : 3, at + begin, bytes - begin);
}

static void put_float(struct buf *out, float value)
{
    uint32_t word;

    memcpy(&word, &value, sizeof word);
    put_u32(out, word);
}

void stranger_image(struct buf *out, const float *labels, uint32_t count, const void *picture,
                    size_t bytes)
{
    struct buf record = {0};

    put_u32(&record, count == 1 ? 0 : count);
    put_float(&record, count == 1 ? labels[0] : 0);
    for (int i = 0; i < 4; i++) /* two ids of 8 bytes */
        put_u32(&record, 7);
    for (uint32_t i = 0; count > 1 && i < count; i++)
        put_float(&record, labels[i]);
    buf_append(&record, picture, bytes);
    stranger_record(out, record.data, record.bytes);
    buf_release(&record);
}

void stranger_picture(struct buf *out, int number)
{
    out->bytes = 0;
    buf_printf(out, "\xff\xd8\xff\xe0 picture number %d", number);
    if (number % 5 == 3) { /* the magic where a record is cut at it, after 24 bytes of head */
        while (out->bytes % 4 != 0)
            buf_append(out, "-", 1);
        buf_append(out, magic, sizeof magic);
        buf_append(out, magic, sizeof magic);
    }
    for (int i = 0; i < number * 37 % 1500; i++)
        buf_append(out, "x", 1);
}

void stranger_sum(unsigned char *header)
{
    unsigned sum = 0;

    memset(header + 148, ' ', 8);
    for (int i = 0; i < 512; i++)
        sum += header[i];
    snprintf((char *)header + 148, 8, "%06o", sum);
}

void stranger_member(struct buf *tar, const char *name, const void *data, size_t bytes)
{
    unsigned char header[512] = {0};
    static const char zeros[512];

    snprintf((char *)header, 100, "%s", name);
    memcpy(header + 100, "0000644", 8);
    snprintf((char *)header + 124, 12, "%011zo", bytes);
    memcpy(header + 136, "00000000000", 12);
    header[156] = '0';
    memcpy(header + 257, "ustar\00000", 8);
    stranger_sum(header);
    buf_append(tar, header, sizeof header);
    buf_append(tar, data, bytes);
    buf_append(tar, zeros, (512 - bytes % 512) % 512);
}

void stranger_end(struct buf *tar)
{
    static const char zeros[1024];

    buf_append(tar, zeros, sizeof zeros);
}
