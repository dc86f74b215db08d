/*
 * base/log.h -- messages for people, to stderr, one line each.
 *
 * Lines look like "[3/8 node-2] warning: cannot save ...": the prefix is set once per process. Info
 * comes from one rank only (log_init's `quiet` silences the others), warnings and errors from every
 * rank. One write(2) per line, so that lines of several threads do not mix. If a progress bar
 * stands on the terminal (log_bar), it is wiped before a line and drawn again after it.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

/** Set the prefix (copied; "" or NULL for none) and whether info lines are dropped.
 * CONVOY_LOG in the environment: `debug` turns debug lines on, `warn` info lines off. Call before
 * other threads log. */
void log_init(const char *prefix, bool quiet);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** Draw `line` as the progress bar (returns to the line's start first, no newline); "" wipes it.
 *  Does nothing where stderr is no terminal and log_bar_width() is 0. At most ten draws a second
 * are shown. */
void log_bar(const char *line);

/** Columns of the terminal that log_bar draws on; 0 where there is none. The launcher hands its
 * terminal's width to its ranks in CONVOY_TERMINAL_COLUMNS, since their stderr is a pipe. */
int log_bar_width(void);

#endif
