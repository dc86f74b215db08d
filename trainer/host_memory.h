/*
 * trainer/host_memory.h -- how much memory this host has left for us.
 */
#ifndef TRAIN_HOST_MEMORY_H
#define TRAIN_HOST_MEMORY_H

#include <stdint.h>

/**
 * Bytes that the processes of this host may still take: MemAvailable of /proc/meminfo (proc(5)), or
 * what the control groups above this process leave (memory.max of version 2, memory.limit_in_bytes
 * of version 1; cgroups(7)), whichever is less. CONVOY_HOST_MEMORY, a number of bytes in the
 * environment, takes the place of both. UINT64_MAX if nothing can be found out.
 */
uint64_t train_host_memory(void);

#endif
