/*
 * tests/lab/fault_relay.h -- requests from clients to one server and answers back, with the faults
 * of a plan. A thread for each connection.
 */
#ifndef TESTS_LAB_FAULT_RELAY_H
#define TESTS_LAB_FAULT_RELAY_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>

struct fault_plan;
struct fault_relay;

struct fault_relay_options {
    struct fault_plan *plan;
    struct sockaddr_storage upstream;
    socklen_t upstream_bytes;
    bool tunnel; /* bytes as they are (TLS): a connection is the "request" CONNECTION "-" */
    FILE *log;   /* a line of JSON for each request, when it has come; NULL: none */
};

struct fault_relay *fault_relay_new(const struct fault_relay_options *options);

/** Serve an accepted connection, which is the relay's from now on. */
void fault_relay_serve(struct fault_relay *relay, int fd);

/** What was done so far, as one line of JSON. */
void fault_relay_report(struct fault_relay *relay, FILE *out);

#endif
