/*
 * launcher/local.h -- what every host of a job has for itself: a private folder, its ranks'
 * environment, Open MPI's daemon, what its ranks say when they fail.
 */
#ifndef LAUNCH_LOCAL_H
#define LAUNCH_LOCAL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct err;
struct launch_signals;
struct launch_words;

#define LAUNCH_FAILURE_BYTES 1025 /* what a platform shows, and the NUL */

struct launch_local {
    char *folder;  /* of ours alone (0700), below TMPDIR */
    char *ready;   /* CONVOY_READY: rank 0 makes it when every rank handles SIGUSR1 */
    char *model;   /* CONVOY_MODEL_LEFT: rank 0 makes it when a stopped run has left its model */
    char *failure; /* CONVOY_FAILURE: a failing rank writes its line there */
    char *rsh;     /* CONVOY_RSH: the leader's socket for Open MPI's remote shell (rsh.h) */
    char *program; /* our own executable */
    const struct launch_signals *signals;
};

/** Make the folder and put the variables into the environment, CONVOY_RSH apart. ERR_IO. */
int launch_local_open(struct launch_local *local, const struct launch_signals *signals,
                      struct err *err);
/** Remove the folder. Accepts all-zero. */
void launch_local_close(struct launch_local *local);

/** Set CONVOY_THREADS, OMP_NUM_THREADS (threads, else this host's usable cores / ranks) and
 * OPENBLAS_NUM_THREADS (1: its results would depend on how many). Returns the threads. */
int launch_local_set_threads(int threads, int ranks);

/** Forget what the ranks of the last generation left in the folder. */
void launch_local_clear(const struct launch_local *local);
bool launch_local_ready(const struct launch_local *local);
bool launch_local_model(const struct launch_local *local);

/** What a rank here said when it failed, one line of printable UTF-8; false: nothing. */
bool launch_local_failure(const struct launch_local *local, char text[LAUNCH_FAILURE_BYTES]);

/** Start the daemon that Open MPI asks for on this host; words as its remote shell got them
 * (orted.h). Returns its pid, -1 with err. */
pid_t launch_local_orted(const struct launch_local *local, const struct launch_words *came,
                         struct err *err);

/** Copy what fits of `from`, cut at a whole UTF-8 character. Control characters become '?', and in
 * a text that is no UTF-8 all that is not ASCII does: JSON carries nothing else. */
void launch_local_clean(char text[LAUNCH_FAILURE_BYTES], const char *from, size_t bytes);

#endif
