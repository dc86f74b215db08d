/*
 * launcher/spool.h -- channels in Pipe mode: before there are ranks, each host puts its streams
 * into shards on its own disk, all channels at once, each by a process `convoy-train spool FIFO
 * FOLDER` (trainer/data/pack/spool.h). Then they are folders like any other.
 */
#ifndef LAUNCH_SPOOL_H
#define LAUNCH_SPOOL_H

#include <stddef.h>

struct err;
struct launch_outcome;
struct launch_signals;
struct launch_words;

#define LAUNCH_SPOOL_END_S 30.0

/**
 * Read the channels to their ends. Blocks.
 *
 * outcome  stays as it is where all are read. Else it says what came first: a channel that could
 *          not be read, with the status of its process, which has said why unless it was killed
 *          (that is logged); or a signal that asks for the end: LAUNCH_EXIT_STOPPED, whatever the
 *          processes make of it, or 130 at a second SIGINT. Either ends the other processes: after
 *          LAUNCH_SPOOL_END_S, or at the second SIGINT, by force.
 *
 * The first such signal is pending again afterwards: whoever waits for signals next learns of it.
 * ERR_INTERNAL: no process to be had.
 */
int launch_spool_run(const struct launch_words *pipes, const char *program,
                     const struct launch_signals *signals, struct launch_outcome *outcome,
                     struct err *err);

/** The name of a channel in Pipe mode: pipes has FIFO, folder, ... (channels.h). */
const char *launch_spool_name(const struct launch_words *pipes, size_t index);

#endif
