/*
 * trainer/stop.h -- being asked to stop: SIGTERM, SIGINT or SIGUSR1 at any moment.
 *
 * The handler only sets flags. Work that need not be finished (a scan, an evaluation) looks at
 * train_stop_asked; a training step is finished unless that takes too long: TRAIN_STOP_STEP_S after
 * the signal train_stop_drop is set too, and the network gives the step up at its next layer. What
 * is committed then is the last whole step.
 */
#ifndef TRAIN_STOP_H
#define TRAIN_STOP_H

#include <signal.h>

/* A step may take this long after the signal; the rest of the 10 seconds is for the save. */
#define TRAIN_STOP_STEP_S 5

extern volatile sig_atomic_t
    train_stop_asked; /* the signal's number, or SIGALRM's where time ran out; 0: go on */
extern volatile sig_atomic_t train_stop_drop; /* non-zero: do not even finish the step */

/** Install the handlers. Call first thing in main, before threads are made. */
void train_stop_init(void);

/** Ask this process to stop in so many seconds, as a signal would; 0: never. Every rank calls it,
 * so that a scan, a long step and an evaluation end as they do at a signal. */
void train_stop_after(double seconds);

#endif
