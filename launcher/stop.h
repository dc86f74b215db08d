/*
 * launcher/stop.h -- what the signals that ask a job to end add up to.
 *
 * SIGTERM, SIGHUP, SIGUSR1 and SIGINT ask for the end after the last whole step: the ranks get
 * SIGUSR1, which mpirun hands on (SIGTERM would make it kill them after a second). A rank that has
 * not installed its handler yet would die of it, so it is held until they are ready. A second
 * SIGINT means now. With a limit (SageMaker: 120 s from SIGTERM to SIGKILL) the end is forced in
 * time.
 */
#ifndef LAUNCH_STOP_H
#define LAUNCH_STOP_H

#include <stdbool.h>

/* Ranks that are not up this long after a stop was asked for have trained nothing that ending them
 * could lose. */
#define LAUNCH_STOP_READY_S       10.0
#define LAUNCH_STOP_READY_HOSTS_S 30.0 /* several hosts take longer to start */
#define LAUNCH_STOP_LIMIT_S       105.0

enum launch_stop_action {
    LAUNCH_STOP_NOTHING,
    LAUNCH_STOP_ASK,  /* send SIGUSR1 */
    LAUNCH_STOP_END,  /* end the ranks now, orderly (mpirun: SIGTERM) */
    LAUNCH_STOP_KILL, /* and now by force */
};

struct launch_stop {
    double ready_s, limit_s; /* how long to hold; how long in all, 0: for ever */
    bool asked;              /* a signal asked for the end */
    bool forced;             /* and the ranks were ended before they did so themselves */
    bool interrupted;        /* by a second interrupt */
    bool held;               /* asked, not handed on yet */
    int interrupts, interrupts_done;
    double asked_s;
    bool killed;
};

/** A signal came at now_s. from: the host it came to, NULL: this one. Logs the first. */
void launch_stop_take(struct launch_stop *stop, int number, const char *from, double now_s);

/** What to do now; ready: the ranks handle SIGUSR1. Call again whenever something came, and every
 * tenth of a second while asked. Each action is told once. */
enum launch_stop_action launch_stop_next(struct launch_stop *stop, bool ready, double now_s);

#endif
