/*
 * launcher/network.h -- addresses: listening, and by which network two hosts reach each other.
 *
 * Open MPI tries every network of a host unless it is told, and hangs where two hosts have networks
 * of the same name that do not meet (docker0 is 172.17.0.0/16 on each). The network of a connection
 * that works is one that works.
 */
#ifndef LAUNCH_NETWORK_H
#define LAUNCH_NETWORK_H

#include <stdbool.h>
#include <sys/socket.h>

struct err;

#define LAUNCH_ADDRESS_CHARS 64 /* "192.0.2.1", "fd00::1"; with the NUL */

/** Listen on every address of this host, not blocking. port 0: any free one. *fd is the caller's to
 * close, *bound the port. ERR_IO names the port. */
int launch_network_listen(int port, int *fd, int *bound, struct err *err);

/** An address as text, without its port. */
void launch_network_text(const struct sockaddr_storage *address, char text[LAUNCH_ADDRESS_CHARS]);

/** Our end's network of a connection, "192.0.2.7/24": our address and its prefix. "": not IPv4, or
 * not found. */
void launch_network_of(int fd, char cidr[LAUNCH_ADDRESS_CHARS]);

/** The smallest network that holds both: ("10.0.1.5/24", "10.0.2.7/24") is "10.0.0.0/22". all ("":
 * none yet) becomes it. False: one of them is no IPv4 network, or they have fewer than 8 bits in
 * common: then there is none to name. */
bool launch_network_cover(char all[LAUNCH_ADDRESS_CHARS], const char *more);

/** ERR_USAGE, and the interfaces that this host has, if the name is none of them. */
int launch_network_check(const char *interface, struct err *err);

/** Whether the text is an address of this host. Names are not looked up. */
bool launch_network_is_own(const char *text);

#endif
