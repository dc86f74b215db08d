#include "launcher/leader.h"

#include <errno.h>
#include <net/if.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "launcher/child.h"
#include "launcher/crew.h"
#include "launcher/family.h"
#include "launcher/handover.h"
#include "launcher/hosts.h"
#include "launcher/mpirun.h"
#include "launcher/options.h"
#include "launcher/polls.h"
#include "launcher/ranks.h"
#include "launcher/rsh.h"
#include "launcher/sagemaker.h"
#include "launcher/stop.h"
#include "launcher/words.h"

/* A job that cannot begin waits this long for hosts that come late, so that they learn why. */
#define STRAGGLERS_S  10.0
/* From asking mpirun to end the ranks to killing all. */
#define END_S         3.0
/* What a host has to answer, it answers at once; one that does not is left behind. */
#define ANSWER_S      10.0
#define FLUSH_S       1.0
/* mpirun that sees by itself that a host is gone ends within a second or two, and a SIGTERM
 * meanwhile makes 4.1 crash, with a page of its stack: it has this long before it is asked. */
#define LOST_S        2.0
/* mpirun notices within a second that a daemon of its ended; 4.1 may also wait for ever. */
#define ORTED_S       5.0
#define MISSING_SAY_S 15.0

enum phase { PHASE_GATHER, PHASE_RUN, PHASE_OVER, PHASE_DONE, PHASE_LEAVE, PHASE_END };

struct leader {
    const struct launch_leader_job *job;
    struct launch_outcome *outcome; /* code 0 while nothing speaks against success */
    struct launch_polls polls;
    int signal_fd;
    struct launch_words others; /* the names of the crew's hosts */
    struct launch_crew crew;
    struct launch_rsh rsh;
    struct launch_stop stop;
    struct launch_ranks ranks;
    enum phase phase;
    double phase_s, said_s;
    double lost_s;   /* since when a host is lost; 0: none is */
    double doomed_s; /* since when the job cannot begin any more; 0: it can */
};

static int hosts_count(const struct leader *leader)
{
    return (int)leader->job->hosts->names.count;
}

static void enter(struct leader *leader, enum phase phase)
{
    leader->phase = phase;
    leader->phase_s = clock_now_s();
}

/* The job fails for a reason that nobody has told yet; the first one counts. */
static void fail(struct leader *leader, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void fail(struct leader *leader, int code, const char *fmt, ...)
{
    char text[2 * LAUNCH_FAILURE_BYTES];
    va_list args;

    if (leader->outcome->code != 0)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    launch_outcome_set(leader->outcome, code, "%s", text);
    log_error("%s", leader->outcome->failure);
}

/* The ranks. */

static void start_ranks(struct leader *leader)
{
    struct err err = {0};

    if (launch_ranks_start(&leader->ranks, &err) < 0)
        fail(leader, 1, "%s", err.msg);
    enter(leader, PHASE_RUN);
}

/* Everything below us but the connections to other hosts. */
static void kill_ranks(struct leader *leader)
{
    pid_t *keep = calloc(leader->crew.count + 1, sizeof *keep);
    size_t count = 0;

    if (keep == NULL)
        abort();
    for (size_t i = 0; i < leader->crew.count; i++)
        if (leader->crew.at[i].ssh.child > 0)
            keep[count++] = leader->crew.at[i].ssh.child;
    launch_ranks_kill(&leader->ranks, keep, count);
    free(keep);
}

static void reap(struct leader *leader)
{
    pid_t child;
    int status;

    while ((child = waitpid(-1, &status, WNOHANG)) > 0)
        if (!launch_ranks_reap(&leader->ranks, child, status))
            launch_crew_reap(&leader->crew, child, status); /* else an orphan: we are its parent */
}

static void take_signals(struct leader *leader)
{
    struct signalfd_siginfo signal;

    while (read(leader->signal_fd, &signal, sizeof signal) == sizeof signal)
        if (signal.ssi_signo != SIGCHLD)
            launch_stop_take(&leader->stop, (int)signal.ssi_signo, NULL, clock_now_s());
    reap(leader);
}

/* What the other hosts say. */

static const char *text_of(const json_t *message, const char *key)
{
    const char *text = json_string_value(json_object_get(message, key));

    return text == NULL ? "" : text;
}

static int integer_of(const json_t *message, const char *key)
{
    return (int)json_integer_value(json_object_get(message, key));
}

static void take_message(struct leader *leader, struct launch_peer *peer, const json_t *message)
{
    const char *type = text_of(message, "type");

    if (strcmp(type, "failed") == 0) {
        launch_outcome_set(leader->outcome,
                           integer_of(message, "code") > 0 ? integer_of(message, "code") : 1, "%s",
                           text_of(message, "reason"));
        log_error("host '%s' cannot take part: %s", peer->host, text_of(message, "reason"));
    } else if (strcmp(type, "started") == 0) {
        launch_rsh_answer(&leader->rsh, integer_of(message, "number"), text_of(message, "reason"));
    } else if (strcmp(type, "orted") == 0) {
        launch_ranks_lose_orted(&leader->ranks, peer->host);
    } else if (strcmp(type, "ready") == 0) {
        leader->ranks.ready = true;
    } else if (strcmp(type, "model") == 0) {
        leader->ranks.model = true;
    } else if (strcmp(type, "failure") == 0 && leader->ranks.failure[0] == '\0') {
        launch_local_clean(leader->ranks.failure, text_of(message, "reason"),
                           strlen(text_of(message, "reason")));
    } else if (strcmp(type, "stop") == 0) {
        launch_stop_take(&leader->stop, integer_of(message, "signal"), peer->host, clock_now_s());
    } else if (strcmp(type, "over") == 0 || strcmp(type, "done") == 0) {
        peer->answered = true;
    }
}

static void welcome(struct leader *leader, struct launch_peer *peer)
{
    launch_channel_send(peer->channel,
                        json_pack("{s:s, s:s, s:i}", "type", "welcome", "job", leader->job->job,
                                  "hosts", hosts_count(leader)),
                        NULL);
    log_debug("host '%s' is here, by the network %s", peer->host, peer->network);
}

static void lose(struct leader *leader, const struct launch_peer *peer, const char *reason)
{
    if (leader->phase >= PHASE_LEAVE)
        return;
    if (leader->phase == PHASE_DONE) {
        log_warn("host '%s' was lost at the very end: %s", peer->host, reason);
        return;
    }
    if (leader->outcome->code == 0) {
        log_error("host '%s' is lost: %s; the job ends", peer->host, reason);
        leader->lost_s = clock_now_s();
    }
    launch_outcome_set(leader->outcome, LAUNCH_EXIT_PEER, "host '%s' is lost: %s", peer->host,
                       reason);
}

static void hear(struct leader *leader)
{
    struct launch_crew_event event;

    while (launch_crew_next(&leader->crew, &event)) {
        switch (event.kind) {
        case LAUNCH_CREW_HERE:
            welcome(leader, event.peer);
            break;
        case LAUNCH_CREW_MESSAGE:
            take_message(leader, event.peer, event.message);
            json_decref(event.message);
            break;
        case LAUNCH_CREW_LOST:
            lose(leader, event.peer, event.reason);
            break;
        case LAUNCH_CREW_WRONG:
            if (leader->phase == PHASE_GATHER && event.peer != NULL && event.peer->channel == NULL)
                fail(leader, LAUNCH_EXIT_PEER, "%s", event.reason);
            break;
        }
    }
    launch_crew_beat(&leader->crew, clock_now_s());
}

/* What mpirun asks for. */

static void start_own_orted(struct leader *leader, const struct launch_rsh_request *request)
{
    const int number = request->number;
    struct err err = {0};

    launch_ranks_start_orted(&leader->ranks, &request->words, &err);
    launch_rsh_answer(&leader->rsh, number, err.msg);
}

static void pass_on(struct leader *leader, const struct launch_rsh_request *request,
                    struct launch_peer *peer)
{
    const int number = request->number;
    json_t *words = json_array();
    struct err err = {0};

    /* A word that is no UTF-8 makes no message, which is said. */
    for (size_t i = 0; words != NULL && i < request->words.count; i++)
        if (json_array_append_new(words, json_string(request->words.at[i])) < 0) {
            json_decref(words);
            words = NULL;
        }
    if (launch_channel_send(
            peer->channel,
            json_pack("{s:s, s:i, s:o}", "type", "run", "number", number, "words", words),
            &err) < 0)
        launch_rsh_answer(&leader->rsh, number, err.msg);
}

static void serve_rsh(struct leader *leader)
{
    const struct launch_hosts *hosts = leader->job->hosts;
    const struct launch_rsh_request *request;

    while ((request = launch_rsh_next(&leader->rsh)) != NULL) {
        struct launch_peer *peer = launch_crew_find(&leader->crew, request->host);

        if (leader->phase != PHASE_RUN || leader->outcome->code != 0)
            launch_rsh_answer(&leader->rsh, request->number, "the job is ending");
        else if (peer != NULL && peer->channel != NULL)
            pass_on(leader, request, peer);
        else if (hosts->own >= 0 && strcmp(hosts->names.at[hosts->own], request->host) == 0)
            start_own_orted(leader, request);
        else
            launch_rsh_answer(&leader->rsh, request->number, "this host is not one of the job's");
    }
}

/* Open MPI's networks: the interface that was named, else the network by which the hosts reached
 * each other, unless the user chose. */
static void choose_network(const struct leader *leader)
{
    const struct launch_options *options = leader->job->options;
    const char *name = options->interface;
    char cover[LAUNCH_ADDRESS_CHARS] = "", own[LAUNCH_ADDRESS_CHARS];

    if (name == NULL && leader->job->sagemaker != NULL)
        name = leader->job->sagemaker->interface;
    if (name != NULL && if_nametoindex(name) != 0) {
        launch_mpirun_network(name);
        return;
    }
    if (name != NULL)
        log_warn("this host has no network interface '%s'", name);
    for (size_t i = 0; i < leader->crew.count; i++) {
        launch_network_of(launch_channel_fd(leader->crew.at[i].channel), own);
        if (!launch_network_cover(cover, own) ||
            !launch_network_cover(cover, leader->crew.at[i].network))
            return;
    }
    log_debug("the ranks' network is %s", cover);
    launch_mpirun_network(cover);
}

/* The phases. */

static void begin_run(struct leader *leader)
{
    const int ranks = leader->job->options->ranks;

    if (launch_hosts_several(leader->job->hosts)) {
        choose_network(leader);
        log_info("all %d hosts are here; starting %d rank%s on each", hosts_count(leader), ranks,
                 ranks == 1 ? "" : "s");
    }
    start_ranks(leader);
}

static void over(struct leader *leader)
{
    launch_crew_tell(&leader->crew, json_pack("{s:s}", "type", "over"));
    enter(leader, PHASE_OVER);
}

static void gather(struct leader *leader)
{
    const double now_s = clock_now_s(), waited_s = now_s - leader->phase_s;
    const int limit_s = leader->job->options->rendezvous_s;
    const bool here = launch_crew_all_here(&leader->crew);
    char missing[600];

    launch_crew_missing(&leader->crew, missing, sizeof missing);
    if (leader->stop.asked)
        launch_outcome_set(leader->outcome, LAUNCH_EXIT_STOPPED,
                           "stopped before all hosts were here");
    else if (!here && waited_s > limit_s)
        fail(leader, LAUNCH_EXIT_PEER,
             "the first host waited %d s (--rendezvous-timeout) in vain for: %s%s", limit_s,
             missing, launch_sagemaker_late(leader->job->sagemaker));
    if (leader->outcome->code == 0) {
        if (here)
            begin_run(leader);
        else if (now_s - leader->said_s > MISSING_SAY_S) {
            log_info("waiting for: %s", missing);
            leader->said_s = now_s;
        }
        return;
    }
    if (leader->doomed_s == 0)
        leader->doomed_s = now_s;
    if (here || leader->job->hosts->kind == LAUNCH_HOSTS_SSH || waited_s > limit_s ||
        now_s - leader->doomed_s > (leader->stop.asked ? END_S : STRAGGLERS_S))
        over(leader);
}

static void act_on_stop(struct leader *leader)
{
    switch (launch_stop_next(&leader->stop, leader->ranks.ready, clock_now_s())) {
    case LAUNCH_STOP_NOTHING:
        break;
    case LAUNCH_STOP_ASK:
        if (leader->ranks.child > 0)
            kill(leader->ranks.child, SIGUSR1);
        break;
    case LAUNCH_STOP_END:
        launch_ranks_end(&leader->ranks);
        break;
    case LAUNCH_STOP_KILL:
        kill_ranks(leader);
        break;
    }
}

static void run(struct leader *leader)
{
    struct launch_ranks *ranks = &leader->ranks;
    const double now_s = clock_now_s();

    launch_ranks_look(ranks);
    if (ranks->child == 0) {
        over(leader);
        return;
    }
    act_on_stop(leader);
    if (ranks->orted_s != 0 && now_s - ranks->orted_s > ORTED_S)
        fail(leader, LAUNCH_EXIT_PEER, "Open MPI's daemon on host '%s' ended before the job did",
             ranks->orted_host);
    if (leader->outcome->code != 0 && now_s - leader->lost_s > LOST_S)
        launch_ranks_end(ranks);
    if (ranks->end_s != 0 && now_s - ranks->end_s > END_S)
        kill_ranks(leader);
}

/* 0: done; 2: the user's to mend; 75: stopped as asked. After anything else another try may do
 * better. */
static bool may_restart(const struct leader *leader, bool lost)
{
    const int code = leader->outcome->code;

    return !lost && code != 0 && code != 2 && code != LAUNCH_EXIT_STOPPED && !leader->stop.asked &&
           leader->ranks.generations <= leader->job->options->restarts_max;
}

/* SageMaker: a job that was asked to end, by a signal or by --max-run, and has left its model,
 * wherever that goes, has done what it could. */
static void forgive_stop(struct leader *leader)
{
    const struct launch_sagemaker *sagemaker = leader->job->sagemaker;

    if (leader->outcome->code != LAUNCH_EXIT_STOPPED || sagemaker == NULL || !sagemaker->active ||
        !leader->ranks.model)
        return;
    log_info("stopped as asked, and the model so far is left");
    *leader->outcome = (struct launch_outcome){0};
}

static void done(struct leader *leader)
{
    struct launch_outcome *outcome = leader->outcome;

    forgive_stop(leader);
    if (outcome->code != 0 && leader->job->sagemaker != NULL)
        launch_sagemaker_fail(leader->job->sagemaker, outcome->failure);
    launch_crew_tell(&leader->crew, json_pack("{s:s, s:i, s:s}", "type", "done", "code",
                                              outcome->code, "reason", outcome->failure));
    enter(leader, PHASE_DONE);
}

static bool answered(const struct leader *leader, const char *what)
{
    if (launch_crew_all_answered(&leader->crew))
        return true;
    if (clock_now_s() - leader->phase_s < ANSWER_S)
        return false;
    log_warn("not every host has answered within %.0f s that %s", ANSWER_S, what);
    return true;
}

static void finish_over(struct leader *leader)
{
    const bool decided = leader->outcome->code != 0; /* by something else than the ranks' status */

    if (!answered(leader, "its ranks have ended"))
        return;
    if (leader->ranks.orted != 0 && clock_now_s() - leader->phase_s <= END_S)
        return;
    kill_ranks(leader);
    launch_ranks_look(&leader->ranks);
    if (!decided && leader->ranks.generations > 0)
        launch_ranks_judge(&leader->ranks, &leader->stop, leader->outcome);
    if (may_restart(leader, decided)) {
        log_warn("the ranks ended with status %d; starting them again, restart %d of at most %d",
                 leader->outcome->code, leader->ranks.generations,
                 leader->job->options->restarts_max);
        *leader->outcome = (struct launch_outcome){0};
        start_ranks(leader);
        return;
    }
    done(leader);
}

static bool all_left(const struct leader *leader)
{
    for (size_t i = 0; i < leader->crew.count; i++)
        if (leader->crew.at[i].ssh.child > 0)
            return false;
    return launch_crew_all_flushed(&leader->crew);
}

static void advance_once(struct leader *leader)
{
    switch (leader->phase) {
    case PHASE_GATHER:
        gather(leader);
        break;
    case PHASE_RUN:
        run(leader);
        break;
    case PHASE_OVER:
        finish_over(leader);
        break;
    case PHASE_DONE:
        if (!answered(leader, "it knows how the job ended"))
            break;
        launch_crew_tell(&leader->crew, json_pack("{s:s}", "type", "leave"));
        enter(leader, PHASE_LEAVE);
        break;
    case PHASE_LEAVE:
        if (all_left(leader) || clock_now_s() - leader->phase_s > FLUSH_S)
            enter(leader, PHASE_END);
        break;
    case PHASE_END:
        break;
    }
}

static void advance(struct leader *leader)
{
    enum phase before;

    do {
        before = leader->phase;
        advance_once(leader);
    } while (leader->phase != before);
}

static void sleep_until_something(struct leader *leader)
{
    launch_polls_add(&leader->polls, leader->signal_fd, POLLIN);
    launch_crew_polls(&leader->crew, &leader->polls);
    if (leader->rsh.fd > 0)
        launch_polls_add(&leader->polls, leader->rsh.fd, POLLIN);
    for (int i = 0; i < leader->rsh.count; i++)
        if (!leader->rsh.at[i].whole)
            launch_polls_add(&leader->polls, leader->rsh.at[i].fd, POLLIN);
    launch_polls_wait(&leader->polls);
}

/* Listen, and over ssh start the agents. */
static int call_crew(struct leader *leader, struct err *err)
{
    const struct launch_leader_job *job = leader->job;
    const bool ssh = job->hosts->kind == LAUNCH_HOSTS_SSH;
    /* Any free port would do over ssh alone: hosts that start by themselves have to know it. */
    const int port = job->options->port > 0 ? job->options->port : ssh ? 0 : LAUNCH_PORT_SAGEMAKER;

    for (size_t i = 0; i < job->hosts->names.count; i++)
        if ((int)i != job->hosts->own)
            launch_words_push(&leader->others, job->hosts->names.at[i]);
    if (launch_crew_open(&leader->crew, leader->others.at, leader->others.count, port, job->key,
                         err) < 0 ||
        launch_rsh_open(&leader->rsh, job->local->rsh, err) < 0)
        return -1;
    leader->crew.job = job->job;
    setenv("CONVOY_RSH", job->local->rsh, 1);
    for (size_t i = 0; ssh && i < leader->crew.count; i++)
        if (launch_handover_start(&leader->crew.at[i], job, leader->crew.port.number, err) < 0)
            return -1;
    log_info("%s %zu other host%s%s, port %d", ssh ? "starting" : "waiting for",
             leader->others.count, leader->others.count == 1 ? "" : "s", ssh ? " over ssh" : "",
             leader->crew.port.number);
    return 0;
}

int launch_leader_run(const struct launch_leader_job *job, struct launch_outcome *outcome,
                      struct err *err)
{
    const bool limited = job->sagemaker != NULL && job->sagemaker->active;
    struct leader leader = {
        .job = job, .outcome = outcome, .said_s = clock_now_s(), .ranks = {.job = job}};
    int rc = -1;

    leader.stop =
        (struct launch_stop){.ready_s = launch_hosts_several(job->hosts) ? LAUNCH_STOP_READY_HOSTS_S
                                                                         : LAUNCH_STOP_READY_S,
                             .limit_s = limited ? LAUNCH_STOP_LIMIT_S : 0};
    launch_family_adopt();
    leader.signal_fd = signalfd(-1, &job->signals->waited, SFD_CLOEXEC | SFD_NONBLOCK);
    if (leader.signal_fd < 0) {
        err_set_errno(err, ERR_INTERNAL, errno, "cannot wait for signals");
        goto out;
    }
    if (launch_hosts_several(job->hosts) && call_crew(&leader, err) < 0)
        goto out;
    enter(&leader, PHASE_GATHER);
    for (advance(&leader); leader.phase != PHASE_END; advance(&leader)) {
        sleep_until_something(&leader);
        take_signals(&leader);
        hear(&leader);
        serve_rsh(&leader);
    }
    rc = 0;
out:
    launch_rsh_close(&leader.rsh);
    kill_ranks(&leader);
    launch_crew_close(&leader.crew);
    launch_words_release(&leader.others);
    if (leader.signal_fd >= 0)
        close(leader.signal_fd);
    return rc;
}
