/*
 * launcher/child.h -- one program started, watched and stopped by signals.
 *
 * SIGTERM, SIGHUP, SIGUSR1 and SIGINT ask the job to stop: the child gets SIGUSR1, which mpirun
 * hands on to its ranks (SIGTERM would make it kill them after a second). A rank that has not
 * installed its handler yet would die of it, so it is held until the ranks have made the file
 * `ready`. A second SIGINT means now.
 */
#ifndef LAUNCH_CHILD_H
#define LAUNCH_CHILD_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

struct launch_signals {
    sigset_t waited, before; /* what we wait for; the mask that children start with */
};

/** Block the signals above and SIGCHLD, to be waited for. One that is ignored (nohup, a shell's
 * background job) stays so. */
void launch_signals_init(struct launch_signals *signals);

/** fork and execvp with the mask from before init. The child dies with SIGTERM if we die. apart: in
 * a process group of its own and without our stdin, so that a terminal's interrupt is ours alone to
 * handle. Returns its pid, -1 with errno set. */
pid_t launch_child_start(char *const *argv, bool apart, const struct launch_signals *signals);

struct launch_watch {
    pid_t child;
    const char *ready; /* path */
    bool
        mpirun; /* the child is mpirun, which must not be killed hard: its ranks would outlive it */
};

struct launch_end {
    int status;       /* as waitpid gives it */
    bool stop_asked;  /* a signal asked for the end */
    bool stop_forced; /* and we ended it, before it was ready or on a second interrupt */
    bool interrupted; /* by a second interrupt */
};

/** Wait for the end of the child and reap it, handing on signals. */
void launch_child_watch(const struct launch_watch *watch, const struct launch_signals *signals,
                        struct launch_end *end);

/** Wait for the end of a child, signals held; its status as a shell gives it: the exit status, or
 * 128 + signal. */
int launch_child_wait(pid_t child);
int launch_child_exit_code(int status);

#endif
