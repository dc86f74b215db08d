#include "launcher/resolver.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/err.h"

static void look_up(const char *host, int port, struct launch_addresses *out)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char service[16];

    snprintf(service, sizeof service, "%d", port);
    out->failure = getaddrinfo(host, service, &hints, &found);
    if (out->failure != 0)
        return;
    for (const struct addrinfo *at = found;
         at != NULL && out->count < LAUNCH_RESOLVER_ADDRESSES_MAX; at = at->ai_next)
        memcpy(&out->at[out->count++], at->ai_addr, at->ai_addrlen);
    freeaddrinfo(found);
}

int launch_resolver_start(struct launch_resolver *resolver, const char *host, int port,
                          struct err *err)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_set_errno(err, ERR_IO, errno, "cannot make a pipe");
    resolver->child = fork();
    if (resolver->child == 0) {
        struct launch_addresses addresses;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        memset(&addresses, 0, sizeof addresses); /* padding too: it goes through a pipe */
        look_up(host, port, &addresses);
        _exit(write(ends[1], &addresses, sizeof addresses) != sizeof addresses);
    }
    close(ends[1]);
    if (resolver->child < 0) {
        close(ends[0]);
        return err_set_errno(err, ERR_IO, errno, "cannot start a process to look up '%s'", host);
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    resolver->fd = ends[0];
    return 0;
}

bool launch_resolver_done(struct launch_resolver *resolver, struct launch_addresses *addresses)
{
    /* Less than a pipe's capacity and written at once: it is there whole or not at all. */
    const ssize_t got = read(resolver->fd, addresses, sizeof *addresses);

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (got != (ssize_t)sizeof *addresses)
        *addresses = (struct launch_addresses){.failure = EAI_SYSTEM};
    close(resolver->fd);
    resolver->fd = -1;
    return true;
}

void launch_resolver_stop(struct launch_resolver *resolver)
{
    if (resolver->fd < 0)
        return;
    kill(resolver->child, SIGKILL);
    close(resolver->fd);
    resolver->fd = -1;
}
