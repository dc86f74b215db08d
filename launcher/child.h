/*
 * launcher/child.h -- programs started from here, and the signals that we wait for ourselves.
 */
#ifndef LAUNCH_CHILD_H
#define LAUNCH_CHILD_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

struct err;

struct launch_signals {
    sigset_t waited, before; /* what we wait for; the mask that children start with */
};

/** Block SIGTERM, SIGHUP, SIGUSR1, SIGINT and SIGCHLD, to be waited for by signalfd. SIGHUP and
 * SIGINT stay ignored where they are (nohup, a shell's background job). Ignores SIGPIPE. */
void launch_signals_init(struct launch_signals *signals);

/** fork and execvp with the mask from before init. The child dies with SIGTERM if we die. apart: in
 * a process group of its own and without our stdin, so that a terminal's interrupt is ours alone to
 * handle. Returns its pid, -1 with errno set. */
pid_t launch_child_start(char *const *argv, bool apart, const struct launch_signals *signals);

/** The same with pipes: *in goes to its standard input, from *out come its stdout and stderr. Both
 * are the caller's to close, and do not block. In a process group of its own. */
pid_t launch_child_start_piped(char *const *argv, const struct launch_signals *signals, int *in,
                               int *out);

/** The same with its stdout alone to a pipe, without our stdin, in a process group of its own; an
 * interrupt (SIGINT) reaches it even where we ignore it. *out is the caller's to close, and does
 * not block. */
pid_t launch_child_start_captured(char *const *argv, const struct launch_signals *signals,
                                  int *out);

/** Become this program (a path) with these words behind its name. Returns only on failure: -1,
 * ERR_INTERNAL. */
int launch_child_become(const char *program, int argc, char *const *argv, struct err *err);

/** Wait for the end of a child, signals held; its status as a shell gives it: the exit status, or
 * 128 + signal. */
int launch_child_wait(pid_t child);
int launch_child_exit_code(int status);

#endif
