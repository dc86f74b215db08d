/*
 * s3io/process.h -- keys from a program of the user's: a profile's credential_process.
 *
 * The command line is cut into words as Python's shlex.split does it, which botocore uses: no
 * shell, so neither '~' nor '$' mean anything. The program runs in a session of its own, with
 * nothing on its standard input and no terminal to ask at; what it writes must be a JSON object
 * (keys.h), and its standard error goes nowhere, since it may have keys in it. Source: AWS SDKs and
 * Tools Reference Guide, "Process credential provider".
 */
#ifndef S3IO_PROCESS_H
#define S3IO_PROCESS_H

#include <signal.h>

struct err;
struct s3_keys;

#define S3_PROCESS_LIMIT_S 60.0

struct s3_process {
    const char *command;
    double limit_s;                      /* after which it is ended by SIGKILL */
    const volatile sig_atomic_t *cancel; /* the same, with ERR_STOPPED; may be NULL */
};

/** Run it and take its keys. Blocks. ERR_INPUT: it cannot be started, its exit status is not 0
 * or what it wrote is wrong; ERR_NET: it took longer than limit_s. */
int s3_process_fetch(const struct s3_process *process, struct s3_keys *keys, struct err *err);

/** The words of a command line, NULL behind the last one; the caller's to free by
 * s3_process_words_free. NULL with err (ERR_INPUT): a quote or backslash at the end, or no word. */
char **s3_process_words(const char *command, struct err *err);
void s3_process_words_free(char **words);

#endif
