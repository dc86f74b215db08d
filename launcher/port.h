/*
 * launcher/port.h -- the leader's port: who comes in.
 *
 * Anyone may connect, so callers wait in front of the door: each has LAUNCH_PORT_GREETING_S for the
 * whole handshake, however slowly its bytes come, and only LAUNCH_PORT_CALLERS_MAX wait at a time
 * (the one that waited longest makes room). Who is refused is told in the log, one line a second at
 * most.
 */
#ifndef LAUNCH_PORT_H
#define LAUNCH_PORT_H

#include "launcher/channel.h"

struct err;

#define LAUNCH_PORT_GREETING_S  5.0
#define LAUNCH_PORT_CALLERS_MAX 64

struct launch_caller {
    struct launch_channel *channel;
    double came_s;
    char from[64]; /* its address */
};

struct launch_port {
    int fd, number;
    unsigned char key[LAUNCH_KEY_BYTES];
    struct launch_caller callers[LAUNCH_PORT_CALLERS_MAX]; /* in the order in which they came */
    int callers_count;
    double said_s; /* when a refusal was logged last */
    int unsaid;    /* refusals since then */
};

/** number 0: any free port. ERR_IO. */
int launch_port_open(struct launch_port *port, int number,
                     const unsigned char key[LAUNCH_KEY_BYTES], struct err *err);
/** Accepts all-zero. */
void launch_port_close(struct launch_port *port);

/** Let callers go on with their handshakes. Returns one that has proved it knows the key, the
 * caller's to free, with its address in from; NULL: none more for now. */
struct launch_channel *launch_port_next(struct launch_port *port, char from[64]);

/** Log that a caller was refused, or count it where a line was written just now. */
void launch_port_refuse(struct launch_port *port, const char *from, const char *reason);

#endif
