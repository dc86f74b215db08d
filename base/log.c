#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"

#define LINE_BYTES     2048
#define BAR_BYTES      512
#define BAR_INTERVAL_S 0.1
#define BAR_WIPE       "\r\033[K" /* to the line's start; erase to its end (ECMA-48 EL) */

static char line_prefix[128];
static bool info_dropped, debug_wanted;

/* Guards what stands on the terminal: the bar's text, whether it is drawn, and the writes
 * themselves. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char bar[BAR_BYTES];
static bool bar_drawn;
static double bar_drawn_s;

void log_init(const char *prefix, bool quiet)
{
    const char *level = getenv("CONVOY_LOG");
    const bool none = prefix == NULL || prefix[0] == '\0';

    snprintf(line_prefix, sizeof line_prefix, "%s%s", none ? "" : prefix, none ? "" : " ");
    info_dropped = quiet || (level != NULL && strcmp(level, "warn") == 0);
    debug_wanted = level != NULL && strcmp(level, "debug") == 0;
}

/* stderr is all there is to complain to, so a write that fails is dropped. */
static void put(const char *data, size_t bytes)
{
    const ssize_t ignored = write(STDERR_FILENO, data, bytes);

    (void)ignored;
}

/* Wipe the bar if it stands, write the line, draw the bar anew: one write(2). */
static void put_line(const char *level, const char *fmt, va_list args)
{
    char line[LINE_BYTES], out[LINE_BYTES + BAR_BYTES + 32];
    int chars = snprintf(line, sizeof line, "%s%s", line_prefix, level);

    vsnprintf(line + chars, sizeof line - (size_t)chars, fmt, args);
    for (char *c = line; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    pthread_mutex_lock(&mutex);
    chars = snprintf(out, sizeof out, "%s%s\n%s", bar_drawn ? BAR_WIPE : "", line,
                     bar_drawn ? bar : "");
    put(out, (size_t)chars);
    pthread_mutex_unlock(&mutex);
}

void log_error(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    put_line("error: ", fmt, args);
    va_end(args);
}

void log_warn(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    put_line("warning: ", fmt, args);
    va_end(args);
}

void log_info(const char *fmt, ...)
{
    va_list args;

    if (info_dropped)
        return;
    va_start(args, fmt);
    put_line("", fmt, args);
    va_end(args);
}

void log_debug(const char *fmt, ...)
{
    va_list args;

    if (!debug_wanted)
        return;
    va_start(args, fmt);
    put_line("debug: ", fmt, args);
    va_end(args);
}

int log_bar_width(void)
{
    const char *columns = getenv("CONVOY_TERMINAL_COLUMNS");
    struct winsize size;
    long width;

    if (isatty(STDERR_FILENO) && ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0)
        return size.ws_col > 0 ? size.ws_col : 80;
    width = columns == NULL ? 0 : strtol(columns, NULL, 10);
    return width > 0 && width < 10000 ? (int)width : 0;
}

/* Bytes of the text that fill at most `columns` places; a UTF-8 character counts as one and stays
 * whole. */
static size_t fitting_bytes(const char *text, int columns)
{
    size_t n = 0;

    for (; text[n] != '\0' && n < BAR_BYTES - 4; n++) {
        if (((unsigned char)text[n] & 0xc0) != 0x80 && columns-- == 0)
            break;
    }
    return n;
}

void log_bar(const char *line)
{
    const int width = log_bar_width();
    const double now_s = clock_now_s();
    char out[BAR_BYTES + 32];
    int chars;

    if (width == 0)
        return;
    pthread_mutex_lock(&mutex);
    /* The last column stays free: writing into it makes some terminals wrap. */
    snprintf(bar, sizeof bar, "%.*s", (int)fitting_bytes(line, width - 1), line);
    if (line[0] == '\0') {
        if (bar_drawn)
            put(BAR_WIPE, strlen(BAR_WIPE));
        bar_drawn = false;
    } else if (!bar_drawn || now_s - bar_drawn_s >= BAR_INTERVAL_S) {
        chars = snprintf(out, sizeof out, BAR_WIPE "%s", bar);
        put(out, (size_t)chars);
        bar_drawn = true;
        bar_drawn_s = now_s;
    }
    pthread_mutex_unlock(&mutex);
}
