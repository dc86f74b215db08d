/*
 * tests/s3io/faults.h -- a server on loopback that answers as a script says, well or badly.
 *
 * Each request, on whatever connection, is answered by the next step; after the last one, by the
 * last one again. It runs in a thread of the test.
 */
#ifndef TESTS_S3IO_FAULTS_H
#define TESTS_S3IO_FAULTS_H

#include <stdbool.h>
#include <stddef.h>

enum fault_then {
    FAULT_KEEP,  /* the connection stays open for the next request */
    FAULT_CLOSE, /* close it behind the text */
    FAULT_RESET, /* reset it (RST) behind the text */
    FAULT_HOLD,  /* say nothing more, until the other side closes it or faults_stop */
};

struct buf;
struct faults;

struct fault_step {
    const char *text;                                     /* sent as it is; NULL: nothing */
    void (*make)(struct faults *faults, struct buf *out); /* appends the text instead; or NULL */
    enum fault_then then;
    size_t bytes;    /* of the text; 0: strlen */
    double drip_s;   /* wait so long after each byte of the body */
    bool at_headers; /* answer when the request's headers are there, not its body */
};

/** Listen on a free port. steps is the caller's and outlives it. */
struct faults *faults_start(const struct fault_step *steps, size_t count);
#define FAULTS(steps) faults_start(steps, sizeof(steps) / sizeof *(steps))
void faults_stop(struct faults *faults);

/** "http://127.0.0.1:PORT", and the port alone. */
const char *faults_url(const struct faults *faults);
int faults_port(const struct faults *faults);

/** Requests so far, and the text of one (headers and body; the server's, until faults_stop). */
int faults_requests(struct faults *faults);
const char *faults_request(struct faults *faults, int index);

/** For a step's make: hold the answer until there is a second connection, for 10 s at most. */
void faults_await_second(const struct faults *faults);

/** Connections that were accepted, and by how many of the addresses 127.0.0.1 to 127.0.0.31. */
int faults_connections(struct faults *faults);
int faults_addresses(struct faults *faults);

#endif
