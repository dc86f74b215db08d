/*
 * launcher/machine.h -- this host, as a benchmark has to name it.
 */
#ifndef LAUNCH_MACHINE_H
#define LAUNCH_MACHINE_H

#include <stdint.h>

struct launch_machine {
    char host[65]; /* the kernel's name for it */
    char cpu[128]; /* /proc/cpuinfo's model; "unknown CPU" where that does not say */
    int cores;     /* that this process may keep busy (cpus.h) */
    uint64_t memory_bytes;
    double load;      /* mean number of processes that wanted a core in the last minute */
    char kernel[160]; /* "Linux 6.1.0-18-amd64 x86_64" */
};

/** Allocates nothing that stays. */
void launch_machine_read(struct launch_machine *machine);

#endif
