#include "s3io/sign.h"

#include <string.h>

#include "base/buf.h"

void s3_sign_encode(struct buf *out, const char *text, bool keep_slash)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

    for (; *text != '\0'; text++) {
        if (strchr(plain, *text) != NULL || (keep_slash && *text == '/'))
            buf_append(out, text, 1);
        else
            buf_printf(out, "%%%02X", (unsigned char)*text);
    }
}
