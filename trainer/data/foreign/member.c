#include "trainer/data/foreign/member.h"

#include <stddef.h>
#include <string.h>

#include "trainer/data/foreign/bytes.h"
#include "trainer/data/index/shard.h"

/* The places of a header's fields. */
enum {
    NAME_AT = 0,
    NAME_BYTES = 100,
    SIZE_AT = 124,
    SIZE_BYTES = 12,
    SUM_AT = 148,
    SUM_BYTES = 8,
    KIND_AT = 156,
    MAGIC_AT = 257,
    PREFIX_AT = 345,
    PREFIX_BYTES = 155,
};

/* What may stand in the headers before a member's own: longer is no name of a picture. */
#define EXTRA_BYTES_MAX  65536
#define MEMBER_BYTES_MAX ((uint64_t)1 << 40)

struct extra {
    bool named, sized;
    char name[DATA_MEMBER_NAME_MAX + 1];
    uint64_t bytes;
};

static bool is_zero(const unsigned char *block)
{
    for (int i = 0; i < TAR_BLOCK; i++)
        if (block[i] != 0)
            return false;
    return true;
}

/* Octal digits, spaces or NULs around them. */
static bool read_octal(const unsigned char *field, int bytes, uint64_t *value)
{
    int i = 0, digits = 0;

    *value = 0;
    while (i < bytes && field[i] == ' ')
        i++;
    for (; i < bytes && field[i] >= '0' && field[i] <= '7'; i++, digits++) {
        if (*value > UINT64_MAX >> 3)
            return false;
        *value = *value << 3 | (uint64_t)(field[i] - '0');
    }
    for (; i < bytes; i++)
        if (field[i] != ' ' && field[i] != '\0')
            return false;
    return digits > 0;
}

/* GNU: the top bit of the first byte, and then a number of base 256. */
static bool read_size(const unsigned char *header, uint64_t *value)
{
    const unsigned char *field = header + SIZE_AT;

    if (field[0] != 0x80)
        return read_octal(field, SIZE_BYTES, value);
    *value = 0;
    for (int i = 1; i < SIZE_BYTES; i++) {
        if (*value > UINT64_MAX >> 8)
            return false;
        *value = *value << 8 | field[i];
    }
    return true;
}

/* The sum of all bytes, the sum's own as spaces. */
static bool sum_matches(const unsigned char *header)
{
    uint64_t written, sum = 0;

    if (!read_octal(header + SUM_AT, SUM_BYTES, &written))
        return false;
    for (int i = 0; i < TAR_BLOCK; i++)
        sum += i >= SUM_AT && i < SUM_AT + SUM_BYTES ? ' ' : header[i];
    return sum == written;
}

static void read_name(const unsigned char *header, char *name)
{
    const bool prefixed = memcmp(header + MAGIC_AT, "ustar\0", 6) == 0;
    size_t bytes = 0;

    if (prefixed && header[PREFIX_AT] != '\0') {
        bytes = strnlen((const char *)header + PREFIX_AT, PREFIX_BYTES);
        memcpy(name, header + PREFIX_AT, bytes);
        name[bytes++] = '/';
    }
    memcpy(name + bytes, header + NAME_AT, NAME_BYTES);
    name[bytes + strnlen((const char *)header + NAME_AT, NAME_BYTES)] = '\0';
}

static bool set_name(struct extra *extra, const char *name, size_t bytes)
{
    if (bytes == 0 || bytes > DATA_MEMBER_NAME_MAX || memchr(name, '\0', bytes) != NULL)
        return false;
    memcpy(extra->name, name, bytes);
    extra->name[bytes] = '\0';
    extra->named = true;
    return true;
}

/* A number in decimal digits that ends at `end`. */
static bool read_decimal(const char *text, const char *end, uint64_t *value)
{
    *value = 0;
    if (text == end)
        return false;
    for (; text < end; text++) {
        if (*text < '0' || *text > '9' || *value > (UINT64_MAX - 9) / 10)
            return false;
        *value = *value * 10 + (uint64_t)(*text - '0');
    }
    return true;
}

/* "LENGTH KEY=VALUE\n", its own length in decimal before a space: the whole record's. */
static bool read_pax(struct extra *extra, const char *text, size_t bytes)
{
    while (bytes > 0) {
        const char *const space = memchr(text, ' ', bytes), *equals, *end;
        uint64_t length;

        if (space == NULL || !read_decimal(text, space, &length) ||
            length < (uint64_t)(space - text) + 3 || length > bytes || text[length - 1] != '\n')
            return false;
        end = text + length - 1;
        equals = memchr(space + 1, '=', (size_t)(end - space - 1));
        if (equals == NULL)
            return false;
        if (equals - space - 1 == 4 && memcmp(space + 1, "path", 4) == 0 &&
            !set_name(extra, equals + 1, (size_t)(end - equals - 1)))
            return false;
        if (equals - space - 1 == 4 && memcmp(space + 1, "size", 4) == 0) {
            if (!read_decimal(equals + 1, end, &extra->bytes))
                return false;
            extra->sized = true;
        }
        text += length;
        bytes -= length;
    }
    return true;
}

/* What a header of kind x or L says of the member behind it. */
static int read_extra(struct data_bytes *bytes, const unsigned char *header,
                      const struct data_member *at, struct extra *extra, struct err *err)
{
    char content[EXTRA_BYTES_MAX];
    bool right;

    if (at->bytes > sizeof content)
        return data_bytes_refuse(bytes, at->header, err,
                                 "a header of %llu bytes before a member; at most %d are read",
                                 (unsigned long long)at->bytes, EXTRA_BYTES_MAX);
    if (data_bytes_need(bytes, at->offset, content, (size_t)at->bytes, err) < 0)
        return -1;
    if (header[KIND_AT] == 'L')
        right = set_name(extra, content, strnlen(content, (size_t)at->bytes));
    else
        right = read_pax(extra, content, (size_t)at->bytes);
    return right ? 0
                 : data_bytes_refuse(bytes, at->header, err,
                                     "the header before a member makes no sense, or its name is "
                                     "longer than %d bytes",
                                     DATA_MEMBER_NAME_MAX);
}

/* A header's block: 1, or 0 at the end, which a block of zeros marks: without one the tar was cut
 * off, or its writer died. */
static int read_header(struct data_bytes *bytes, uint64_t *at, bool joined, unsigned char *header,
                       struct err *err)
{
    bool marked = false;

    for (;;) {
        const ssize_t got = data_bytes_get(bytes, *at, header, TAR_BLOCK, err);

        if (got < 0)
            return -1;
        if (got == 0 && marked)
            return 0;
        if (got < TAR_BLOCK)
            return data_bytes_refuse(bytes, *at, err,
                                     "the tar ends here without its end mark: it was cut off");
        if (!is_zero(header))
            break;
        if (!joined)
            return 0;
        marked = true;
        *at += TAR_BLOCK;
    }
    if (!sum_matches(header))
        return data_bytes_refuse(bytes, *at, err, "this is no header of a tar: its sum is wrong");
    return 1;
}

/* The header's own words, and where the next header lies. */
static int read_member(struct data_bytes *bytes, uint64_t *at, const unsigned char *header,
                       const struct extra *extra, struct data_member *member, struct err *err)
{
    member->header = *at;
    member->offset = *at + TAR_BLOCK;
    if (!read_size(header, &member->bytes))
        return data_bytes_refuse(bytes, *at, err, "the header has no length that makes sense");
    if (extra->sized)
        member->bytes = extra->bytes;
    switch (header[KIND_AT]) { /* links and devices have no content, whatever length they name */
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
        member->bytes = 0;
        break;
    default:
        break;
    }
    if (member->bytes > MEMBER_BYTES_MAX ||
        (!bytes->stream &&
         (member->offset > bytes->total || member->bytes > bytes->total - member->offset)))
        return data_bytes_refuse(bytes, *at, err,
                                 "the tar ends before the %llu bytes of this member do",
                                 (unsigned long long)member->bytes);
    if (extra->named)
        memcpy(member->name, extra->name, sizeof member->name);
    else
        read_name(header, member->name);
    *at = member->offset + (member->bytes + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    return 0;
}

int data_member_next(struct data_bytes *bytes, uint64_t *at, bool joined,
                     struct data_member *member, struct err *err)
{
    struct extra extra = {0};

    for (;;) {
        const struct extra none = {0};
        unsigned char header[TAR_BLOCK];
        const int rc = read_header(bytes, at, joined, header, err);
        char kind;

        if (rc < 0)
            return -1;
        if (rc == 0)
            return !extra.named && !extra.sized
                       ? 0
                       : data_bytes_refuse(bytes, *at, err, "the tar ends before a member does");
        kind = (char)header[KIND_AT];
        if (read_member(bytes, at, header,
                        kind == 'x' || kind == 'g' || kind == 'L' || kind == 'K' ? &none : &extra,
                        member, err) < 0)
            return -1;
        if (kind == 'g' || kind == 'K') /* nothing in them is about the member's content */
            continue;
        if (kind == 'x' || kind == 'L') {
            if (read_extra(bytes, header, member, &extra, err) < 0)
                return -1;
            continue;
        }
        if (kind == 'S')
            return data_bytes_refuse(bytes, member->header, err,
                                     "a sparse member, which is not read: pack the tar anew");
        member->file = kind == '0' || kind == '\0' || kind == '7';
        return 1;
    }
}
