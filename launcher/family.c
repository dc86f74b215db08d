#include "launcher/family.h"

#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define END_WAIT_S 5.0

struct process {
    pid_t pid, parent;
    bool ours;
};

struct census {
    struct process *at;
    size_t count;
};

void launch_family_adopt(void)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1);
}

/* /proc/PID/stat is "PID (NAME) STATE PARENT ...", where NAME may hold anything. */
static bool read_stat(const char *pid, struct process *process)
{
    char path[64], text[512], *close;
    char state;
    size_t bytes;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    file = fopen(path, "re");
    if (file == NULL)
        return false;
    bytes = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[bytes] = '\0';
    close = strrchr(text, ')');
    process->pid = (pid_t)strtol(pid, NULL, 10);
    process->ours = false;
    return close != NULL && sscanf(close + 1, " %c %d", &state, &process->parent) == 2 &&
           state != 'Z';
}

static void take_census(struct census *census)
{
    DIR *folder = opendir("/proc");
    size_t capacity = 0;
    struct dirent *entry;

    *census = (struct census){0};
    if (folder == NULL)
        return;
    while ((entry = readdir(folder)) != NULL) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        if (census->count == capacity) {
            capacity = capacity == 0 ? 256 : 2 * capacity;
            census->at = realloc(census->at, capacity * sizeof *census->at);
            if (census->at == NULL)
                abort();
        }
        census->count += read_stat(entry->d_name, &census->at[census->count]);
    }
    closedir(folder);
}

static bool is_in(pid_t pid, const pid_t *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == pid)
            return true;
    return false;
}

/* Mark the children of those marked until nothing changes: a tree of processes is few levels deep.
 */
static void mark_ours(struct census *census, const pid_t *keep, size_t keep_count)
{
    const pid_t self = getpid();
    bool changed = true;

    while (changed) {
        changed = false;
        for (size_t i = 0; i < census->count; i++) {
            struct process *process = &census->at[i];
            bool ours = process->parent == self;

            if (process->ours || process->pid == self || is_in(process->pid, keep, keep_count))
                continue;
            for (size_t j = 0; j < census->count && !ours; j++)
                ours = census->at[j].ours && census->at[j].pid == process->parent;
            process->ours = ours;
            changed = changed || ours;
        }
    }
}

int launch_family_signal(int number, const pid_t *keep, size_t keep_count)
{
    struct census census;
    int found = 0;

    take_census(&census);
    mark_ours(&census, keep, keep_count);
    for (size_t i = 0; i < census.count; i++) {
        if (!census.at[i].ours)
            continue;
        kill(census.at[i].pid, number);
        found++;
    }
    free(census.at);
    return found;
}

void launch_family_end(const pid_t *keep, size_t keep_count)
{
    const double until_s = clock_now_s() + END_WAIT_S;

    while (launch_family_signal(SIGKILL, keep, keep_count) > 0 && clock_now_s() < until_s) {
        siginfo_t ended;

        clock_sleep_s(0.005);
        /* Only the dead that are not kept: a kept one's status is for those who started it. */
        while (ended = (siginfo_t){0}, waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
                                           ended.si_pid != 0 &&
                                           !is_in(ended.si_pid, keep, keep_count))
            waitpid(ended.si_pid, NULL, WNOHANG);
    }
}
