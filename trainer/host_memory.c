#include "trainer/host_memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cgroup.h"
#include "base/err.h"
#include "base/text.h"

/* The number behind `name` in the first line of a file that begins so. */
static uint64_t number_in(const char *path, const char *name, uint64_t otherwise)
{
    const size_t length = strlen(name);
    FILE *const file = fopen(path, "re");
    uint64_t number = otherwise;
    char line[256];

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, length) == 0 && sscanf(line + length, "%" SCNu64, &number) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return number;
}

static uint64_t number_of_group(const char *folder, const char *file, const char *name,
                                uint64_t otherwise)
{
    char path[1024];

    snprintf(path, sizeof path, "%s/%s", folder, file);
    return number_in(path, name, otherwise);
}

uint64_t train_host_memory_left(const char *folder, bool version_2)
{
    const uint64_t limit =
        number_of_group(folder, version_2 ? "memory.max" : "memory.limit_in_bytes", "", UINT64_MAX);
    const uint64_t taken =
        number_of_group(folder, version_2 ? "memory.current" : "memory.usage_in_bytes", "", 0);
    const uint64_t cache = number_of_group(
        folder, "memory.stat", version_2 ? "inactive_file " : "total_inactive_file ", 0);
    const uint64_t used = taken > cache ? taken - cache : 0;

    if (limit > UINT64_MAX / 4) /* version 1 writes "none" as a number of that size */
        return UINT64_MAX;
    return limit > used ? limit - used : 0;
}

static void note_left(void *left, const char *folder, bool version_2)
{
    const uint64_t here = train_host_memory_left(folder, version_2);

    if (here < *(uint64_t *)left)
        *(uint64_t *)left = here;
}

int train_host_memory(uint64_t *bytes, struct err *err)
{
    const char *const given = text_variable("CONVOY_HOST_MEMORY");
    uint64_t kib;

    if (given != NULL) {
        if (!text_number(given, bytes))
            return err_set(err, ERR_USAGE,
                           "CONVOY_HOST_MEMORY is '%s': give a number of bytes, or unset it",
                           given);
        return 0;
    }
    kib = number_in("/proc/meminfo", "MemAvailable:", UINT64_MAX);
    *bytes = kib > UINT64_MAX / 1024 ? UINT64_MAX : 1024 * kib;
    cgroup_visit(CGROUP_LIST, CGROUP_MOUNT, "memory", note_left, bytes);
    return 0;
}
