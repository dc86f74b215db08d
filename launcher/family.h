/*
 * launcher/family.h -- the processes below this one: to leave none behind.
 *
 * Open MPI's daemons make sessions and process groups of their own, so signals to groups do not
 * reach everybody. As a subreaper this process inherits whoever loses its parent, so that the whole
 * tree can be found in /proc.
 */
#ifndef LAUNCH_FAMILY_H
#define LAUNCH_FAMILY_H

#include <stddef.h>
#include <sys/types.h>

/** Become the parent of all orphans below us. */
void launch_family_adopt(void);

/** Send the signal to every process below us except those in keep and below them. Returns how many
 * there were. */
int launch_family_signal(int number, const pid_t *keep, size_t keep_count);

/** SIGKILL them until none is left, and reap them; gives up after 5 s (a process may hang in the
 * kernel). Exit statuses are lost. */
void launch_family_end(const pid_t *keep, size_t keep_count);

#endif
