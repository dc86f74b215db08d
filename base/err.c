#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A file name may hold a newline or an escape sequence; the line must stay one line and harmless on
 * a terminal. Bytes from 0x80 on are left alone: they are UTF-8. */
static void line_clean(char *line)
{
    for (; *line != '\0'; line++)
        if ((unsigned char)*line < 0x20 || *line == 0x7f)
            *line = '?';
}

/* The text is composed beside err, since an argument may be err->msg itself. */
static int line_set(struct err *err, enum err_code code, const char *text, const char *behind)
{
    char line[sizeof err->msg];

    if (err == NULL)
        return -1;
    if (behind == NULL)
        snprintf(line, sizeof line, "%s", text);
    else
        snprintf(line, sizeof line, "%s: %s", text, behind);
    line_clean(line);
    memcpy(err->msg, line, sizeof line);
    err->code = code;
    return -1;
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    char text[sizeof err->msg];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return line_set(err, code, text, NULL);
}

int err_set_errno(struct err *err, enum err_code code, int errno_value, const char *fmt, ...)
{
    char text[sizeof err->msg], reason[128];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return line_set(err, code, text, strerror_r(errno_value, reason, sizeof reason));
}

int err_wrap(struct err *err, const char *fmt, ...)
{
    char text[sizeof err->msg];
    va_list args;

    if (err == NULL)
        return -1;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return line_set(err, err->code, text, err->msg);
}

int err_exit_code(enum err_code code)
{
    switch (code) {
    case ERR_NONE:
        return 0;
    case ERR_USAGE:
    case ERR_INPUT:
        return 2;
    case ERR_NET:
    case ERR_PEER:
        return 3;
    case ERR_STOPPED:
        return 75;
    case ERR_INTERNAL:
    case ERR_IO:
    case ERR_MEMORY:
        break;
    }
    return 1;
}
