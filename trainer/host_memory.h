/*
 * trainer/host_memory.h -- how much memory this host has left for us.
 */
#ifndef TRAIN_HOST_MEMORY_H
#define TRAIN_HOST_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

struct err;

/**
 * Bytes that the processes of this host may still take: MemAvailable of /proc/meminfo (proc(5)), or
 * what the control groups above this process leave, whichever is less. CONVOY_HOST_MEMORY, a number
 * of bytes in the environment, takes the place of both. UINT64_MAX if nothing can be found out.
 * ERR_USAGE where the variable is no number.
 */
int train_host_memory(uint64_t *bytes, struct err *err);

/** What one control group leaves: its limit (memory.max of version 2, memory.limit_in_bytes of
 * version 1; cgroups(7)) less what is used and could not be given back. UINT64_MAX: no limit. */
uint64_t train_host_memory_left(const char *folder, bool version_2);

#endif
