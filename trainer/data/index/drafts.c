#include "trainer/data/index/drafts.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ".NAME.tmp-PID.sagemaker-ignore"; 0: no draft. */
static pid_t process_of(const char *name)
{
    const char *const at = strstr(name, ".tmp-");
    char *end = NULL;
    const long pid = at != NULL ? strtol(at + 5, &end, 10) : 0;

    return pid > 0 && strcmp(end, ".sagemaker-ignore") == 0 ? (pid_t)pid : 0;
}

void data_drafts_remove(const char *folder, bool (*is_ours)(const char *name))
{
    const struct dirent *entry;
    DIR *dir = opendir(folder);

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        const pid_t pid = is_ours(entry->d_name) ? process_of(entry->d_name) : 0;

        if (pid > 0 && kill(pid, 0) < 0 && errno == ESRCH)
            unlinkat(dirfd(dir), entry->d_name, 0);
    }
    if (dir != NULL)
        closedir(dir);
}
