#include "launcher/cpus.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cgroup.h"
#include "base/file.h"

#define SMALL_FILE_BYTES 65536

/* The kernel's own small files are read whole; one that is not there reads as "". */
static void read_small(struct buf *text, const char *path)
{
    text->bytes = 0;
    if (file_read(path, SMALL_FILE_BYTES, text, NULL) < 0)
        text->bytes = 0;
}

/* Whether this CPU is the first of the mask on its core: the list names the core's hardware
 * threads, "0,4" or "0-1". */
static bool first_on_its_core(int cpu, const cpu_set_t *mask)
{
    struct buf list = {0};
    char path[128];
    bool first = true;

    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    read_small(&list, path);
    for (char *at = buf_text(&list), *end; first && *at >= '0' && *at <= '9';
         at = end + (*end == ',')) {
        long begin = strtol(at, &end, 10), last = begin;

        if (*end == '-')
            last = strtol(end + 1, &end, 10);
        for (long sibling = begin; sibling <= last && sibling < cpu; sibling++)
            first = first && !CPU_ISSET((size_t)sibling, mask);
    }
    buf_release(&list);
    return first;
}

static int cores_of_mask(void)
{
    cpu_set_t mask;
    int cores = 0;

    if (sched_getaffinity(0, sizeof mask, &mask) < 0)
        return 1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        cores += CPU_ISSET((size_t)cpu, &mask) && first_on_its_core(cpu, &mask);
    return cores;
}

double launch_cpus_quota(const char *cpu_max)
{
    double quota, period;

    if (sscanf(cpu_max, "%lf %lf", &quota, &period) != 2 || !(quota > 0) || !(period > 0))
        return 0;
    return quota / period;
}

static double smaller_limit(double a, double b)
{
    return a == 0 || (b > 0 && b < a) ? b : a;
}

/* What one group grants. */
static void note_limit(void *limit, const char *folder, bool version_2)
{
    struct buf text = {0}, period = {0};
    char path[1024];

    if (version_2) {
        snprintf(path, sizeof path, "%s/cpu.max", folder);
        read_small(&text, path);
    } else { /* the same two numbers in two files, -1 for none */
        snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
        read_small(&period, path);
        snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
        read_small(&text, path);
        buf_printf(&text, " %s", buf_text(&period));
    }
    *(double *)limit = smaller_limit(*(double *)limit, launch_cpus_quota(buf_text(&text)));
    buf_release(&period);
    buf_release(&text);
}

int launch_cpus_usable(void)
{
    const int cores = cores_of_mask();
    double limit = 0;
    int usable;

    cgroup_visit(CGROUP_LIST, CGROUP_MOUNT, "cpu", note_limit, &limit);
    usable = limit > 0 && limit < cores ? (int)limit : cores;
    return usable < 1 ? 1 : usable;
}
