#include "base/uri.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/text.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool uri_decode(char *text)
{
    char *to = text;

    for (const char *from = text; *from != '\0'; from++) {
        int high, low;

        if (*from != '%') {
            *to++ = *from;
            continue;
        }
        high = hex_digit(from[1]);
        low = high < 0 ? -1 : hex_digit(from[2]);
        if (low < 0 || high * 16 + low == 0)
            return false;
        *to++ = (char)(high * 16 + low);
        from += 2;
    }
    *to = '\0';
    return true;
}

/* Length of "SCHEME" if the text starts as "SCHEME://" (RFC 3986 section 3.1), else 0. */
static size_t scheme_bytes(const char *text)
{
    size_t n = 0;

    if (!isalpha((unsigned char)text[0]))
        return 0;
    while (isalnum((unsigned char)text[n]) || strchr("+-.", text[n]) != NULL) {
        if (text[n] == '\0')
            return 0;
        n++;
    }
    return strncmp(text + n, "://", 3) == 0 ? n : 0;
}

static int parse_file(struct uri *uri, const char *text, const char *rest, struct err *err)
{
    char *path;

    if (rest[0] != '/')
        return err_set(err, ERR_USAGE,
                       "'%s' names a host; a file is written file:///PATH, with three slashes",
                       text);
    path = text_copy(rest);
    if (!uri_decode(path)) {
        free(path);
        return err_set(err, ERR_USAGE, "'%s' has a broken percent-escape", text);
    }
    *uri = (struct uri){.scheme = URI_FILE, .path = path};
    return 0;
}

static int parse_s3(struct uri *uri, const char *text, const char *rest, struct err *err)
{
    const size_t bucket_bytes = strcspn(rest, "/");
    const char *key = rest + bucket_bytes;

    if (bucket_bytes == 0)
        return err_set(err, ERR_USAGE, "'%s' has no bucket; write s3://BUCKET/KEY", text);
    if (*key == '/')
        key++;
    *uri = (struct uri){
        .scheme = URI_S3, .bucket = text_copy_bytes(rest, bucket_bytes), .path = text_copy(key)};
    return 0;
}

int uri_parse(struct uri *uri, const char *text, struct err *err)
{
    const size_t n = scheme_bytes(text);
    const char *rest = text + n + 3;

    if (text[0] == '\0')
        return err_set(err, ERR_USAGE, "an empty text is no path and no URI");
    if (n == 0) {
        *uri = (struct uri){.scheme = URI_FILE, .path = text_copy(text)};
        return 0;
    }
    if (n == 4 && strncasecmp(text, "file", 4) == 0)
        return parse_file(uri, text, rest, err);
    if (n == 2 && strncasecmp(text, "s3", 2) == 0)
        return parse_s3(uri, text, rest, err);
    return err_set(err, ERR_USAGE, "'%s' is neither a path nor a file:// or s3:// URI", text);
}

void uri_release(struct uri *uri)
{
    if (uri == NULL)
        return;
    free(uri->bucket);
    free(uri->path);
    *uri = (struct uri){0};
}

char *uri_join(const char *base, const char *name)
{
    size_t base_bytes = strlen(base);
    char *out;

    while (base_bytes > 0 && base[base_bytes - 1] == '/')
        base_bytes--;
    while (*name == '/')
        name++;
    /* An empty base is the current folder, not the root. */
    if (base[0] == '\0')
        return text_copy(name);
    if (asprintf(&out, "%.*s/%s", (int)base_bytes, base, name) < 0)
        abort();
    return out;
}
