/*
 * base/err.h -- what went wrong: a code to act on and a line to read.
 *
 * A function that can fail returns 0 or -1 and takes a struct err last. The place that finds out
 * sets the reason; a caller that knows more wraps it once; only main prints.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

enum err_code {
    ERR_NONE = 0,
    ERR_INTERNAL, /* our own mistake, or a library's refusal that no user can mend */
    ERR_USAGE,    /* an option or hyperparameter: unknown, malformed, out of range, contradictory */
    ERR_INPUT,    /* data, checkpoint or model that is missing, damaged or of another kind */
    ERR_IO,       /* a local file or folder: no permission, disk full, ... */
    ERR_MEMORY,   /* a large allocation sized by the user's settings failed */
    ERR_NET,      /* a request over the network that may be tried again */
    ERR_PEER,     /* another rank or host is gone or disagrees */
    ERR_STOPPED,  /* asked to stop (a signal): not a failure */
};

struct err {
    enum err_code code;
    char msg[1024]; /* one line: "cannot do A: cannot do B: reason" */
};

/** Set code and line (printf's format; cut at the end, never overflowing; control characters become
 * '?'). err may be NULL. Returns -1. */
int err_set(struct err *err, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/** As err_set, and puts ": " and strerror(errno_value) behind. Returns -1. */
int err_set_errno(struct err *err, enum err_code code, int errno_value, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/** Put "fmt: " in front of the line and keep the code. Returns -1. */
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** The exit status for a code: 2 for usage and input, 3 for net and peer, 75 for stopped, else 1; 0
 * for none. */
int err_exit_code(enum err_code code);

#endif
