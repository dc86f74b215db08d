#include "launcher/crew.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "launcher/polls.h"

#define NAMES_SHOWN_MAX 8

int launch_crew_open(struct launch_crew *crew, char *const *hosts, size_t count, int port,
                     const unsigned char key[LAUNCH_KEY_BYTES], struct err *err)
{
    *crew = (struct launch_crew){0};
    if (launch_port_open(&crew->port, port, key, err) < 0)
        return -1;
    crew->at = calloc(count, sizeof *crew->at);
    if (crew->at == NULL)
        abort();
    crew->count = count;
    for (size_t i = 0; i < count; i++)
        crew->at[i].host = hosts[i];
    return 0;
}

void launch_crew_close(struct launch_crew *crew)
{
    for (int i = 0; i < crew->strangers_count; i++)
        launch_channel_free(crew->strangers[i].channel);
    for (size_t i = 0; i < crew->count; i++) {
        launch_channel_free(crew->at[i].channel);
        launch_ssh_release(&crew->at[i].ssh);
    }
    free(crew->at);
    launch_port_close(&crew->port);
    *crew = (struct launch_crew){0};
}

void launch_crew_polls(const struct launch_crew *crew, struct launch_polls *polls)
{
    if (crew->count == 0)
        return;
    launch_polls_add(polls, crew->port.fd, POLLIN);
    for (int i = 0; i < crew->port.callers_count; i++)
        launch_polls_add(polls, launch_channel_fd(crew->port.callers[i].channel),
                         launch_channel_events(crew->port.callers[i].channel));
    for (int i = 0; i < crew->strangers_count; i++)
        launch_polls_add(polls, launch_channel_fd(crew->strangers[i].channel),
                         launch_channel_events(crew->strangers[i].channel));
    for (size_t i = 0; i < crew->count; i++) {
        if (crew->at[i].channel != NULL)
            launch_polls_add(polls, launch_channel_fd(crew->at[i].channel),
                             launch_channel_events(crew->at[i].channel));
        launch_ssh_polls(&crew->at[i].ssh, polls);
    }
}

struct launch_peer *launch_crew_find(struct launch_crew *crew, const char *host)
{
    for (size_t i = 0; i < crew->count; i++)
        if (strcmp(crew->at[i].host, host) == 0)
            return &crew->at[i];
    return NULL;
}

static void drop_stranger(struct launch_crew *crew, int index)
{
    crew->strangers_count--;
    memmove(crew->strangers + index, crew->strangers + index + 1,
            (size_t)(crew->strangers_count - index) * sizeof crew->strangers[0]);
}

static const char *text_of(const json_t *message, const char *key)
{
    const char *text = json_string_value(json_object_get(message, key));

    return text == NULL ? "" : text;
}

/* Why who greets so cannot take part; "": it can. */
static void judge(struct launch_crew *crew, const json_t *hello, struct launch_peer **peer,
                  char reason[1200])
{
    const char *host = text_of(hello, "host"), *job = text_of(hello, "job"),
               *version = text_of(hello, "version");

    reason[0] = '\0';
    *peer = launch_crew_find(crew, host);
    if (strcmp(text_of(hello, "type"), "hello") != 0)
        snprintf(reason, 1200, "it does not greet");
    else if (*peer == NULL)
        snprintf(reason, 1200, "host '%.200s' is not one of this job's", host);
    else if ((*peer)->channel != NULL || (*peer)->lost)
        snprintf(reason, 1200, "host '%.200s' is here already, or was lost", host);
    else if (strcmp(version, CONVOY_VERSION) != 0)
        snprintf(reason, 1200,
                 "host '%.200s' runs Convoy %.50s, the first host runs %s: install one version",
                 host, version, CONVOY_VERSION);
    else if (crew->job != NULL && job[0] != '\0' && strcmp(job, crew->job) != 0)
        snprintf(reason, 1200, "host '%.200s' belongs to the job '%.300s', not to '%.300s'", host,
                 job, crew->job);
}

static void take_hello(struct launch_crew *crew, int index, const json_t *hello,
                       struct launch_crew_event *event)
{
    struct launch_caller stranger = crew->strangers[index];
    struct launch_peer *peer;

    drop_stranger(crew, index);
    *event = (struct launch_crew_event){.kind = LAUNCH_CREW_WRONG};
    judge(crew, hello, &peer, event->reason);
    event->peer = peer;
    if (event->reason[0] != '\0') {
        launch_port_refuse(&crew->port, stranger.from, event->reason);
        launch_channel_send(stranger.channel,
                            json_pack("{s:s, s:s}", "type", "refused", "reason", event->reason),
                            NULL);
        launch_channel_pump(stranger.channel, NULL);
        launch_channel_free(stranger.channel);
        return;
    }
    peer->channel = stranger.channel;
    peer->ssh.through = true;
    snprintf(peer->network, sizeof peer->network, "%s", text_of(hello, "network"));
    event->kind = LAUNCH_CREW_HERE;
}

/* Who proved to know the key has the rest of the greeting's time to say who it is. */
static bool next_stranger(struct launch_crew *crew, struct launch_crew_event *event)
{
    struct launch_caller caller = {.came_s = clock_now_s()};

    while (crew->strangers_count < LAUNCH_PORT_CALLERS_MAX &&
           (caller.channel = launch_port_next(&crew->port, caller.from)) != NULL)
        crew->strangers[crew->strangers_count++] = caller;
    for (int i = 0; i < crew->strangers_count;) {
        struct launch_caller *stranger = &crew->strangers[i];
        struct err err = {0};
        const int rc = launch_channel_pump(stranger->channel, &err);
        json_t *hello = launch_channel_next(stranger->channel, rc < 0 ? NULL : &err);

        if (hello != NULL) {
            take_hello(crew, i, hello, event);
            json_decref(hello);
            return true;
        }
        if (err.code == ERR_NONE && clock_now_s() - stranger->came_s > LAUNCH_PORT_GREETING_S)
            err_set(&err, ERR_PEER, "it did not greet");
        if (err.code == ERR_NONE) {
            i++;
            continue;
        }
        launch_port_refuse(&crew->port, stranger->from, err.msg);
        launch_channel_free(stranger->channel);
        drop_stranger(crew, i);
    }
    return false;
}

static bool lose(struct launch_peer *peer, const char *reason, struct launch_crew_event *event)
{
    launch_channel_free(peer->channel);
    peer->channel = NULL;
    peer->lost = true;
    *event = (struct launch_crew_event){.kind = LAUNCH_CREW_LOST, .peer = peer};
    snprintf(event->reason, sizeof event->reason, "%s", reason);
    return true;
}

/* Messages that came before a connection broke count: they may say why. */
static bool next_of(struct launch_peer *peer, struct launch_crew_event *event)
{
    struct err broken = {0}, bad = {0};
    json_t *message = launch_channel_next(peer->channel, &bad);

    if (message == NULL && bad.code == ERR_NONE) {
        launch_channel_pump(peer->channel, &broken);
        message = launch_channel_next(peer->channel, &bad);
    }
    if (message != NULL) {
        *event = (struct launch_crew_event){
            .kind = LAUNCH_CREW_MESSAGE, .peer = peer, .message = message};
        return true;
    }
    if (bad.code != ERR_NONE)
        return lose(peer, bad.msg, event);
    if (broken.code != ERR_NONE)
        return lose(peer, broken.msg, event);
    if (clock_now_s() - launch_channel_heard_s(peer->channel) > LAUNCH_SILENCE_S)
        return lose(peer, "it has been silent for 15 s", event);
    return false;
}

bool launch_crew_next(struct launch_crew *crew, struct launch_crew_event *event)
{
    if (crew->count == 0)
        return false;
    if (next_stranger(crew, event))
        return true;
    for (size_t i = 0; i < crew->count; i++) {
        struct launch_peer *peer = &crew->at[i];

        launch_ssh_step(&peer->ssh);
        if (peer->channel != NULL && next_of(peer, event))
            return true;
        if (peer->channel == NULL && !peer->lost && peer->ssh.ended) {
            char reason[512];

            launch_ssh_reason(&peer->ssh, reason);
            return lose(peer, reason, event);
        }
    }
    return false;
}

bool launch_crew_reap(struct launch_crew *crew, pid_t child, int status)
{
    for (size_t i = 0; i < crew->count; i++) {
        struct launch_ssh *ssh = &crew->at[i].ssh;

        if (ssh->child != child)
            continue;
        ssh->child = 0;
        ssh->ended = true;
        ssh->status = status;
        return true;
    }
    return false;
}

void launch_crew_beat(struct launch_crew *crew, double now_s)
{
    if (now_s - crew->beat_s < LAUNCH_BEAT_S)
        return;
    crew->beat_s = now_s;
    for (size_t i = 0; i < crew->count; i++)
        if (crew->at[i].channel != NULL)
            launch_channel_send(crew->at[i].channel, json_pack("{s:s}", "type", "beat"), NULL);
}

void launch_crew_tell(struct launch_crew *crew, json_t *message)
{
    struct err err = {0};

    for (size_t i = 0; i < crew->count; i++) {
        if (crew->at[i].channel == NULL)
            continue;
        if (launch_channel_send(crew->at[i].channel, json_incref(message), &err) < 0)
            log_error("cannot tell host '%s': %s", crew->at[i].host, err.msg);
        crew->at[i].answered = false;
    }
    json_decref(message);
}

bool launch_crew_all_here(const struct launch_crew *crew)
{
    for (size_t i = 0; i < crew->count; i++)
        if (crew->at[i].channel == NULL)
            return false;
    return true;
}

bool launch_crew_all_answered(const struct launch_crew *crew)
{
    for (size_t i = 0; i < crew->count; i++)
        if (crew->at[i].channel != NULL && !crew->at[i].answered)
            return false;
    return true;
}

bool launch_crew_all_flushed(const struct launch_crew *crew)
{
    for (size_t i = 0; i < crew->count; i++)
        if (crew->at[i].channel != NULL && !launch_channel_flushed(crew->at[i].channel))
            return false;
    return true;
}

void launch_crew_missing(const struct launch_crew *crew, char *text, size_t bytes)
{
    size_t missing = 0, used = 0;

    text[0] = '\0';
    for (size_t i = 0; i < crew->count; i++) {
        if (crew->at[i].channel != NULL)
            continue;
        if (missing++ < NAMES_SHOWN_MAX && used < bytes)
            used += (size_t)snprintf(text + used, bytes - used, "%s%s", used == 0 ? "" : ", ",
                                     crew->at[i].host);
    }
    if (missing > NAMES_SHOWN_MAX && used < bytes)
        snprintf(text + used, bytes - used, " and %zu more", missing - NAMES_SHOWN_MAX);
}
