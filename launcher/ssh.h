/*
 * launcher/ssh.h -- an agent started on another host by ssh.
 *
 * `ssh HOST '/path/of/convoy' agent` reads what it has to know (the job's key, the port, the ranks'
 * environment) from its standard input, where neither `ps` nor a log shows it, and ends when that
 * is closed. What it writes to stdout and stderr comes out of our stderr.
 */
#ifndef LAUNCH_SSH_H
#define LAUNCH_SSH_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/buf.h"

struct err;
struct launch_polls;
struct launch_signals;

struct launch_ssh {
    const char *program; /* the caller's */
    pid_t child;         /* 0: not started, or ended and reaped */
    int in, out;         /* its stdin's and output's other ends; 0: closed */
    bool ended;
    int status;               /* as waitpid gives it */
    bool through;             /* its lines are shown; else they are kept: they say why it failed */
    struct buf unsent, lines; /* of the hand-over; lines not shown yet */
};

/** Start it; hand_over is one line. ERR_IO. */
int launch_ssh_start(struct launch_ssh *ssh, const char *host, const char *program,
                     const char *hand_over, const struct launch_signals *signals, struct err *err);
/** Close its standard input, which ends the agent. Accepts all-zero. */
void launch_ssh_release(struct launch_ssh *ssh);

void launch_ssh_polls(const struct launch_ssh *ssh, struct launch_polls *polls);
/** Write and read what goes at once. */
void launch_ssh_step(struct launch_ssh *ssh);
/** Why it ended: ssh's own last line, or what its status means. */
void launch_ssh_reason(struct launch_ssh *ssh, char reason[512]);

#endif
