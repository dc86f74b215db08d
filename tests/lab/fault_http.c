#include "tests/lab/fault_http.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

bool fault_side_fill(struct fault_side *side)
{
    ssize_t n;

    if (side->begin == side->end)
        side->begin = side->end = 0;
    if (side->end == sizeof side->data) {
        memmove(side->data, side->data + side->begin, side->end - side->begin);
        side->end -= side->begin;
        side->begin = 0;
    }
    if (side->end == sizeof side->data)
        return false;
    do
        n = recv(side->fd, side->data + side->end, sizeof side->data - side->end, 0);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return false;
    side->end += (size_t)n;
    return true;
}

void fault_side_close(struct fault_side *side, bool reset)
{
    const struct linger now = {.l_onoff = 1};

    if (side->fd < 0)
        return;
    if (reset)
        setsockopt(side->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(side->fd);
    side->fd = -1;
    side->begin = side->end = 0;
}

bool fault_send(int fd, const void *data, size_t bytes)
{
    const unsigned char *from = data;

    while (bytes > 0) {
        const ssize_t n = send(fd, from, bytes, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        from += n;
        bytes -= (size_t)n;
    }
    return true;
}

bool fault_head_read(struct fault_side *side, struct buf *head)
{
    for (;;) {
        const unsigned char *from = side->data + side->begin;
        const unsigned char *end = memmem(from, side->end - side->begin, "\r\n\r\n", 4);

        if (end != NULL) {
            head->bytes = 0;
            buf_append(head, from, (size_t)(end + 4 - from));
            side->begin += head->bytes;
            return true;
        }
        if (!fault_side_fill(side))
            return false;
    }
}

/* The line of a header; NULL if it is not there. */
static char *line_of(const struct buf *head, const char *name)
{
    char *text = (char *)head->data;
    const size_t bytes = strlen(name);

    if (head->bytes == 0)
        return NULL;
    for (char *line = text;
         (line = memmem(line, head->bytes - (size_t)(line - text), "\r\n", 2));) {
        line += 2;
        if (head->bytes - (size_t)(line - text) > bytes && strncasecmp(line, name, bytes) == 0 &&
            line[bytes] == ':')
            return line;
    }
    return NULL;
}

bool fault_head_value(const struct buf *head, const char *name, char *value, size_t bytes)
{
    const char *line = line_of(head, name);
    size_t n = 0;

    if (line != NULL)
        for (line += strlen(name) + 1 + strspn(line + strlen(name) + 1, " \t");
             *line != '\r' && n + 1 < bytes; line++)
            value[n++] = *line;
    value[n] = '\0';
    return line != NULL;
}

void fault_head_remove(struct buf *head, const char *name)
{
    char *line = line_of(head, name);
    char *next;

    if (line == NULL)
        return;
    next = strstr(line, "\r\n") + 2; /* a head ends with an empty line: there is one */
    memmove(line, next, head->bytes - (size_t)(next - (char *)head->data));
    head->bytes -= (size_t)(next - line);
}

int fault_head_status(const struct buf *head)
{
    const char *blank = memchr(head->data, ' ', head->bytes);

    return blank != NULL ? atoi(blank + 1) : 0;
}

void fault_body_init(struct fault_body *body, const struct buf *head, bool response)
{
    char value[64];

    *body = (struct fault_body){.framing = FAULT_BODY_LENGTH, .line_empty = true};
    if (fault_head_value(head, "transfer-encoding", value, sizeof value) &&
        strcasecmp(value, "chunked") == 0) {
        body->framing = FAULT_BODY_CHUNKED;
        return;
    }
    if (fault_head_value(head, "content-length", value, sizeof value))
        body->left = body->length = strtoull(value, NULL, 10);
    else if (response)
        body->framing = FAULT_BODY_TO_END;
    body->done = body->framing == FAULT_BODY_LENGTH && body->left == 0;
}

/* To the end of the line, if it is here. *empty stays true while nothing but CR and LF came. */
static size_t line_run(struct fault_body *body, const unsigned char *data, size_t bytes, bool *ends)
{
    size_t n = 0;

    *ends = false;
    while (n < bytes && !*ends) {
        const unsigned char c = data[n++];

        *ends = c == '\n';
        body->line_empty &= c == '\r' || c == '\n';
        body->extension |= c == ';';
        if (body->at == FAULT_BODY_SIZE_LINE && isxdigit(c) && !body->extension)
            body->left = body->left * 16 + (uint64_t)(isdigit(c) ? c - '0' : tolower(c) - 'a' + 10);
    }
    return n;
}

static size_t chunked_run(struct fault_body *body, const unsigned char *data, size_t bytes,
                          bool *is_data)
{
    size_t n;
    bool ends;

    *is_data = body->at == FAULT_BODY_DATA;
    if (*is_data) {
        n = body->left < bytes ? (size_t)body->left : bytes;
        body->left -= n;
        if (body->left == 0)
            body->at = FAULT_BODY_DATA_END;
        return n;
    }
    n = line_run(body, data, bytes, &ends);
    if (!ends)
        return n;
    if (body->at == FAULT_BODY_SIZE_LINE)
        body->at = body->left > 0 ? FAULT_BODY_DATA : FAULT_BODY_TRAILER;
    else if (body->at == FAULT_BODY_DATA_END)
        body->at = FAULT_BODY_SIZE_LINE;
    else
        body->done = body->line_empty;
    body->line_empty = true;
    body->extension = false;
    return n;
}

size_t fault_body_run(struct fault_body *body, const unsigned char *data, size_t bytes,
                      bool *is_data)
{
    size_t n = bytes;

    if (body->framing == FAULT_BODY_CHUNKED)
        return chunked_run(body, data, bytes, is_data);
    *is_data = true;
    if (body->framing == FAULT_BODY_LENGTH) {
        n = body->left < bytes ? (size_t)body->left : bytes;
        body->left -= n;
        body->done = body->left == 0;
    }
    return n;
}
