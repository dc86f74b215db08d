#include "launcher/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"

#define LISTEN_BACKLOG 128
#define COVER_BITS_MIN 8

static int listen_on(int family, int port)
{
    const int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int one = 1, zero = 0;
    struct sockaddr_storage address = {.ss_family = (sa_family_t)family}; /* every address */
    socklen_t bytes = sizeof(struct sockaddr_in);

    if (fd < 0)
        return -1;
    ((struct sockaddr_in *)&address)->sin_port = htons((uint16_t)port);
    if (family == AF_INET6) {
        ((struct sockaddr_in6 *)&address)->sin6_port = htons((uint16_t)port);
        bytes = sizeof(struct sockaddr_in6);
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (const struct sockaddr *)&address, bytes) == 0 && listen(fd, LISTEN_BACKLOG) == 0)
        return fd;
    close(fd);
    return -1;
}

int launch_network_listen(int port, int *fd, int *bound, struct err *err)
{
    struct sockaddr_storage address;
    socklen_t bytes = sizeof address;

    memset(&address, 0, sizeof address);
    *fd = listen_on(AF_INET6, port);
    if (*fd < 0)
        *fd = listen_on(AF_INET, port);
    if (*fd < 0)
        return err_set_errno(err, ERR_IO, errno, "cannot listen on port %d", port);
    getsockname(*fd, (struct sockaddr *)&address, &bytes);
    *bound = ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                                 : ((struct sockaddr_in *)&address)->sin_port);
    return 0;
}

/* The IPv4 address, also where it is written as an IPv6 one. */
static bool as_ipv4(const struct sockaddr_storage *address, struct in_addr *out)
{
    const struct in6_addr *six = &((const struct sockaddr_in6 *)address)->sin6_addr;

    if (address->ss_family == AF_INET)
        *out = ((const struct sockaddr_in *)address)->sin_addr;
    else if (address->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(six))
        memcpy(out, six->s6_addr + 12, sizeof *out);
    else
        return false;
    return true;
}

void launch_network_text(const struct sockaddr_storage *address, char text[LAUNCH_ADDRESS_CHARS])
{
    struct in_addr four;

    snprintf(text, LAUNCH_ADDRESS_CHARS, "?");
    if (as_ipv4(address, &four))
        inet_ntop(AF_INET, &four, text, LAUNCH_ADDRESS_CHARS);
    else if (address->ss_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, text,
                  LAUNCH_ADDRESS_CHARS);
}

static int bits_of(const struct sockaddr *mask)
{
    return mask == NULL ? 32
                        : __builtin_popcount(((const struct sockaddr_in *)mask)->sin_addr.s_addr);
}

void launch_network_of(int fd, char cidr[LAUNCH_ADDRESS_CHARS])
{
    struct sockaddr_storage own = {0};
    socklen_t bytes = sizeof own;
    struct ifaddrs *all = NULL;
    struct in_addr four;

    cidr[0] = '\0';
    if (getsockname(fd, (struct sockaddr *)&own, &bytes) < 0 || !as_ipv4(&own, &four) ||
        getifaddrs(&all) < 0)
        return;
    for (const struct ifaddrs *at = all; at != NULL && cidr[0] == '\0'; at = at->ifa_next) {
        char text[INET_ADDRSTRLEN];

        if (at->ifa_addr == NULL || at->ifa_addr->sa_family != AF_INET ||
            ((const struct sockaddr_in *)at->ifa_addr)->sin_addr.s_addr != four.s_addr)
            continue;
        inet_ntop(AF_INET, &four, text, sizeof text);
        snprintf(cidr, LAUNCH_ADDRESS_CHARS, "%s/%d", text, bits_of(at->ifa_netmask));
    }
    freeifaddrs(all);
}

static bool read_cidr(const char *text, uint32_t *address, int *bits)
{
    char copy[LAUNCH_ADDRESS_CHARS], *slash, *end;
    struct in_addr four;
    long number;

    snprintf(copy, sizeof copy, "%s", text);
    slash = strchr(copy, '/');
    if (slash == NULL)
        return false;
    *slash = '\0';
    number = strtol(slash + 1, &end, 10);
    if (end == slash + 1 || *end != '\0' || number < 0 || number > 32 ||
        inet_pton(AF_INET, copy, &four) != 1)
        return false;
    *address = ntohl(four.s_addr);
    *bits = (int)number;
    return true;
}

static uint32_t mask_of(int bits)
{
    return bits == 0 ? 0 : 0xffffffffU << (32 - bits);
}

bool launch_network_cover(char all[LAUNCH_ADDRESS_CHARS], const char *more)
{
    uint32_t a, b;
    int a_bits, b_bits;
    char text[INET_ADDRSTRLEN];
    struct in_addr four;

    if (!read_cidr(more, &b, &b_bits))
        return false;
    if (all[0] == '\0') {
        a = b;
        a_bits = b_bits;
    } else if (!read_cidr(all, &a, &a_bits)) {
        return false;
    }
    a_bits = a_bits < b_bits ? a_bits : b_bits;
    while ((a & mask_of(a_bits)) != (b & mask_of(a_bits)))
        a_bits--;
    if (a_bits < COVER_BITS_MIN)
        return false;
    four.s_addr = htonl(a & mask_of(a_bits));
    inet_ntop(AF_INET, &four, text, sizeof text);
    snprintf(all, LAUNCH_ADDRESS_CHARS, "%s/%d", text, a_bits);
    return true;
}

int launch_network_check(const char *interface, struct err *err)
{
    struct if_nameindex *all;
    struct buf list = {0};

    if (if_nametoindex(interface) != 0)
        return 0;
    all = if_nameindex();
    for (const struct if_nameindex *at = all; at != NULL && at->if_name != NULL; at++)
        buf_printf(&list, "%s%s", at == all ? "" : ", ", at->if_name);
    err_set(err, ERR_USAGE, "this host has no network interface '%s'; it has: %s", interface,
            buf_text(&list));
    if_freenameindex(all);
    buf_release(&list);
    return -1;
}

bool launch_network_is_own(const char *text)
{
    struct ifaddrs *all = NULL;
    bool own = false;

    if (getifaddrs(&all) < 0)
        return false;
    for (const struct ifaddrs *at = all; at != NULL && !own; at = at->ifa_next) {
        struct sockaddr_storage address = {0};
        char name[LAUNCH_ADDRESS_CHARS];

        if (at->ifa_addr == NULL ||
            (at->ifa_addr->sa_family != AF_INET && at->ifa_addr->sa_family != AF_INET6))
            continue;
        memcpy(&address, at->ifa_addr,
               at->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in)
                                                  : sizeof(struct sockaddr_in6));
        launch_network_text(&address, name);
        own = strcmp(name, text) == 0;
    }
    freeifaddrs(all);
    return own;
}
