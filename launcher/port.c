#include "launcher/port.h"

#include <openssl/crypto.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "launcher/network.h"

#define SAY_INTERVAL_S 1.0
/* Connections taken at a time: a flood of them must not keep the job from being watched. */
#define ACCEPT_MAX     32

int launch_port_open(struct launch_port *port, int number,
                     const unsigned char key[LAUNCH_KEY_BYTES], struct err *err)
{
    *port = (struct launch_port){.said_s = -SAY_INTERVAL_S};
    if (launch_network_listen(number, &port->fd, &port->number, err) < 0) {
        port->fd = 0;
        return -1;
    }
    memcpy(port->key, key, LAUNCH_KEY_BYTES);
    return 0;
}

void launch_port_close(struct launch_port *port)
{
    for (int i = 0; i < port->callers_count; i++)
        launch_channel_free(port->callers[i].channel);
    if (port->fd > 0)
        close(port->fd);
    OPENSSL_cleanse(port->key, sizeof port->key);
    *port = (struct launch_port){0};
}

void launch_port_refuse(struct launch_port *port, const char *from, const char *reason)
{
    const double now_s = clock_now_s();

    if (now_s - port->said_s < SAY_INTERVAL_S) {
        port->unsaid++;
        return;
    }
    if (port->unsaid > 0)
        log_warn("refused a connection from %s to port %d: %s (and %d more since the last such "
                 "line)",
                 from, port->number, reason, port->unsaid);
    else
        log_warn("refused a connection from %s to port %d: %s", from, port->number, reason);
    port->said_s = now_s;
    port->unsaid = 0;
}

static void drop(struct launch_port *port, int index)
{
    port->callers_count--;
    memmove(port->callers + index, port->callers + index + 1,
            (size_t)(port->callers_count - index) * sizeof port->callers[0]);
}

static void refuse(struct launch_port *port, int index, const char *reason)
{
    launch_port_refuse(port, port->callers[index].from, reason);
    launch_channel_free(port->callers[index].channel);
    drop(port, index);
}

static void take_callers(struct launch_port *port)
{
    for (int taken = 0; taken < ACCEPT_MAX; taken++) {
        struct sockaddr_storage address;
        socklen_t bytes = sizeof address;
        const int fd = accept4(port->fd, (struct sockaddr *)&address, &bytes, SOCK_CLOEXEC);
        struct launch_caller *caller;

        if (fd < 0)
            return;
        if (port->callers_count == LAUNCH_PORT_CALLERS_MAX)
            refuse(port, 0, "too many are waiting");
        caller = &port->callers[port->callers_count++];
        launch_network_text(&address, caller->from);
        caller->came_s = clock_now_s();
        caller->channel = launch_channel_new(fd, LAUNCH_CALLED, port->key);
    }
}

struct launch_channel *launch_port_next(struct launch_port *port, char from[64])
{
    take_callers(port);
    for (int i = 0; i < port->callers_count;) {
        struct launch_caller *caller = &port->callers[i];
        struct err err = {0};
        const int rc = launch_channel_pump(caller->channel, &err);

        if (launch_channel_authentic(caller->channel)) {
            struct launch_channel *channel = caller->channel;

            memcpy(from, caller->from, sizeof caller->from);
            drop(port, i);
            return channel;
        }
        if (rc < 0)
            refuse(port, i, err.msg);
        else if (clock_now_s() - caller->came_s > LAUNCH_PORT_GREETING_S)
            refuse(port, i, "no whole greeting within 5 s");
        else
            i++;
    }
    return NULL;
}
