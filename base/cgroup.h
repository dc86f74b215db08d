/*
 * base/cgroup.h -- the control groups above this process, which may grant less than the host has.
 *
 * Format: cgroups(7). A line of the list is "0::/path" for version 2 and "4:cpu,cpuacct:/path" for
 * version 1. Every group from the process's own up to the root may set a limit. Inside a container
 * the path may be the host's and not exist here: the root, which is then the container's group, is
 * visited too.
 */
#ifndef BASE_CGROUP_H
#define BASE_CGROUP_H

#include <stdbool.h>

#define CGROUP_LIST  "/proc/self/cgroup"
#define CGROUP_MOUNT "/sys/fs/cgroup"

/** Call visit for the folder of each group that may limit `controller` ("cpu", "memory"), the
 * process's own first; it need not exist. list, mount: the two above (tests have their own). A list
 * that cannot be read is empty. */
void cgroup_visit(const char *list, const char *mount, const char *controller,
                  void (*visit)(void *context, const char *folder, bool version_2), void *context);

#endif
