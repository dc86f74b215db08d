/*
 * launcher/orted.h -- the one command that a host runs for another: Open MPI's daemon.
 *
 * Measured with Open MPI 4.1.4: mpirun calls its remote shell as
 *
 *     rsh HOST " orted" --daemonize -mca ess '"env"' -mca ess_base_jobid '"743178240"' ...
 *
 * for a shell at the other end to take the quotes off; called by its full path or with --prefix it
 * puts "PATH=/usr/bin:$PATH ; export PATH ; ... /usr/bin/orted" in front. We cut the words as a
 * shell does, expand nothing, run nothing else.
 */
#ifndef LAUNCH_ORTED_H
#define LAUNCH_ORTED_H

#include "launcher/words.h"

struct err;

/** Turn what came for a host into the words to execute there: assignments and exports in front are
 * passed over, --daemonize is left out (the daemon stays our child), plm_rsh_agent becomes `agent`,
 * a path that exists here (orted 4.1 crashes, and mpirun waits for ever, when it does not). The
 * first word becomes the orted in PATH, else the one named if that is a full path. ERR_INPUT: this
 * is not orted; ERR_IO: there is none. */
int launch_orted_words(const struct launch_words *came, const char *agent,
                       struct launch_words *words, struct err *err);

/** Find a program in PATH: its path, the caller's to free; NULL: not there. */
char *launch_orted_find(const char *name);

#endif
