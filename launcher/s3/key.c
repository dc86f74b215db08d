#include "launcher/s3/key.h"

#include <stddef.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"

/* Bytes of the UTF-8 character at `at` (RFC 3629: no surrogates, nothing longer than needed, at
 * most U+10FFFF), 0 if there is none. *code gets its number. */
static size_t character(const unsigned char *at, unsigned *code)
{
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    const size_t bytes = at[0] < 0x80           ? 1
                         : (at[0] >> 5) == 0x06 ? 2
                         : (at[0] >> 4) == 0x0e ? 3
                         : (at[0] >> 3) == 0x1e ? 4
                                                : 0;

    if (bytes < 2) {
        *code = at[0];
        return bytes;
    }
    *code = at[0] & (0x7fu >> bytes);
    for (size_t i = 1; i < bytes; i++) {
        if ((at[i] & 0xc0) != 0x80) /* a NUL ends here too */
            return 0;
        *code = *code << 6 | (at[i] & 0x3fu);
    }
    if (*code < least[bytes] || *code > 0x10ffff || (*code >= 0xd800 && *code <= 0xdfff))
        return 0;
    return bytes;
}

void launch_s3_key_show(const char *key, struct buf *out)
{
    static const char plain[] = "\\\n\r\t", letters[] = "\\nrt";
    const unsigned char *at = (const unsigned char *)key;

    while (*at != '\0') {
        unsigned code = 0;
        const size_t bytes = character(at, &code);
        const char *escape = strchr(plain, *at);

        if (escape != NULL) {
            buf_printf(out, "\\%c", letters[escape - plain]);
            at++;
        } else if (bytes > 0 && code >= 0x20 && !(code >= 0x7f && code < 0xa0)) {
            buf_append(out, at, bytes);
            at += bytes;
        } else {
            buf_printf(out, "\\x%02x", *at++);
        }
    }
}

bool launch_s3_key_is_utf8(const char *key)
{
    const unsigned char *at = (const unsigned char *)key;

    while (*at != '\0') {
        unsigned code = 0;
        const size_t bytes = character(at, &code);

        if (bytes == 0)
            return false;
        at += bytes;
    }
    return true;
}

static bool part_is(const char *part, size_t bytes, const char *text)
{
    return strlen(text) == bytes && memcmp(part, text, bytes) == 0;
}

int launch_s3_key_check_path(const char *key, const char *name, struct err *err)
{
    const char *part = name;

    for (;;) {
        const size_t bytes = strcspn(part, "/");
        const bool last = part[bytes] == '\0';

        if ((bytes == 0 && !(last && part > name)) || part_is(part, bytes, ".") ||
            part_is(part, bytes, "..")) {
            struct buf shown = {0};

            launch_s3_key_show(key, &shown);
            err_set(err, ERR_INPUT,
                    "the key '%s' names no file inside the target folder (an empty part, '.' or "
                    "'..'); copy it by itself, to a file",
                    buf_text(&shown));
            buf_release(&shown);
            return -1;
        }
        if (last)
            return 0;
        part += bytes + 1;
    }
}
