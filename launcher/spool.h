/*
 * launcher/spool.h -- channels in Pipe mode: before there are ranks, each host puts its streams
 * into shards on its own disk, all channels at once, each by a process `convoy-train spool FIFO
 * FOLDER` (trainer/data/spool.h). Then they are folders like any other.
 */
#ifndef LAUNCH_SPOOL_H
#define LAUNCH_SPOOL_H

struct err;
struct launch_signals;
struct launch_words;

/** Read the channels to their ends. Blocks; a signal that asks for the end ends them. *status is 0,
 * or that of the first that failed, the others being ended then: its process has said why. */
int launch_spool_run(const struct launch_words *pipes, const char *program,
                     const struct launch_signals *signals, int *status, struct err *err);

#endif
