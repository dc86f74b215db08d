#include "launcher/cpus.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
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

/* Every group from this process's up to the root may set a limit; the smallest counts. Inside a
 * container the path may be the host's and not exist here: the root, which is then the container's
 * group, is read too. */
static double cgroup_limit(const char *mount, char *path, bool version_2)
{
    struct buf text = {0};
    double limit = 0;

    for (;;) {
        char *slash = strrchr(path, '/');
        char file[1024];

        if (slash != NULL && slash[1] == '\0')
            *slash = '\0';
        if (version_2) {
            snprintf(file, sizeof file, "%s%s/cpu.max", mount, path);
            read_small(&text, file);
        } else { /* the same two numbers in two files, -1 for none */
            struct buf period = {0};

            snprintf(file, sizeof file, "%s%s/cpu.cfs_period_us", mount, path);
            read_small(&period, file);
            snprintf(file, sizeof file, "%s%s/cpu.cfs_quota_us", mount, path);
            read_small(&text, file);
            buf_printf(&text, " %s", buf_text(&period));
            buf_release(&period);
        }
        limit = smaller_limit(limit, launch_cpus_quota(buf_text(&text)));
        if (path[0] == '\0')
            break;
        slash = strrchr(path, '/');
        *(slash == NULL ? path : slash) = '\0';
    }
    buf_release(&text);
    return limit;
}

/* Lines of /proc/self/cgroup: "0::/path" for version 2, "4:cpu,cpuacct:/path" for version 1
 * (cgroups(7)). */
static double cgroups_limit(void)
{
    struct buf text = {0};
    double limit = 0;
    char *rest, *line;

    read_small(&text, "/proc/self/cgroup");
    rest = buf_text(&text);
    while ((line = strsep(&rest, "\n")) != NULL) {
        char *controllers = strchr(line, ':');
        char *path = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        char list[256];

        if (path == NULL)
            continue;
        snprintf(list, sizeof list, ",%.*s,", (int)(path - controllers - 1), controllers + 1);
        path++;
        if (strcmp(list, ",,") == 0)
            limit = smaller_limit(limit, cgroup_limit("/sys/fs/cgroup", path, true));
        else if (strstr(list, ",cpu,") != NULL)
            limit = smaller_limit(limit, cgroup_limit("/sys/fs/cgroup/cpu", path, false));
    }
    buf_release(&text);
    return limit;
}

int launch_cpus_usable(void)
{
    const int cores = cores_of_mask();
    const double limit = cgroups_limit();
    const int usable = limit > 0 && limit < cores ? (int)limit : cores;

    return usable < 1 ? 1 : usable;
}
