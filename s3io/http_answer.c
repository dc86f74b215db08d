#include "s3io/http_answer.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "s3io/http.h"

/* The number between the first two blanks. */
static void status_take(struct s3_http_answer *answer, const char *line, size_t bytes)
{
    const char *blank = memchr(line, ' ', bytes);
    int status = 0;

    for (const char *p = blank; p != NULL && ++p < line + bytes && isdigit((unsigned char)*p);)
        status = status < 1000 ? status * 10 + (*p - '0') : status;
    answer->status = status;
    answer->headers.bytes = 0;
    answer->body.bytes = 0;
}

static void put_lower(struct buf *out, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        const char c = (char)tolower((unsigned char)text[i]);

        buf_append(out, &c, 1);
    }
}

/* CR and NUL inside a value become blanks (RFC 9110, 5.5): some values are sent back. */
static void put_value(struct buf *out, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        buf_append(out, text[i] == '\r' || text[i] == '\0' ? " " : text + i, 1);
}

static void header_take(struct s3_http_answer *answer, const char *line, const char *colon,
                        const char *end)
{
    put_lower(&answer->headers, line, (size_t)(colon - line));
    for (colon++; colon < end && (*colon == ' ' || *colon == '\t');)
        colon++;
    buf_append(&answer->headers, ": ", 2);
    put_value(&answer->headers, colon, (size_t)(end - colon));
    buf_append(&answer->headers, "\n", 1);
}

enum s3_http_line s3_http_answer_line(struct s3_http_answer *answer, const char *line, size_t bytes)
{
    const char *colon;

    if (bytes > 5 && memcmp(line, "HTTP/", 5) == 0) {
        status_take(answer, line, bytes);
        return S3_HTTP_LINE_STATUS;
    }
    while (bytes > 0 && strchr("\r\n \t", line[bytes - 1]) != NULL)
        bytes--;
    colon = memchr(line, ':', bytes);
    if (colon != NULL && colon > line)
        header_take(answer, line, colon, line + bytes);
    return bytes == 0 ? S3_HTTP_LINE_END : S3_HTTP_LINE_HEADER;
}

void s3_http_answer_release(struct s3_http_answer *answer)
{
    buf_release(&answer->headers);
    buf_release(&answer->body);
    *answer = (struct s3_http_answer){0};
}

bool s3_http_header(const struct s3_http_answer *answer, const char *name, char *value,
                    size_t bytes)
{
    const char *line = (const char *)answer->headers.data;
    const char *end = line == NULL ? NULL : line + answer->headers.bytes;
    const size_t name_bytes = strlen(name);

    while (line != end) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));

        if ((size_t)(stop - line) >= name_bytes + 2 && memcmp(line, name, name_bytes) == 0 &&
            memcmp(line + name_bytes, ": ", 2) == 0) {
            const char *from = line + name_bytes + 2;

            snprintf(value, bytes, "%.*s", (int)(stop - from), from);
            return true;
        }
        line = stop + 1;
    }
    return false;
}
