#include "launcher/ranks.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "launcher/child.h"
#include "launcher/family.h"
#include "launcher/hosts.h"
#include "launcher/leader.h"
#include "launcher/mpirun.h"
#include "launcher/options.h"
#include "launcher/stop.h"
#include "launcher/words.h"

static bool under_mpirun(const struct launch_ranks *ranks)
{
    return launch_hosts_several(ranks->job->hosts) || ranks->job->options->ranks > 1;
}

static void push_words(const struct launch_ranks *ranks, struct launch_words *words)
{
    const struct launch_leader_job *job = ranks->job;
    const bool several = launch_hosts_several(job->hosts);

    if (!under_mpirun(ranks)) { /* MPI_Init makes a job of one by itself */
        launch_words_push(words, job->program);
        launch_words_push(words, job->options->verb);
        launch_words_push_all(words, &job->options->train);
        return;
    }
    launch_mpirun_words(&(struct launch_mpirun_line){.ranks = job->options->ranks,
                                                     .hosts = several ? &job->hosts->names : NULL,
                                                     .convoy = job->local->program,
                                                     .root = geteuid() == 0,
                                                     .more = &job->options->mpirun,
                                                     .program = job->program,
                                                     .verb = job->options->verb,
                                                     .args = &job->options->train},
                        words);
}

int launch_ranks_start(struct launch_ranks *ranks, struct err *err)
{
    struct launch_words words = {0};

    launch_local_clear(ranks->job->local);
    ranks->ready = ranks->model = false;
    ranks->failure[0] = '\0';
    ranks->end_s = ranks->orted_s = 0;
    ranks->generations++;
    push_words(ranks, &words);
    ranks->child = launch_child_start(words.at, true, ranks->job->signals);
    launch_words_release(&words);
    if (ranks->child > 0)
        return 0;
    ranks->child = 0;
    return err_set_errno(err, ERR_IO, errno, "cannot start the ranks");
}

int launch_ranks_start_orted(struct launch_ranks *ranks, const struct launch_words *words,
                             struct err *err)
{
    const pid_t orted = launch_local_orted(ranks->job->local, words, err);

    ranks->orted = orted > 0 ? orted : 0;
    return orted > 0 ? 0 : -1;
}

void launch_ranks_end(struct launch_ranks *ranks)
{
    if (ranks->end_s != 0)
        return;
    ranks->end_s = clock_now_s();
    if (ranks->child > 0)
        kill(ranks->child, under_mpirun(ranks) ? SIGTERM : SIGKILL);
    if (ranks->orted > 0)
        kill(ranks->orted, SIGTERM);
}

void launch_ranks_kill(struct launch_ranks *ranks, const pid_t *keep, size_t keep_count)
{
    launch_family_signal(SIGKILL, keep, keep_count);
    if (ranks->child != 0)
        return; /* waitpid is to tell its status */
    launch_family_end(keep, keep_count);
    ranks->orted = 0;
}

bool launch_ranks_reap(struct launch_ranks *ranks, pid_t child, int status)
{
    const struct launch_hosts *hosts = ranks->job->hosts;

    if (child == ranks->child) {
        ranks->child = 0;
        ranks->status = status;
    } else if (child == ranks->orted) {
        ranks->orted = 0;
        launch_ranks_lose_orted(ranks, hosts->names.at[hosts->own]);
    } else {
        return false;
    }
    return true;
}

void launch_ranks_lose_orted(struct launch_ranks *ranks, const char *host)
{
    if (ranks->orted_s != 0)
        return;
    ranks->orted_s = clock_now_s();
    snprintf(ranks->orted_host, sizeof ranks->orted_host, "%s", host);
}

void launch_ranks_look(struct launch_ranks *ranks)
{
    ranks->ready = ranks->ready || launch_local_ready(ranks->job->local);
    ranks->model = ranks->model || launch_local_model(ranks->job->local);
    if (ranks->failure[0] == '\0')
        launch_local_failure(ranks->job->local, ranks->failure);
}

static void log_signal(const struct launch_ranks *ranks, int code)
{
    const char *who = !under_mpirun(ranks)         ? "rank 0"
                      : WIFSIGNALED(ranks->status) ? "mpirun"
                                                   : "a rank";
    char how[LAUNCH_OUTCOME_END_BYTES];

    log_error("%s %s; the job has ended", who, launch_outcome_end(code, how));
}

void launch_ranks_judge(const struct launch_ranks *ranks, const struct launch_stop *stop,
                        struct launch_outcome *outcome)
{
    const bool spoken = ranks->failure[0] != '\0';
    int code = launch_child_exit_code(ranks->status);

    if (stop->interrupted)
        code = 128 + SIGINT;
    else if (stop->forced)
        code = LAUNCH_EXIT_STOPPED;
    else if (launch_hosts_several(ranks->job->hosts))
        code = launch_outcome_code(code, spoken);
    outcome->code = code;
    if (spoken)
        memcpy(outcome->failure, ranks->failure, sizeof outcome->failure);
    else if (code != 0)
        launch_outcome_describe(outcome);
    if (!stop->forced && !stop->interrupted && code > 128 && code <= 128 + 64)
        log_signal(ranks, code);
}
