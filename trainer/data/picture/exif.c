#include "trainer/data/picture/exif.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define TAG_ORIENTATION 0x0112
#define TYPE_SHORT      3
#define ENTRY_BYTES     12

/* A TIFF file's numbers are in either order of bytes. */
struct tiff {
    const unsigned char *data;
    size_t bytes;
    bool big;
};

/* Places are checked by the caller. */
static uint32_t tiff_u16(const struct tiff *tiff, size_t at)
{
    const unsigned char *const p = tiff->data + at;

    return tiff->big ? (uint32_t)(p[0] << 8 | p[1]) : (uint32_t)(p[1] << 8 | p[0]);
}

static uint32_t tiff_u32(const struct tiff *tiff, size_t at)
{
    const uint32_t first = tiff_u16(tiff, at), second = tiff_u16(tiff, at + 2);

    return tiff->big ? first << 16 | second : second << 16 | first;
}

static int tiff_orientation(struct tiff *tiff)
{
    size_t at, entries;
    uint32_t value;

    if (tiff->bytes < 8 ||
        (memcmp(tiff->data, "II*\0", 4) != 0 && memcmp(tiff->data, "MM\0*", 4) != 0))
        return 1;
    tiff->big = tiff->data[0] == 'M';
    at = tiff_u32(tiff, 4);
    if (at > tiff->bytes - 2)
        return 1;
    entries = tiff_u16(tiff, at);
    for (at += 2; entries > 0 && at + ENTRY_BYTES <= tiff->bytes; entries--, at += ENTRY_BYTES) {
        if (tiff_u16(tiff, at) != TAG_ORIENTATION || tiff_u16(tiff, at + 2) != TYPE_SHORT)
            continue;
        value = tiff_u16(tiff, at + 8);
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

int data_exif_orientation(const unsigned char *jpeg, size_t bytes)
{
    static const unsigned char mark[6] = "Exif\0";
    size_t at = 2, length;

    while (at + 4 <= bytes && jpeg[at] == 0xff) {
        const unsigned char marker = jpeg[at + 1];

        if (marker == 0xff) { /* a byte to fill up */
            at++;
            continue;
        }
        length = (size_t)(jpeg[at + 2] << 8 | jpeg[at + 3]); /* of itself and what follows */
        if (marker < 0xc0 || (marker >= 0xd0 && marker <= 0xda) || length < 2)
            break; /* from here on there are no segments, but the picture's data or damage */
        if (length > bytes - at - 2)
            length = bytes - at - 2;
        if (marker == 0xe1 && length >= 2 + sizeof mark &&
            memcmp(jpeg + at + 4, mark, sizeof mark) == 0)
            return tiff_orientation(&(struct tiff){.data = jpeg + at + 4 + sizeof mark,
                                                   .bytes = length - 2 - sizeof mark});
        at += 2 + length;
    }
    return 1;
}
