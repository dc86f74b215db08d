#include "trainer/data/foreign/recordio.h"

#include <math.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "trainer/data/foreign/bytes.h"
#include "trainer/data/index/numbers.h"

enum { PART_WHOLE, PART_FIRST, PART_MIDDLE, PART_LAST };

#define PART_BYTES_MASK 0x1fffffffu

static const unsigned char magic[4] = {0x0a, 0x23, 0xd7, 0xce}; /* DATA_RECORD_MAGIC */

static uint32_t get_u32(const unsigned char *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static size_t padded(size_t bytes)
{
    return (bytes + 3) & ~(size_t)3;
}

struct part {
    uint32_t place;
    size_t bytes;
};

static bool read_part(const unsigned char *head, struct part *part)
{
    const uint32_t word = get_u32(head + 4);

    *part = (struct part){.place = word >> 29, .bytes = word & PART_BYTES_MASK};
    return get_u32(head) == DATA_RECORD_MAGIC && part->place <= PART_LAST;
}

/* Whether a part may come where the record has begun, or not. */
static bool follows(const struct part *part, bool begun)
{
    return begun == (part->place == PART_MIDDLE || part->place == PART_LAST);
}

static bool ends(const struct part *part)
{
    return part->place == PART_WHOLE || part->place == PART_LAST;
}

/* The next part's head: 1, or 0 at the end, which may come between records only. */
static int next_part(struct data_bytes *bytes, uint64_t at, bool begun, struct part *part,
                     struct err *err)
{
    unsigned char head[DATA_RECORD_HEAD_BYTES];
    const ssize_t got = data_bytes_get(bytes, at, head, sizeof head, err);

    if (got < 0 || (got == 0 && !begun))
        return (int)got;
    if ((size_t)got < sizeof head)
        return data_bytes_refuse(bytes, at, err, "RecordIO ends within a record");
    if (!read_part(head, part))
        return data_bytes_refuse(bytes, at, err,
                                 "no record of RecordIO begins here: its magic is missing");
    if (!follows(part, begun))
        return data_bytes_refuse(bytes, at, err, "a part of a record is out of its order");
    return 1;
}

static int too_long(const struct data_bytes *bytes, uint64_t at, struct err *err)
{
    return data_bytes_refuse(bytes, at, err, "a record of more than %zu MiB",
                             DATA_RECORD_BYTES_MAX >> 20);
}

/* Grow the buffer as the bytes come: a length that somebody made up costs no memory. */
static int read_content(struct data_bytes *bytes, uint64_t at, struct buf *record, size_t count,
                        struct err *err)
{
    for (size_t have = 0; have < count;) {
        const size_t left = count - have,
                     some = left < DATA_BYTES_WINDOW ? left : DATA_BYTES_WINDOW;

        if (buf_reserve(record, some, err) < 0 ||
            data_bytes_need(bytes, at + have, record->data + record->bytes, some, err) < 0)
            return -1;
        record->bytes += some;
        have += some;
    }
    return 0;
}

bool data_record_begins(const void *data, size_t bytes)
{
    return bytes >= sizeof magic && memcmp(data, magic, sizeof magic) == 0;
}

int data_record_next(struct data_bytes *bytes, uint64_t *at, struct buf *record, struct err *err)
{
    struct part part = {0};
    bool begun = false;

    record->bytes = 0;
    do {
        const int rc = next_part(bytes, *at, begun, &part, err);

        if (rc <= 0)
            return rc;
        if (part.bytes + 4 > DATA_RECORD_BYTES_MAX - record->bytes)
            return too_long(bytes, *at, err);
        if (begun) /* where it was cut the magic stood */
            buf_append(record, magic, sizeof magic);
        *at += DATA_RECORD_HEAD_BYTES;
        if (read_content(bytes, *at, record, padded(part.bytes), err) < 0)
            return -1;
        record->bytes -= padded(part.bytes) - part.bytes;
        *at += padded(part.bytes);
        begun = true;
    } while (!ends(&part));
    return 1;
}

int data_record_look(struct data_bytes *bytes, uint64_t *at, struct data_record *record,
                     struct err *err)
{
    struct part part = {0};
    bool begun = false;

    *record = (struct data_record){.at = *at};
    do {
        const int rc = next_part(bytes, *at, begun, &part, err);
        const size_t wanted = begun ? 0 : sizeof record->head;

        if (rc <= 0)
            return rc;
        if (part.bytes + 4 > DATA_RECORD_BYTES_MAX - record->bytes)
            return too_long(bytes, *at, err);
        *at += DATA_RECORD_HEAD_BYTES;
        if (!bytes->stream && (*at > bytes->total || padded(part.bytes) > bytes->total - *at))
            return data_bytes_refuse(bytes, *at, err, "RecordIO ends within a record");
        if (wanted > 0) {
            record->head_bytes = part.bytes < wanted ? part.bytes : wanted;
            if (data_bytes_need(bytes, *at, record->head, record->head_bytes, err) < 0)
                return -1;
        }
        record->bytes += part.bytes + (begun ? 4 : 0);
        *at += padded(part.bytes);
        begun = true;
    } while (!ends(&part));
    record->raw_bytes = *at - record->at;
    return 1;
}

int64_t data_record_join(unsigned char *raw, size_t raw_bytes)
{
    size_t at = 0, joined = 0;
    struct part part = {0};

    do {
        if (raw_bytes - at < DATA_RECORD_HEAD_BYTES || !read_part(raw + at, &part) ||
            !follows(&part, at > 0) || padded(part.bytes) > raw_bytes - at - DATA_RECORD_HEAD_BYTES)
            return -1;
        if (at > 0) { /* what is joined ends before this part's head does */
            memmove(raw + joined, raw + at, 4);
            joined += 4;
        }
        memmove(raw + joined, raw + at + DATA_RECORD_HEAD_BYTES, part.bytes);
        joined += part.bytes;
        at += DATA_RECORD_HEAD_BYTES + padded(part.bytes);
    } while (!ends(&part));
    return at == raw_bytes ? (int64_t)joined : -1;
}

static float get_float(const unsigned char *bytes)
{
    const uint32_t word = get_u32(bytes);
    float value;

    memcpy(&value, &word, sizeof value);
    return value;
}

const char *data_record_image(const unsigned char *head, size_t head_bytes, uint64_t bytes,
                              int32_t *label, size_t *picture)
{
    uint32_t flag;
    float value;

    if (head_bytes < DATA_IMAGE_HEAD_BYTES)
        return "a record that is too short for a picture with a label";
    flag = get_u32(head);
    if (flag > 1)
        return "a picture with several labels, or no image record: one label each is needed";
    if (flag == 1 && head_bytes < DATA_IMAGE_HEAD_BYTES + 4)
        return "a record that is too short for a picture with a label";
    value = get_float(head + (flag == 1 ? DATA_IMAGE_HEAD_BYTES : 4));
    if (!(value >= 0) || value > DATA_LABEL_MAX || truncf(value) != value)
        return "a label that is no whole number from 0 to 999999";
    *picture = DATA_IMAGE_HEAD_BYTES + 4 * (size_t)flag;
    if (bytes <= *picture)
        return "a record without a picture";
    *label = (int32_t)value;
    return NULL;
}
