/*
 * launcher/leader.h -- the host that leads a job: waits for the others, starts the ranks, watches
 * them and the hosts, starts them again, and sees to it that all hosts end alike.
 *
 *     gather  the others connect (crew.h); none: at once on
 *     run     mpirun, or the one rank, is our child
 *     over    the ranks have ended; every host ends what is left of them and says so
 *     done    every host gets exit status and reason, writes the reason down and says so
 *     leave   every host may exit: now it does no harm that the first to exit stops the others
 *
 * A lost host, an expired wait or a host that cannot take part leads to `over` at once.
 */
#ifndef LAUNCH_LEADER_H
#define LAUNCH_LEADER_H

#include "launcher/channel.h"
#include "launcher/outcome.h"

struct err;
struct launch_hosts;
struct launch_options;
struct launch_sagemaker;
struct launch_signals;

struct launch_leader_job {
    const struct launch_options *options;
    const struct launch_hosts *hosts;
    const char *program;                 /* convoy-train's path */
    const char *job;                     /* CONVOY_JOB */
    unsigned char key[LAUNCH_KEY_BYTES]; /* several hosts only */
    const struct launch_local *local;
    const struct launch_signals *signals;
    const struct launch_sagemaker *sagemaker; /* may be NULL */
};

/** Lead to the end. outcome: with a code already the job fails so, which the others are told; then
 * how it ended. -1: it could not begin, and nobody was told. */
int launch_leader_run(const struct launch_leader_job *job, struct launch_outcome *outcome,
                      struct err *err);

#endif
