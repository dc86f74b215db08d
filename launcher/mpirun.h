/*
 * launcher/mpirun.h -- the line that starts the ranks, and all that we tell Open MPI.
 */
#ifndef LAUNCH_MPIRUN_H
#define LAUNCH_MPIRUN_H

#include <stdbool.h>

struct err;
struct launch_words;

/** Put our settings of Open MPI into the environment, where mpirun and a rank without mpirun find
 * them. What the user has set there stays, and the words of --mpirun-args go before both. */
void launch_mpirun_settings(bool several_hosts);

/** Let the ranks and Open MPI's daemons talk by this interface ("eth0") or network ("10.0.0.0/24")
 * only, unless the user chose already. */
void launch_mpirun_network(const char *name);

struct launch_mpirun_line {
    int ranks;                        /* of each host */
    const struct launch_words *hosts; /* several; NULL: this host */
    const char *convoy;               /* our own path: Open MPI's remote shell is `convoy rsh` */
    bool root;                        /* Open MPI wants to be told that running as root is meant */
    const struct launch_words *more;  /* the user's words, before the program */
    const char *program, *verb;
    const struct launch_words *args; /* the program's, behind its verb */
};

/** Append "mpirun ... PROGRAM VERB ARGS". On several hosts ranks are numbered by host, then place;
 * every host's agent sets its ranks' environment, so none is exported. */
void launch_mpirun_words(const struct launch_mpirun_line *line, struct launch_words *words);

/** Whether there is an mpirun in PATH. */
bool launch_mpirun_exists(void);

/** Open MPI cuts its remote shell's name at blanks and colons: ERR_USAGE for a path of ours that
 * has one. */
int launch_mpirun_check_path(const char *convoy, struct err *err);

#endif
