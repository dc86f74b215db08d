/*
 * launcher/crew.h -- the other hosts of a job, as the leader sees them.
 *
 * Each has a connection (channel.h) that it makes to the leader's port and greets on with
 *
 *     {"type":"hello","host":"algo-2","job":"...","version":"0.1.0","network":"10.0.0.2/24"}
 *
 * Both ends send {"type":"beat"} every LAUNCH_BEAT_S; who is silent for LAUNCH_SILENCE_S is lost.
 * The messages between leader and agents are listed in agent.h.
 */
#ifndef LAUNCH_CREW_H
#define LAUNCH_CREW_H

#include <stdbool.h>

#include "launcher/channel.h"
#include "launcher/network.h"
#include "launcher/port.h"
#include "launcher/ssh.h"

struct err;
struct launch_polls;

#define LAUNCH_BEAT_S    1.0
#define LAUNCH_SILENCE_S 15.0

struct launch_peer {
    const char *host;
    struct launch_channel *channel; /* NULL: not here yet, or lost */
    bool lost;
    char network[LAUNCH_ADDRESS_CHARS]; /* by which it reaches us; "": not known */
    struct launch_ssh ssh;
    bool answered; /* what the leader asked for last */
};

struct launch_crew {
    struct launch_peer *at;
    size_t count;
    const char *job; /* NULL: not known, then not compared */
    struct launch_port port;
    struct launch_caller strangers[LAUNCH_PORT_CALLERS_MAX]; /* know the key, have not greeted */
    int strangers_count;
    double beat_s;
};

enum launch_crew_kind {
    LAUNCH_CREW_HERE,    /* the peer has come */
    LAUNCH_CREW_MESSAGE, /* message is its own, the receiver's to json_decref */
    LAUNCH_CREW_LOST,    /* and why */
    LAUNCH_CREW_WRONG,   /* somebody with the key who cannot take part, and why; peer may be NULL */
};

struct launch_crew_event {
    enum launch_crew_kind kind;
    struct launch_peer *peer;
    json_t *message;
    char reason[1200];
};

/** Make room for the peers, whose names the caller keeps, and listen. ERR_IO. */
int launch_crew_open(struct launch_crew *crew, char *const *hosts, size_t count, int port,
                     const unsigned char key[LAUNCH_KEY_BYTES], struct err *err);
/** Accepts all-zero. */
void launch_crew_close(struct launch_crew *crew);

void launch_crew_polls(const struct launch_crew *crew, struct launch_polls *polls);

/** The next thing that happened; false: nothing more for now. Does not block. */
bool launch_crew_next(struct launch_crew *crew, struct launch_crew_event *event);

/** A child ended: true if it was an ssh of ours. */
bool launch_crew_reap(struct launch_crew *crew, pid_t child, int status);

/** Send the beats that are due. */
void launch_crew_beat(struct launch_crew *crew, double now_s);

/** Send to all that are here (message is taken over), and mark them as not having answered. */
void launch_crew_tell(struct launch_crew *crew, json_t *message);

bool launch_crew_all_here(const struct launch_crew *crew);
/** Whether all that are still here have answered; have read all. */
bool launch_crew_all_answered(const struct launch_crew *crew);
bool launch_crew_all_flushed(const struct launch_crew *crew);

/** The names of those not here, "b, c and 3 more". */
void launch_crew_missing(const struct launch_crew *crew, char *text, size_t bytes);

struct launch_peer *launch_crew_find(struct launch_crew *crew, const char *host);

#endif
