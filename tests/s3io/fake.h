/*
 * tests/s3io/fake.h -- an HTTP server in a thread that answers as the test says.
 *
 * One request a connection; a test's function writes the answer, or none (the connection is
 * closed), or keeps silent.
 */
#ifndef TESTS_S3IO_FAKE_H
#define TESTS_S3IO_FAKE_H

#include <stdbool.h>

struct buf;
struct fake;

/** Answer a request (its head and its body). Called from the server's thread, one request
 * at a time. Nothing in `out` closes the connection; *silent leaves it open without an answer until
 * the server ends. */
typedef void fake_answer(void *context, const char *request, struct buf *out, bool *silent);

/** Listen on an address ("127.0.0.1", "::1"); port 0: any free one. Fails the test if that cannot
 * be. */
struct fake *fake_start(const char *address, int port, fake_answer *answer, void *context);
/** Accepts NULL. */
void fake_stop(struct fake *fake);

int fake_port(const struct fake *fake);
/** Hold the server between two answers: around what the test reads or changes of their context
 * while it runs. */
void fake_lock(struct fake *fake);
void fake_unlock(struct fake *fake);

/** Requests so far. */
int fake_requests(struct fake *fake);

/** A whole answer. headers: lines that end in "\r\n", or "". */
void fake_reply(struct buf *out, int status, const char *headers, const char *body);

/** Enter a network of this process's own, where lo has the addresses of the container endpoint and
 * of instance metadata. False where the system does not let us: such cases are to be skipped. Call
 * before any thread is started. */
bool fake_enter_network(void);

#endif
