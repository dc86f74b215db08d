#include "launcher/job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "launcher/child.h"
#include "launcher/cpus.h"
#include "launcher/mpirun.h"
#include "launcher/options.h"

#define EXIT_STOPPED 75

/* A private folder in which the ranks make a file to say that they handle signals. */
struct ready {
    char *folder, *file;
};

static int ready_init(struct ready *ready, struct err *err)
{
    const char *temp = getenv("TMPDIR");
    char *folder;

    if (asprintf(&folder, "%s/convoy-XXXXXX", temp == NULL || temp[0] == '\0' ? "/tmp" : temp) < 0)
        abort();
    if (mkdtemp(folder) == NULL) {
        err_set_errno(err, ERR_IO, errno, "cannot make the folder '%s'", folder);
        free(folder);
        return -1;
    }
    ready->folder = folder;
    if (asprintf(&ready->file, "%s/ready", folder) < 0)
        abort();
    setenv("CONVOY_READY", ready->file, 1);
    return 0;
}

static void ready_release(struct ready *ready)
{
    if (ready->folder != NULL) {
        unlink(ready->file);
        rmdir(ready->folder);
    }
    free(ready->folder);
    free(ready->file);
}

static void set_integer(const char *name, int value)
{
    char text[16];

    snprintf(text, sizeof text, "%d", value);
    setenv(name, text, 1);
}

/* OpenBLAS never gets threads of its own: its results would depend on how many there are. */
static void set_threads(int threads)
{
    set_integer("CONVOY_THREADS", threads);
    set_integer("OMP_NUM_THREADS", threads);
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
}

/* Let convoy-train look at its words before there are ranks, so that a mistake is one line from one
 * process. */
static int check_train_options(const struct launch_options *options, const char *program,
                               const struct launch_signals *signals, int *status, struct err *err)
{
    struct launch_words words = {0};
    pid_t child;

    launch_words_push(&words, program);
    launch_words_push(&words, "train");
    launch_words_push(&words, "--check-options");
    launch_words_push_all(&words, &options->train);
    set_integer("CONVOY_RANKS", options->ranks);
    child = launch_child_start(words.at, false, signals);
    unsetenv("CONVOY_RANKS");
    launch_words_release(&words);
    if (child < 0)
        return err_set_errno(err, ERR_INTERNAL, errno, "cannot start '%s'", program);
    *status = launch_child_wait(child);
    return 0;
}

/* One rank needs no mpirun: MPI_Init makes a job of one by itself. */
static void job_words(const struct launch_options *options, const char *program,
                      struct launch_words *words)
{
    if (options->ranks == 1) {
        launch_words_push(words, program);
        launch_words_push(words, "train");
        launch_words_push_all(words, &options->train);
    } else {
        launch_mpirun_words(&(struct launch_mpirun_line){.ranks = options->ranks,
                                                         .root = geteuid() == 0,
                                                         .more = &options->mpirun,
                                                         .program = program,
                                                         .args = &options->train},
                            words);
    }
}

/* mpirun tells a rank's signal as 128 + signal, like a shell, and not whose it was. */
static void say_signal(const struct launch_options *options, const struct launch_end *end)
{
    const int number = launch_child_exit_code(end->status) - 128;
    const char *who = options->ranks == 1        ? "rank 0"
                      : WIFSIGNALED(end->status) ? "mpirun"
                                                 : "a rank";

    if (number > 0 && number <= 64)
        log_error("%s died by signal %d (%s)%s; the job has ended", who, number, strsignal(number),
                  number == SIGKILL ? ", as the kernel does when memory runs out" : "");
}

static int end_code(const struct launch_options *options, const struct launch_end *end)
{
    const int code = launch_child_exit_code(end->status);

    if (end->interrupted)
        return 128 + SIGINT;
    if (end->stop_forced)
        return EXIT_STOPPED;
    say_signal(options, end);
    return code;
}

/* One generation of the ranks. */
static int run_ranks(const struct launch_options *options, const char *program,
                     const struct ready *ready, const struct launch_signals *signals,
                     struct launch_end *end, struct err *err)
{
    struct launch_words words = {0};
    pid_t child;

    unlink(ready->file);
    job_words(options, program, &words);
    child = launch_child_start(words.at, true, signals);
    launch_words_release(&words);
    if (child < 0)
        return err_set_errno(err, ERR_INTERNAL, errno, "cannot start the ranks");
    launch_child_watch(
        &(struct launch_watch){.child = child, .ready = ready->file, .mpirun = options->ranks > 1},
        signals, end);
    return 0;
}

/* 0: done; 2: the user's to mend; 75: stopped as asked. After anything else another try may do
 * better. */
static bool may_restart(int code, const struct launch_end *end)
{
    return code != 0 && code != 2 && code != EXIT_STOPPED && !end->stop_asked;
}

static int run_generations(const struct launch_options *options, const char *program,
                           const struct launch_signals *signals, int *status, struct err *err)
{
    struct ready ready = {0};
    struct launch_end end = {0};
    int rc = -1;

    if (ready_init(&ready, err) < 0)
        return -1;
    for (int start = 1;; start++) {
        if (run_ranks(options, program, &ready, signals, &end, err) < 0)
            goto out;
        *status = end_code(options, &end);
        if (!may_restart(*status, &end) || start > options->restarts_max)
            break;
        log_warn("the ranks ended with status %d; starting them again, restart %d of at most %d",
                 *status, start, options->restarts_max);
    }
    rc = 0;
out:
    ready_release(&ready);
    return rc;
}

static int threads_of_rank(const struct launch_options *options)
{
    const int share = launch_cpus_usable() / options->ranks;

    if (options->threads > 0)
        return options->threads;
    return share < 1 ? 1 : share;
}

int launch_job_run(const struct launch_options *options, const char *program, int *status,
                   struct err *err)
{
    const int threads = threads_of_rank(options);
    struct launch_signals signals;

    launch_signals_init(&signals);
    set_threads(threads);
    if (check_train_options(options, program, &signals, status, err) < 0)
        return -1;
    if (*status != 0)
        return 0;
    if (options->ranks > 1 && !launch_mpirun_exists())
        return err_set(err, ERR_IO,
                       "cannot find mpirun, which starts the ranks: install Open MPI"
                       " (apt-get install openmpi-bin), or use one rank");
    if (log_bar_width() > 0)
        set_integer("CONVOY_TERMINAL_COLUMNS", log_bar_width());
    launch_mpirun_settings();
    log_info("%d rank%s on this host, %d thread%s each", options->ranks,
             options->ranks == 1 ? "" : "s", threads, threads == 1 ? "" : "s");
    return run_generations(options, program, &signals, status, err);
}

/* sbatch's own script has SLURM_PROCID too; only srun with an MPI plug-in also sets one of PMI's.
 */
int launch_job_foreign_rank(void)
{
    const bool slurm = getenv("PMI_RANK") != NULL || getenv("PMI_FD") != NULL;
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");

    if (rank == NULL)
        rank = getenv("PMIX_RANK");
    if (rank == NULL && slurm)
        rank = getenv("SLURM_PROCID");
    return rank == NULL ? -1 : (int)strtol(rank, NULL, 10);
}

int launch_job_become_rank(const struct launch_options *options, const char *program, int rank,
                           struct err *err)
{
    const char *idle = launch_options_idle_name(options);
    struct launch_words words = {0};

    if (idle != NULL && rank == 0)
        log_warn("--%s is ignored: this rank was started by another mpirun, which says where the "
                 "ranks run",
                 idle);
    if (options->threads > 0)
        set_threads(options->threads);
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    launch_words_push(&words, program);
    launch_words_push(&words, "train");
    launch_words_push_all(&words, &options->train);
    execv(program, words.at);
    err_set_errno(err, ERR_INTERNAL, errno, "cannot run '%s'", program);
    launch_words_release(&words);
    return -1;
}
