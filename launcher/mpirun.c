#include "launcher/mpirun.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include "launcher/words.h"

/*
 * Open MPI's settings. Its parameters travel as OMPI_MCA_<name>, which Open MPI 4.1 and 5 both read
 * and which, unlike
 * --mca twice on one line, gives way to --mca in --mpirun-args.
 */
static const struct {
    const char *name, *value;
} settings[] = {
    /* Point-to-point by the transports named below. Else every fabric's library is tried first:
     * measured, 0.2 s of 0.45 s that two ranks take to start and end. */
    {"OMPI_MCA_pml", "ob1"},
    /* One host: to oneself, and shared memory ("sm" in Open MPI 5, which takes the old name too).
     * Without TCP no rank listens on the network. */
    {"OMPI_MCA_btl", "self,vader"},
    /* A rank that waits for another lets go of its core: decoding and the other ranks need it, and
     * in a small container there may be fewer cores than ranks. */
    {"OMPI_MCA_mpi_yield_when_idle", "1"},
    /* hwloc looks for the cores in /sys; in a chroot without it, each process would say so on
       stderr. */
    {"HWLOC_HIDE_ERRORS", "2"},
};

/* Containers often forbid the call by which one process reads another's memory (docker's default
 * seccomp profile did until Linux 4.8). Open MPI 4.1 finds that out in the middle of a message and
 * fails loudly; so it is asked here, of this process itself, which is always allowed where the call
 * is. */
static bool kernel_copies_between_processes(void)
{
    char from = 1, to = 0;
    const struct iovec remote = {.iov_base = &from, .iov_len = 1},
                       local = {.iov_base = &to, .iov_len = 1};

    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1;
}

void launch_mpirun_settings(void)
{
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        setenv(settings[i].name, settings[i].value, 0);
    if (!kernel_copies_between_processes())
        setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0);
}

/* Variables that the ranks read. On this host mpirun hands the whole environment on; -x says so for
 * others. */
static const char *const exported[] = {
    "CONVOY_LOG",     "CONVOY_READY",    "CONVOY_TERMINAL_COLUMNS",
    "CONVOY_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
};

void launch_mpirun_words(const struct launch_mpirun_line *line, struct launch_words *words)
{
    char ranks[16];

    snprintf(ranks, sizeof ranks, "%d", line->ranks);
    launch_words_push(words, "mpirun");
    /* A rank says itself why it ends, and we say which signal ended one: mpirun's twenty lines
     * would hide both. */
    launch_words_push(words, "--quiet");
    if (line->root)
        launch_words_push(words, "--allow-run-as-root");
    launch_words_push(words, "-np");
    launch_words_push(words, ranks);
    /* As many ranks as asked for, whatever the slots; and threads go where the kernel puts them,
     * since a rank bound to one core would keep all its threads on it. */
    launch_words_push(words, "--map-by");
    launch_words_push(words, "slot:OVERSUBSCRIBE");
    launch_words_push(words, "--bind-to");
    launch_words_push(words, "none");
    for (size_t i = 0; i < sizeof exported / sizeof exported[0]; i++) {
        if (getenv(exported[i]) == NULL)
            continue;
        launch_words_push(words, "-x");
        launch_words_push(words, exported[i]);
    }
    launch_words_push_all(words, line->more);
    launch_words_push(words, line->program);
    launch_words_push(words, "train");
    launch_words_push_all(words, line->args);
}

bool launch_mpirun_exists(void)
{
    const char *path = getenv("PATH");
    char *copy = strdup(path == NULL ? "/usr/bin:/bin" : path), *rest = copy, *folder;
    bool found = false;

    if (copy == NULL)
        abort();
    while (!found && (folder = strsep(&rest, ":")) != NULL) {
        char *candidate;

        if (asprintf(&candidate, "%s/mpirun", folder[0] == '\0' ? "." : folder) < 0)
            abort();
        found = access(candidate, X_OK) == 0;
        free(candidate);
    }
    free(copy);
    return found;
}
