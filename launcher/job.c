#include "launcher/job.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/entropy.h"
#include "base/err.h"
#include "base/log.h"
#include "base/uri.h"
#include "launcher/agent.h"
#include "launcher/child.h"
#include "launcher/hosts.h"
#include "launcher/key.h"
#include "launcher/key_object.h"
#include "launcher/leader.h"
#include "launcher/local.h"
#include "launcher/mpirun.h"
#include "launcher/network.h"
#include "launcher/options.h"
#include "launcher/sagemaker.h"
#include "launcher/spool.h"
#include "s3io/client.h"

/* What a job is made of before anybody leads it. */
struct job {
    const struct launch_options *options;
    const struct launch_sagemaker *sagemaker; /* may be NULL */
    const char *program;
    struct launch_signals signals;
    struct launch_hosts hosts;
    struct launch_local local;
    char name[2 * LAUNCH_KEY_BYTES + 1]; /* made up where the platform has none */
    struct launch_outcome outcome;
};

static void set_integer(const char *name, int value)
{
    char text[16];

    snprintf(text, sizeof text, "%d", value);
    setenv(name, text, 1);
}

/* Let convoy-train look at its words before there are ranks, so that a mistake is one line from one
 * process. */
static int check_train_options(struct job *job, struct err *err)
{
    struct launch_words words = {0};
    pid_t child;
    int status;

    launch_words_push(&words, job->program);
    launch_words_push(&words, job->options->verb);
    launch_words_push(&words, "--check-options");
    launch_words_push_all(&words, &job->options->train);
    set_integer("CONVOY_RANKS", job->options->ranks * (int)job->hosts.names.count);
    child = launch_child_start(words.at, false, &job->signals);
    unsetenv("CONVOY_RANKS");
    launch_words_release(&words);
    if (child < 0)
        return err_set_errno(err, ERR_INTERNAL, errno, "cannot start '%s'", job->program);
    status = launch_child_wait(child);
    if (status == 0)
        return 0;
    if (!launch_local_failure(&job->local, job->outcome.failure))
        snprintf(job->outcome.failure, sizeof job->outcome.failure,
                 "the options or the data are wrong: the log says how");
    job->outcome.code = status;
    return 0;
}

/* Channels in Pipe mode become folders of this host. */
static int spool_channels(struct job *job, struct err *err)
{
    char said[LAUNCH_FAILURE_BYTES];

    if (job->sagemaker == NULL || job->sagemaker->pipes.count == 0)
        return 0;
    if (launch_spool_run(&job->sagemaker->pipes, job->program, &job->signals, &job->outcome, err) <
        0)
        return -1;
    if (job->outcome.code != 0 && job->outcome.code != LAUNCH_EXIT_STOPPED &&
        launch_local_failure(&job->local, said))
        memcpy(job->outcome.failure, said, sizeof said);
    return 0;
}

static int check_surroundings(const struct job *job, struct err *err)
{
    const bool several = launch_hosts_several(&job->hosts);
    const int hosts = (int)job->hosts.names.count;

    if (job->options->hosts_min > hosts)
        return err_set(err, ERR_USAGE, "--min-hosts is %d, but the job has %d host%s",
                       job->options->hosts_min, hosts, hosts == 1 ? "" : "s");
    if ((several || job->options->ranks > 1) && !launch_mpirun_exists())
        return err_set(err, ERR_IO,
                       "cannot find mpirun, which starts the ranks: install Open MPI"
                       " (apt-get install openmpi-bin), or use one rank");
    if (!several)
        return 0;
    if (job->options->interface != NULL && launch_network_check(job->options->interface, err) < 0)
        return err_wrap(err, "--interface");
    return launch_mpirun_check_path(job->local.program, err);
}

/* The lease of a checkpoint folder knows a job by this name: the one that the user gives it, so
 * that a job started again goes on at once; the platform's; or one of this launch. */
static const char *name_job(struct job *job)
{
    const char *name = getenv("CONVOY_JOB");
    unsigned char bytes[LAUNCH_KEY_BYTES];

    if (name == NULL || name[0] == '\0')
        name = job->sagemaker != NULL ? job->sagemaker->job : NULL;
    if (name == NULL) {
        entropy_fill(bytes, sizeof bytes);
        launch_key_text(bytes, job->name);
        job->name[32] = '\0';
        name = job->name;
    }
    setenv("CONVOY_JOB", name, 1);
    set_integer("CONVOY_HOSTS", (int)job->hosts.names.count);
    if (job->sagemaker != NULL && job->sagemaker->active)
        setenv("CONVOY_MODEL_ON_STOP", "1", 1);
    return getenv("CONVOY_JOB");
}

static const char *platforms_name(const struct job *job)
{
    return job->sagemaker == NULL ? NULL : job->sagemaker->job;
}

/* Where the key lies that hosts which start by themselves agree on; NULL: it comes from elsewhere.
 */
static const char *key_place(const struct job *job)
{
    const char *place = launch_options_checkpoint(job->options);

    if (job->hosts.kind != LAUNCH_HOSTS_EACH || getenv("CONVOY_JOB_KEY") != NULL)
        return NULL;
    return place != NULL && strncmp(place, "s3://", 5) == 0 ? place : NULL;
}

static int agree_on_key(const struct job *job, const char *place,
                        unsigned char key[LAUNCH_KEY_BYTES], struct err *err)
{
    int rc;

    if (place == NULL)
        return launch_key_shared(platforms_name(job), key, err);
    rc = launch_key_object_agree(place, platforms_name(job), key, err);
    s3_client_shared_close();
    return rc;
}

static int lead(struct job *job, const char *name, struct err *err)
{
    const char *place = key_place(job);
    struct launch_leader_job leader = {.options = job->options,
                                       .hosts = &job->hosts,
                                       .program = job->program,
                                       .job = name,
                                       .local = &job->local,
                                       .signals = &job->signals,
                                       .sagemaker = job->sagemaker};
    int rc = 0;

    if (job->hosts.kind == LAUNCH_HOSTS_SSH)
        entropy_fill(leader.key, sizeof leader.key);
    if (job->hosts.kind != LAUNCH_HOSTS_EACH)
        unsetenv("CONVOY_JOB_KEY"); /* not needed, and no rank is to see it */
    else
        rc = agree_on_key(job, place, leader.key, err);
    if (rc == 0)
        rc = launch_leader_run(&leader, &job->outcome, err);
    if (rc == 0 && place != NULL) {
        launch_key_object_forget(place, platforms_name(job));
        s3_client_shared_close();
    }
    explicit_bzero(leader.key, sizeof leader.key);
    return rc;
}

static int follow(struct job *job, struct err *err)
{
    const struct launch_options *options = job->options;
    const char *leader = job->hosts.names.at[0];
    struct launch_agent_job agent = {
        .host = job->hosts.names.at[job->hosts.own],
        .leader = leader,
        .address = options->leader_address != NULL ? options->leader_address : leader,
        .port = options->port > 0 ? options->port : LAUNCH_PORT_SAGEMAKER,
        .rendezvous_s = options->rendezvous_s,
        .job = platforms_name(job),
        .input = -1,
        .local = &job->local,
        .signals = &job->signals,
        .sagemaker = job->sagemaker};

    if (agree_on_key(job, key_place(job), agent.key, err) < 0)
        return -1;
    launch_agent_run(&agent, &job->outcome);
    explicit_bzero(agent.key, sizeof agent.key);
    if (job->outcome.code != 0)
        log_error("the job has ended with status %d: %s", job->outcome.code, job->outcome.failure);
    return 0;
}

static int run(struct job *job, struct err *err)
{
    const bool several = launch_hosts_several(&job->hosts);
    const bool follows = job->hosts.kind == LAUNCH_HOSTS_EACH && job->hosts.own != 0;
    const int ranks = job->options->ranks;
    const char *name = name_job(job);
    const int threads = launch_local_set_threads(job->options->threads, ranks);

    /* Where each host started by itself the others must learn of a mistake; else nobody waits. The
     * words before the streams, which may take hours. */
    if (check_surroundings(job, err) < 0 || check_train_options(job, err) < 0 ||
        (job->outcome.code == 0 && spool_channels(job, err) < 0)) {
        if (job->hosts.kind != LAUNCH_HOSTS_EACH)
            return -1;
        log_error("%s", err->msg);
        launch_outcome_set(&job->outcome, err_exit_code(err->code), "%s", err->msg);
    }
    if (job->outcome.code != 0 && job->hosts.kind != LAUNCH_HOSTS_EACH)
        return 0;
    if (log_bar_width() > 0)
        set_integer("CONVOY_TERMINAL_COLUMNS", log_bar_width());
    launch_mpirun_settings(several);
    if (job->outcome.code == 0)
        log_info("%d rank%s on this host, %d thread%s each", ranks, ranks == 1 ? "" : "s", threads,
                 threads == 1 ? "" : "s");
    return follows ? follow(job, err) : lead(job, name, err);
}

int launch_job_run(const struct launch_options *options, const struct launch_sagemaker *sagemaker,
                   const char *program, int *status, struct err *err)
{
    struct job job = {.options = options, .sagemaker = sagemaker, .program = program};
    int rc = -1;

    launch_signals_init(&job.signals);
    if (launch_hosts_find(&job.hosts,
                          &(struct launch_hosts_options){.list = options->hosts,
                                                         .file = options->hostfile,
                                                         .sagemaker = sagemaker},
                          err) < 0 ||
        launch_local_open(&job.local, &job.signals, err) < 0)
        goto out;
    rc = run(&job, err);
    *status = job.outcome.code;
    if (sagemaker != NULL && (rc < 0 || job.outcome.code != 0))
        launch_sagemaker_fail(sagemaker, rc < 0 ? err->msg : job.outcome.failure);
out:
    launch_local_close(&job.local);
    launch_hosts_release(&job.hosts);
    return rc;
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

/* Nobody of ours is left to take up why a rank failed: it writes the platform's file itself. */
static void hand_over_failure_file(const struct launch_sagemaker *sagemaker)
{
    char *file;

    if (sagemaker == NULL || !sagemaker->active)
        return;
    file = uri_join(sagemaker->base, "output/failure");
    setenv("CONVOY_FAILURE", file, 1);
    free(file);
}

int launch_job_become_rank(const struct launch_options *options,
                           const struct launch_sagemaker *sagemaker, const char *program, int rank,
                           struct err *err)
{
    const char *idle = launch_options_idle_name(options);
    struct launch_words words = {0};

    if (sagemaker != NULL && sagemaker->pipes.count > 0)
        return err_set(err, ERR_USAGE,
                       "channel '%s' is in Pipe mode, which only a `convoy train` that starts the "
                       "ranks itself reads: give it without mpirun, or use File or FastFile",
                       launch_spool_name(&sagemaker->pipes, 0));
    if (idle != NULL && rank == 0)
        log_warn("--%s is ignored: this rank was started by another mpirun, which says where the "
                 "ranks run",
                 idle);
    if (options->threads > 0)
        launch_local_set_threads(options->threads, 1);
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    hand_over_failure_file(sagemaker);
    launch_words_push(&words, program);
    launch_words_push(&words, options->verb);
    launch_words_push_all(&words, &options->train);
    execv(program, words.at);
    err_set_errno(err, ERR_INTERNAL, errno, "cannot run '%s'", program);
    launch_words_release(&words);
    return -1;
}
