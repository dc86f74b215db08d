/*
 * launcher/mpirun.h -- the line that starts the ranks, and all that we tell Open MPI.
 */
#ifndef LAUNCH_MPIRUN_H
#define LAUNCH_MPIRUN_H

#include <stdbool.h>

struct launch_words;

/** Put our settings of Open MPI into the environment, where mpirun and a rank without mpirun find
 * them. What the user has set there stays, and the words of --mpirun-args go before both. */
void launch_mpirun_settings(void);

struct launch_mpirun_line {
    int ranks;
    bool root;                       /* Open MPI wants to be told that running as root is meant */
    const struct launch_words *more; /* the user's words, before the program */
    const char *program;
    const struct launch_words *args; /* the program's */
};

/** Append "mpirun ... PROGRAM train ARGS". */
void launch_mpirun_words(const struct launch_mpirun_line *line, struct launch_words *words);

/** Whether there is an mpirun in PATH. */
bool launch_mpirun_exists(void);

#endif
