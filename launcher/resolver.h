/*
 * launcher/resolver.h -- a host's name looked up without waiting for it.
 *
 * getaddrinfo blocks for as long as name servers are silent, so a child process calls it. On
 * SageMaker a host's name may be unknown for some time after the start: ask again.
 */
#ifndef LAUNCH_RESOLVER_H
#define LAUNCH_RESOLVER_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

struct err;

#define LAUNCH_RESOLVER_ADDRESSES_MAX 8

struct launch_addresses {
    struct sockaddr_storage at[LAUNCH_RESOLVER_ADDRESSES_MAX]; /* with the port */
    int count;
    int failure; /* getaddrinfo's EAI_... where count is 0 */
};

struct launch_resolver {
    int fd; /* poll for POLLIN; -1: not at work */
    pid_t child;
};

/** Begin. ERR_IO: no process to be had. */
int launch_resolver_start(struct launch_resolver *resolver, const char *host, int port,
                          struct err *err);
/** Whether it is done, with the result. Then it is at rest again. The child's end is reaped by the
 * caller's waitpid(-1). */
bool launch_resolver_done(struct launch_resolver *resolver, struct launch_addresses *addresses);
/** Ends the child. Accepts one at rest (fd -1). */
void launch_resolver_stop(struct launch_resolver *resolver);

#endif
