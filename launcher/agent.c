#include "launcher/agent.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
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
#include "launcher/polls.h"
#include "launcher/resolver.h"
#include "launcher/sagemaker.h"
#include "launcher/stop.h"
#include "launcher/words.h"

#define RETRY_FIRST_S 0.1
#define RETRY_MAX_S   5.0
/* One try to connect: an address that answers nothing must not use up the time of the others. */
#define CONNECT_S     10.0
/* How long daemon and ranks may take to end by themselves after the job has. */
#define LINGER_S      2.0
#define WAITING_SAY_S 60.0
/* A host that is asked to end and has something to tell still looks for the leader so long. */
#define TELL_S        10.0

struct agent {
    const struct launch_agent_job *job;
    struct launch_outcome *outcome;
    struct launch_polls polls;
    int signal_fd;
    struct launch_resolver resolver;
    struct launch_addresses addresses;
    int address_index;
    struct launch_channel *channel;
    double called_s, retry_s, retry_wait_s, began_s, said_s;
    char trouble[1024]; /* why there is no leader yet */
    bool welcome;       /* the leader has taken us */
    bool told_ready, told_model, told_failure, done, end;
    pid_t orted;
    double over_s; /* since when we wait for what is left of a generation; 0: not */
    double stop_s; /* when the first signal came; 0: none */
    double beat_s;
};

static void say(struct agent *agent, json_t *message)
{
    struct err err = {0};

    if (agent->channel != NULL && launch_channel_send(agent->channel, message, &err) < 0)
        log_error("cannot tell the first host: %s", err.msg);
    else if (agent->channel == NULL)
        json_decref(message);
}

/* Looking for the leader. */

static void try_later(struct agent *agent, const char *reason)
{
    log_debug("the first host is not reached yet: %s", reason);
    snprintf(agent->trouble, sizeof agent->trouble, "%s", reason);
    launch_channel_free(agent->channel);
    agent->channel = NULL;
    agent->retry_s = clock_now_s() + agent->retry_wait_s;
    agent->retry_wait_s =
        2 * agent->retry_wait_s < RETRY_MAX_S ? 2 * agent->retry_wait_s : RETRY_MAX_S;
}

static void call(struct agent *agent)
{
    const struct sockaddr_storage *address = &agent->addresses.at[agent->address_index++];
    const int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const socklen_t bytes =
        address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);

    if (fd < 0 ||
        (connect(fd, (const struct sockaddr *)address, bytes) < 0 && errno != EINPROGRESS)) {
        const int why = errno;

        if (fd >= 0)
            close(fd);
        try_later(agent, strerror(why));
        return;
    }
    agent->called_s = clock_now_s();
    agent->channel = launch_channel_new(fd, LAUNCH_CALLER, agent->job->key);
}

static void greet(struct agent *agent)
{
    char network[LAUNCH_ADDRESS_CHARS];

    launch_network_of(launch_channel_fd(agent->channel), network);
    say(agent, json_pack("{s:s, s:s, s:s, s:s, s:s}", "type", "hello", "host", agent->job->host,
                         "job", agent->job->job == NULL ? "" : agent->job->job, "version",
                         CONVOY_VERSION, "network", network));
    if (agent->outcome->code != 0)
        say(agent, json_pack("{s:s, s:i, s:s}", "type", "failed", "code", agent->outcome->code,
                             "reason", agent->outcome->failure));
}

static void look_for_leader(struct agent *agent)
{
    struct err err = {0};

    if (agent->resolver.fd >= 0) {
        if (!launch_resolver_done(&agent->resolver, &agent->addresses))
            return;
        agent->address_index = 0;
        if (agent->addresses.count == 0)
            try_later(agent, gai_strerror(agent->addresses.failure));
    }
    if (clock_now_s() < agent->retry_s)
        return;
    if (agent->address_index < agent->addresses.count) {
        call(agent);
    } else {
        agent->addresses.count = 0;
        if (launch_resolver_start(&agent->resolver, agent->job->address, agent->job->port, &err) <
            0)
            try_later(agent, err.msg);
    }
}

static void finish_greeting(struct agent *agent)
{
    struct err err = {0};
    socklen_t bytes = sizeof(int);
    int failure = 0, rc;

    /* Why a connection did not come about is told here alone: reading from it looks like an end. */
    getsockopt(launch_channel_fd(agent->channel), SOL_SOCKET, SO_ERROR, &failure, &bytes);
    if (failure != 0) {
        try_later(agent, strerror(failure));
        return;
    }
    rc = launch_channel_pump(agent->channel, &err);
    if (launch_channel_authentic(agent->channel))
        greet(agent);
    else if (rc < 0)
        try_later(agent, err.msg);
    else if (clock_now_s() - agent->called_s > CONNECT_S)
        try_later(agent, "no answer");
}

static void watch_rendezvous(struct agent *agent)
{
    const struct launch_agent_job *job = agent->job;
    const double now_s = clock_now_s();

    if (now_s - agent->began_s > job->rendezvous_s) {
        launch_outcome_set(agent->outcome, LAUNCH_EXIT_PEER,
                           "host '%s': the first host, '%s', was not to be reached at '%s' port %d "
                           "within %d s: %s%s",
                           job->host, job->leader, job->address, job->port, job->rendezvous_s,
                           agent->trouble, launch_sagemaker_late(job->sagemaker));
        agent->end = true;
    } else if (agent->stop_s != 0 && now_s - agent->stop_s > TELL_S) {
        agent->end = true;
    } else if (now_s - agent->said_s > WAITING_SAY_S) {
        log_info("waiting for the first host, '%s' at '%s' port %d: %s", job->leader, job->address,
                 job->port, agent->trouble);
        agent->said_s = now_s;
    }
}

/* What the leader says. */

static const char *text_of(const json_t *message, const char *key)
{
    const char *text = json_string_value(json_object_get(message, key));

    return text == NULL ? "" : text;
}

static void take_welcome(struct agent *agent, const json_t *message)
{
    char hosts[16];

    snprintf(hosts, sizeof hosts, "%d", (int)json_integer_value(json_object_get(message, "hosts")));
    setenv("CONVOY_HOSTS", hosts, 1);
    setenv("CONVOY_JOB", text_of(message, "job"), 1);
    agent->welcome = true;
    log_info("host '%s' waits for work from the first host, '%s'", agent->job->host,
             agent->job->leader);
}

static void take_run(struct agent *agent, const json_t *message)
{
    const json_t *list = json_object_get(message, "words"), *word;
    struct launch_words words = {0};
    struct err err = {0};
    size_t i;

    json_array_foreach(list, i, word)
    {
        if (json_is_string(word))
            launch_words_push(&words, json_string_value(word));
    }
    if (agent->orted != 0)
        err_set(&err, ERR_INPUT, "orted runs here already");
    else if ((agent->orted = launch_local_orted(agent->job->local, &words, &err)) < 0)
        agent->orted = 0;
    if (err.code != ERR_NONE)
        log_error("%s", err.msg);
    say(agent, json_pack("{s:s, s:O, s:s}", "type", "started", "number",
                         json_object_get(message, "number"), "reason", err.msg));
    launch_words_release(&words);
}

static void take_done(struct agent *agent, const json_t *message)
{
    struct launch_outcome told = {.code =
                                      (int)json_integer_value(json_object_get(message, "code"))};

    launch_local_clean(told.failure, text_of(message, "reason"),
                       strlen(text_of(message, "reason")));
    *agent->outcome = told;
    agent->done = true;
    if (told.code != 0 && agent->job->sagemaker != NULL)
        launch_sagemaker_fail(agent->job->sagemaker, told.failure);
    say(agent, json_pack("{s:s}", "type", "done"));
}

static void take(struct agent *agent, const json_t *message)
{
    const char *type = text_of(message, "type");

    if (strcmp(type, "welcome") == 0) {
        take_welcome(agent, message);
    } else if (strcmp(type, "refused") == 0) {
        launch_outcome_set(agent->outcome, LAUNCH_EXIT_PEER, "the first host, '%s', says: %s",
                           agent->job->leader, text_of(message, "reason"));
        agent->end = true;
    } else if (strcmp(type, "run") == 0) {
        take_run(agent, message);
    } else if (strcmp(type, "over") == 0) {
        agent->over_s = clock_now_s();
    } else if (strcmp(type, "done") == 0) {
        take_done(agent, message);
    } else if (strcmp(type, "leave") == 0) {
        agent->end = true;
    }
}

static void lose_leader(struct agent *agent, const char *reason)
{
    agent->end = true;
    if (agent->done) /* it has told how the job ended */
        return;
    if (!agent->welcome && agent->outcome->code != 0) /* it needed no telling */
        return;
    launch_outcome_set(agent->outcome, LAUNCH_EXIT_PEER,
                       "host '%s' has lost the first host, '%s': %s; the job has ended",
                       agent->job->host, agent->job->leader, reason);
}

static void serve(struct agent *agent)
{
    struct err broken = {0}, bad = {0};
    json_t *message;

    launch_channel_pump(agent->channel, &broken);
    while (!agent->end && (message = launch_channel_next(agent->channel, &bad)) != NULL) {
        take(agent, message);
        json_decref(message);
    }
    if (agent->end)
        return;
    if (bad.code == ERR_NONE)
        bad = broken;
    if (bad.code != ERR_NONE && !agent->welcome && agent->outcome->code == 0)
        try_later(agent, bad.msg);
    else if (bad.code != ERR_NONE)
        lose_leader(agent, bad.msg);
    else if (clock_now_s() - launch_channel_heard_s(agent->channel) > LAUNCH_SILENCE_S)
        lose_leader(agent, "it has been silent for 15 s");
}

/* What happens here. */

static void reap(struct agent *agent)
{
    pid_t child;
    int status;

    while ((child = waitpid(-1, &status, WNOHANG)) > 0) {
        if (child != agent->orted)
            continue; /* a name was looked up, or an orphan whose parent we have become */
        agent->orted = 0;
        say(agent,
            json_pack("{s:s, s:i}", "type", "orted", "status", launch_child_exit_code(status)));
    }
}

static void take_signals(struct agent *agent)
{
    struct signalfd_siginfo signal;

    while (read(agent->signal_fd, &signal, sizeof signal) == sizeof signal) {
        const int number = (int)signal.ssi_signo;
        const bool first = agent->stop_s == 0;

        if (number == SIGCHLD)
            continue;
        if (first)
            agent->stop_s = clock_now_s();
        if (agent->welcome) {
            say(agent, json_pack("{s:s, s:i}", "type", "stop", "signal", number));
            continue;
        }
        if (first && agent->outcome->code != 0) /* the others wait for us until they know it */
            continue;
        launch_outcome_set(agent->outcome, LAUNCH_EXIT_STOPPED,
                           "%s before the first host was reached", strsignal(number));
        agent->end = true;
    }
    reap(agent);
}

/* The leader forces the end in time; where it does not, or cannot reach us, the platform would. */
static void watch_limit(struct agent *agent)
{
    const bool limited = agent->job->sagemaker != NULL && agent->job->sagemaker->active;

    if (!limited || agent->stop_s == 0 ||
        clock_now_s() - agent->stop_s < LAUNCH_STOP_LIMIT_S + LINGER_S)
        return;
    launch_outcome_set(agent->outcome, LAUNCH_EXIT_STOPPED,
                       "host '%s': the job has not ended within %.0f s of the signal",
                       agent->job->host, LAUNCH_STOP_LIMIT_S);
    agent->end = true;
}

static void watch_files(struct agent *agent)
{
    char text[LAUNCH_FAILURE_BYTES];

    if (!agent->told_ready && launch_local_ready(agent->job->local)) {
        say(agent, json_pack("{s:s}", "type", "ready"));
        agent->told_ready = true;
    }
    if (!agent->told_model && launch_local_model(agent->job->local)) {
        say(agent, json_pack("{s:s}", "type", "model"));
        agent->told_model = true;
    }
    if (!agent->told_failure && launch_local_failure(agent->job->local, text)) {
        say(agent, json_pack("{s:s, s:s}", "type", "failure", "reason", text));
        agent->told_failure = true;
    }
}

static void watch_input(struct agent *agent)
{
    char bytes[256];

    if (agent->job->input < 0)
        return;
    while (!agent->end) {
        const ssize_t got = read(agent->job->input, bytes, sizeof bytes);

        if (got < 0)
            return;
        if (got == 0)
            lose_leader(agent, "its ssh has ended");
    }
}

static void end_generation(struct agent *agent)
{
    if (agent->orted != 0 && clock_now_s() - agent->over_s < LINGER_S)
        return;
    launch_family_end(NULL, 0);
    agent->orted = 0;
    watch_files(agent); /* what the ranks said last */
    launch_local_clear(agent->job->local);
    agent->told_ready = agent->told_model = agent->told_failure = false;
    agent->over_s = 0;
    say(agent, json_pack("{s:s}", "type", "over"));
}

static void turn(struct agent *agent)
{
    const double now_s = clock_now_s();

    if (agent->channel == NULL)
        look_for_leader(agent);
    else if (!launch_channel_authentic(agent->channel))
        finish_greeting(agent);
    else
        serve(agent);
    if (!agent->end && !agent->welcome)
        watch_rendezvous(agent);
    if (agent->welcome && now_s - agent->beat_s >= LAUNCH_BEAT_S) {
        say(agent, json_pack("{s:s}", "type", "beat"));
        agent->beat_s = now_s;
    }
    if (agent->welcome)
        watch_files(agent);
    if (agent->over_s != 0)
        end_generation(agent);
    watch_input(agent);
    watch_limit(agent);
    if (agent->channel != NULL && launch_channel_authentic(agent->channel))
        launch_channel_pump(agent->channel, NULL);
}

static void sleep_until_something(struct agent *agent)
{
    launch_polls_add(&agent->polls, agent->signal_fd, POLLIN);
    launch_polls_add(&agent->polls, agent->resolver.fd, POLLIN);
    launch_polls_add(&agent->polls, agent->job->input, POLLIN);
    if (agent->channel != NULL)
        launch_polls_add(&agent->polls, launch_channel_fd(agent->channel),
                         launch_channel_events(agent->channel));
    launch_polls_wait(&agent->polls);
}

/* On SIGTERM the daemon ends its ranks and removes their shared memory. */
static void end_orted(struct agent *agent)
{
    const double until_s = clock_now_s() + LINGER_S;

    if (agent->orted != 0)
        kill(agent->orted, SIGTERM);
    while (agent->orted != 0 && clock_now_s() < until_s) {
        clock_sleep_s(0.02);
        reap(agent);
    }
    launch_family_end(NULL, 0);
}

void launch_agent_run(const struct launch_agent_job *job, struct launch_outcome *outcome)
{
    struct agent agent = {.job = job,
                          .outcome = outcome,
                          .resolver = {.fd = -1},
                          .retry_wait_s = RETRY_FIRST_S,
                          .began_s = clock_now_s(),
                          .said_s = clock_now_s(),
                          .trouble = "no answer yet"};

    launch_family_adopt();
    agent.signal_fd = signalfd(-1, &job->signals->waited, SFD_CLOEXEC | SFD_NONBLOCK);
    if (agent.signal_fd < 0) {
        launch_outcome_set(outcome, 1, "host '%s' cannot wait for signals: %s", job->host,
                           strerror(errno));
        return;
    }
    while (!agent.end) {
        sleep_until_something(&agent);
        take_signals(&agent);
        if (!agent.end)
            turn(&agent);
    }
    launch_resolver_stop(&agent.resolver);
    end_orted(&agent);
    launch_channel_free(agent.channel);
    close(agent.signal_fd);
}
