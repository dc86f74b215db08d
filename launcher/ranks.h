/*
 * launcher/ranks.h -- the ranks of a generation, as the leader has them: one child, which is mpirun
 * or the only rank, and what Open MPI's daemons and the ranks' files tell about them.
 */
#ifndef LAUNCH_RANKS_H
#define LAUNCH_RANKS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "launcher/outcome.h"

struct err;
struct launch_leader_job;
struct launch_stop;
struct launch_words;

struct launch_ranks {
    const struct launch_leader_job *job;
    int generations;                    /* started so far */
    pid_t child;                        /* 0: none, or ended */
    int status;                         /* of the child, as waitpid gives it */
    pid_t orted;                        /* the daemon that mpirun wants on this host; 0: none */
    bool ready;                         /* every rank handles SIGUSR1 */
    bool model;                         /* a stopped run has left its model, folder or S3 */
    char failure[LAUNCH_FAILURE_BYTES]; /* what the first rank to fail said; "": nothing */
    double end_s;                       /* when they were asked to end at once; 0: not */
    double orted_s;                     /* when a daemon ended; 0: none has */
    char orted_host[256];               /* whose it was */
};

/** Start a generation. ERR_IO: no process to be had. */
int launch_ranks_start(struct launch_ranks *ranks, struct err *err);

/** Start the daemon that mpirun asks for on this host. ERR_INPUT, ERR_IO (orted.h). */
int launch_ranks_start_orted(struct launch_ranks *ranks, const struct launch_words *words,
                             struct err *err);

/** End them now: orderly, so that their shared memory is removed. Once; does not wait. */
void launch_ranks_end(struct launch_ranks *ranks);

/** SIGKILL everything below this process but `keep`; once the child has ended, wait until it is
 * gone (5 s at most). */
void launch_ranks_kill(struct launch_ranks *ranks, const pid_t *keep, size_t keep_count);

/** A child of this process ended: true if it was ours. */
bool launch_ranks_reap(struct launch_ranks *ranks, pid_t child, int status);

/** A daemon ended on that host; the first one counts. */
void launch_ranks_lose_orted(struct launch_ranks *ranks, const char *host);

/** Look for what the ranks on this host tell by files: readiness, a model that is left, a
 * failure's reason. */
void launch_ranks_look(struct launch_ranks *ranks);

/** The ended generation's result, in the light of what was asked of it. Logs the signal that ended
 * a rank. */
void launch_ranks_judge(const struct launch_ranks *ranks, const struct launch_stop *stop,
                        struct launch_outcome *outcome);

#endif
