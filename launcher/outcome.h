/*
 * launcher/outcome.h -- how a job ended: one exit status and one reason for all of its hosts.
 */
#ifndef LAUNCH_OUTCOME_H
#define LAUNCH_OUTCOME_H

#include <stdbool.h>

#include "launcher/local.h"

#define LAUNCH_EXIT_PEER    3
#define LAUNCH_EXIT_STOPPED 75

struct launch_outcome {
    int code;
    char failure[LAUNCH_FAILURE_BYTES]; /* clean text (local.h); "": none */
};

/** Set both (printf's format), unless there is a code already: the first reason counts. */
void launch_outcome_set(struct launch_outcome *outcome, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/** The status of several hosts' mpirun as ours. spoken: a rank said why it failed. Codes that Open
 * MPI makes up when it cannot start or loses a daemon (17, 205, 213; 1, unless a rank gave a
 * reason) become LAUNCH_EXIT_PEER, and the log has the original. */
int launch_outcome_code(int mpirun_code, bool spoken);

/** How a process ended: "died by signal 9 (Killed), as the kernel does when memory runs out",
 * "ended with status 4". Returns text. */
#define LAUNCH_OUTCOME_END_BYTES 128
const char *launch_outcome_end(int code, char text[LAUNCH_OUTCOME_END_BYTES]);

/** What an exit status means, for a failure that nobody explained. */
void launch_outcome_describe(struct launch_outcome *outcome);

#endif
