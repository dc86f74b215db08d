/* tests/weights/mangle.c -- see mangle.h. */
#include "mangle.h"

#include <string.h>

#include "base/buf.h"

uint64_t mangle_seed = 1;

/* Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8(14), 2003. */
static uint64_t random_state;

uint32_t mangle_below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 32) % n);
}

void mangle_begin(uint64_t stream)
{
    random_state = mangle_seed * 1000003 + stream;
}

void mangle_once(struct buf *file)
{
    static const unsigned char edges[] = {0, 1, 0x7f, 0x80, 0xff};
    const size_t at = mangle_below((uint32_t)file->bytes), left = file->bytes - at,
                 some = 1 + mangle_below(16), cut = some < left ? some : left;

    switch (mangle_below(6)) {
    case 0: /* one bit */
        file->data[at] ^= (unsigned char)(1 << mangle_below(8));
        break;
    case 1: /* a byte that numbers begin or end with */
        file->data[at] = edges[mangle_below(sizeof edges)];
        break;
    case 2: /* bytes lost */
        memmove(file->data + at, file->data + at + cut, left - cut);
        file->bytes -= cut;
        break;
    case 3: /* bytes twice */
        buf_append(file, "0123456789abcdef", cut);
        memmove(file->data + at + cut, file->data + at, left);
        break;
    case 4: /* bytes from elsewhere */
        memmove(file->data + at, file->data + mangle_below((uint32_t)(file->bytes - cut + 1)), cut);
        break;
    default: /* others */
        for (size_t i = 0; i < cut; i++)
            file->data[at + i] = (unsigned char)mangle_below(256);
    }
}
