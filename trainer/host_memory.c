#include "trainer/host_memory.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_BYTES 1024

/* A file with one number in it; "max", or no such file, is no limit. */
static uint64_t number_in(const char *path, uint64_t otherwise)
{
    FILE *const file = fopen(path, "re");
    uint64_t number = otherwise;

    if (file == NULL)
        return otherwise;
    if (fscanf(file, "%" SCNu64, &number) != 1)
        number = otherwise;
    fclose(file);
    return number;
}

static uint64_t meminfo(void)
{
    FILE *const file = fopen("/proc/meminfo", "re");
    char line[256];
    uint64_t kib = UINT64_MAX / 1024;

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return kib * 1024;
}

/* What one group leaves: its limit less what is used and could not be given back. */
static uint64_t left_in(const char *folder, bool version_2)
{
    const char *const limit_name = version_2 ? "memory.max" : "memory.limit_in_bytes";
    const char *const used_name = version_2 ? "memory.current" : "memory.usage_in_bytes";
    const char *const cache_name =
        version_2 ? "inactive_file %" SCNu64 : "total_inactive_file %" SCNu64;
    char path[PATH_BYTES + 32], line[256];
    uint64_t limit, used, cache = 0;
    FILE *stat;

    snprintf(path, sizeof path, "%s/%s", folder, limit_name);
    limit = number_in(path, UINT64_MAX);
    if (limit > UINT64_MAX / 4) /* version 1 writes "none" as a number of that size */
        return UINT64_MAX;
    snprintf(path, sizeof path, "%s/%s", folder, used_name);
    used = number_in(path, 0);
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    stat = fopen(path, "re");
    while (stat != NULL && fgets(line, sizeof line, stat) != NULL)
        if (sscanf(line, cache_name, &cache) == 1)
            break;
    if (stat != NULL)
        fclose(stat);
    used = used > cache ? used - cache : 0;
    return limit > used ? limit - used : 0;
}

/* Every group from this process's up to the root may set a limit. Inside a container the path may
 * be the host's and not exist here: the root, which is then the container's group, is read too. */
static uint64_t left_above(const char *mount, const char *group, bool version_2)
{
    char folder[PATH_BYTES];
    const size_t root = strlen(mount);
    uint64_t left = UINT64_MAX;

    snprintf(folder, sizeof folder, "%s%s", mount, group);
    for (;;) {
        const uint64_t here = left_in(folder, version_2);
        char *slash;

        left = here < left ? here : left;
        slash = strrchr(folder, '/');
        if (slash == NULL || (size_t)(slash - folder) < root)
            return left;
        *slash = '\0';
    }
}

static uint64_t control_groups(void)
{
    FILE *const file = fopen("/proc/self/cgroup", "re");
    uint64_t left = UINT64_MAX;
    char line[PATH_BYTES];

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        char *const controllers = strchr(line, ':');
        char *const group = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        uint64_t here = UINT64_MAX;

        if (group == NULL)
            continue;
        line[strcspn(line, "\n")] = '\0';
        if (group == controllers + 1)
            here = left_above("/sys/fs/cgroup", group + 1, true);
        else if (memmem(controllers, (size_t)(group - controllers), "memory", 6) != NULL)
            here = left_above("/sys/fs/cgroup/memory", group + 1, false);
        left = here < left ? here : left;
    }
    if (file != NULL)
        fclose(file);
    return left;
}

uint64_t train_host_memory(void)
{
    const char *const given = getenv("CONVOY_HOST_MEMORY");
    uint64_t bytes = 0;

    if (given != NULL && sscanf(given, "%" SCNu64, &bytes) == 1)
        return bytes;
    const uint64_t free_bytes = meminfo(), allowed = control_groups();

    return free_bytes < allowed ? free_bytes : allowed;
}
