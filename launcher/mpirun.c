#include "launcher/mpirun.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "launcher/orted.h"
#include "launcher/words.h"

/*
 * Open MPI's settings. Its parameters travel as OMPI_MCA_<name>, which Open MPI 4.1 and 5 both read
 * and which, unlike
 * --mca twice on one line, gives way to --mca in --mpirun-args.
 */
struct setting {
    const char *name, *value;
};

static const struct setting settings[] = {
    /* Point-to-point by the transports named below. Else every fabric's library is tried first:
     * measured, 0.2 s of 0.45 s that two ranks take to start and end. */
    {"OMPI_MCA_pml", "ob1"},
    /* A rank that waits for another lets go of its core: decoding and the other ranks need it, and
     * in a small container there may be fewer cores than ranks. */
    {"OMPI_MCA_mpi_yield_when_idle", "1"},
    /* hwloc looks for the cores in /sys; in a chroot without it, each process would say so on
       stderr. */
    {"HWLOC_HIDE_ERRORS", "2"},
};

static const struct setting one_host[] = {
    /* To oneself, and shared memory ("sm" in Open MPI 5, which takes the old name too). Without TCP
     * no rank listens on the network. */
    {"OMPI_MCA_btl", "self,vader"},
};

static const struct setting several_hosts[] = {
    {"OMPI_MCA_btl", "self,vader,tcp"},
    /* The daemons find a host that is gone within 6 s (the default: 480 s); our own beats find one
     * that is frozen. */
    {"OMPI_MCA_oob_tcp_keepalive_time", "3"},
    {"OMPI_MCA_oob_tcp_keepalive_intvl", "1"},
    {"OMPI_MCA_oob_tcp_keepalive_probes", "3"},
    /* One rank that fails ends all. */
    {"OMPI_MCA_orte_abort_on_non_zero_status", "1"},
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

static void set_all(const struct setting *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        setenv(list[i].name, list[i].value, 0);
}

void launch_mpirun_settings(bool several)
{
    set_all(settings, sizeof settings / sizeof settings[0]);
    if (several)
        set_all(several_hosts, sizeof several_hosts / sizeof several_hosts[0]);
    else
        set_all(one_host, sizeof one_host / sizeof one_host[0]);
    setenv("HOME", "/", 0); /* without one, and without a passwd entry, PMIx 4.2 crashes */
    if (!kernel_copies_between_processes())
        setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0);
}

void launch_mpirun_network(const char *name)
{
    static const char *const kinds[] = {"btl", "oob"};

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char include[64], exclude[64];

        snprintf(include, sizeof include, "OMPI_MCA_%s_tcp_if_include", kinds[i]);
        snprintf(exclude, sizeof exclude, "OMPI_MCA_%s_tcp_if_exclude", kinds[i]);
        if (getenv(exclude) == NULL) /* Open MPI refuses both */
            setenv(include, name, 0);
    }
}

int launch_mpirun_check_path(const char *convoy, struct err *err)
{
    if (convoy[strcspn(convoy, " \t:,'\"")] == '\0')
        return 0;
    return err_set(err, ERR_USAGE,
                   "several hosts need a path of convoy without blanks, quotes, colons and commas: "
                   "Open MPI cannot start '%s'",
                   convoy);
}

/* Variables that the ranks read. On this host mpirun hands the whole environment on; -x says so for
 * others. */
static const char *const exported[] = {
    "CONVOY_CONV",
    "CONVOY_ISA",
    "CONVOY_LOG",
    "CONVOY_READY",
    "CONVOY_TERMINAL_COLUMNS",
    "CONVOY_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
};

/* "a:2,b:2": two slots on each. */
static void push_hosts(const struct launch_mpirun_line *line, struct launch_words *words)
{
    struct buf list = {0};

    for (size_t i = 0; i < line->hosts->count; i++)
        buf_printf(&list, "%s%s:%d", i == 0 ? "" : ",", line->hosts->at[i], line->ranks);
    launch_words_push(words, "--host");
    launch_words_push(words, buf_text(&list));
    buf_release(&list);
}

/* Daemons are started by `convoy rsh`, all of them from here. */
static void push_agent(const struct launch_mpirun_line *line, struct launch_words *words)
{
    char *agent;

    if (asprintf(&agent, "%s rsh", line->convoy) < 0)
        abort();
    launch_words_push(words, "--mca");
    launch_words_push(words, "plm");
    launch_words_push(words, "rsh");
    launch_words_push(words, "--mca");
    launch_words_push(words, "plm_rsh_agent");
    launch_words_push(words, agent);
    launch_words_push(words, "--mca");
    launch_words_push(words, "plm_rsh_no_tree_spawn");
    launch_words_push(words, "1");
    free(agent);
}

static void push_exports(struct launch_words *words)
{
    for (size_t i = 0; i < sizeof exported / sizeof exported[0]; i++) {
        if (getenv(exported[i]) == NULL)
            continue;
        launch_words_push(words, "-x");
        launch_words_push(words, exported[i]);
    }
}

void launch_mpirun_words(const struct launch_mpirun_line *line, struct launch_words *words)
{
    const size_t hosts = line->hosts == NULL ? 1 : line->hosts->count;
    char ranks[32];

    snprintf(ranks, sizeof ranks, "%zu", hosts * (size_t)line->ranks);
    launch_words_push(words, "mpirun");
    /* A rank says itself why it ends, and we say which signal ended one: mpirun's twenty lines
     * would hide both. */
    launch_words_push(words, "--quiet");
    if (line->root)
        launch_words_push(words, "--allow-run-as-root");
    launch_words_push(words, "-np");
    launch_words_push(words, ranks);
    if (line->hosts != NULL) {
        push_hosts(line, words);
        push_agent(line, words);
    }
    /* As many ranks as asked for, whatever the slots; and threads go where the kernel puts them,
     * since a rank bound to one core would keep all its threads on it. */
    launch_words_push(words, "--map-by");
    launch_words_push(words, "slot:OVERSUBSCRIBE");
    launch_words_push(words, "--bind-to");
    launch_words_push(words, "none");
    if (line->hosts == NULL)
        push_exports(words);
    launch_words_push_all(words, line->more);
    launch_words_push(words, line->program);
    launch_words_push(words, line->verb);
    launch_words_push_all(words, line->args);
}

bool launch_mpirun_exists(void)
{
    char *path = launch_orted_find("mpirun");
    const bool found = path != NULL;

    free(path);
    return found;
}
