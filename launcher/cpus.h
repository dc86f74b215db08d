/*
 * launcher/cpus.h -- how many threads this process may keep busy.
 */
#ifndef LAUNCH_CPUS_H
#define LAUNCH_CPUS_H

/** Physical cores of the affinity mask, or fewer where a cgroup (version 1 or 2) grants less time
 * than that; at least 1. Two hardware threads of one core count once: they share the units that a
 * kernel keeps busy. */
int launch_cpus_usable(void);

/** The CPUs that a quota is worth: the text of cpu.max ("150000 100000", "max 100000"). 0: no
 * limit, or not understood. */
double launch_cpus_quota(const char *cpu_max);

#endif
