/* tests/s3io/bed.h -- a client and a server that answers by a list of steps (faults.h). Waits are
 * short, tries are three; a test sets the client's fields otherwise where it needs to. */
#ifndef TESTS_S3IO_BED_H
#define TESTS_S3IO_BED_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "faults.h"
#include "s3io/client.h"
#include "s3io/object.h"

#define OK "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 0\r\n\r\n"
/* Bytes 0 to 4 of an object of 10. */
#define HELLO                                                                                      \
    "HTTP/1.1 206 Partial Content\r\nETag: \"e\"\r\nContent-Range: bytes 0-4/10\r\n"               \
    "Content-Length: 5\r\n\r\nhello"
#define ERROR_DOCUMENT(code, more)                                                                 \
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>" code                               \
    "</Code><Message>why</Message>" more "<RequestId>7QX2</RequestId></Error>"
/* The length is not said: the end of the connection is the end of the document. */
#define FAULT(status, headers, code, more)                                                         \
    "HTTP/1.1 " status " x\r\n" headers "Connection: close\r\n\r\n" ERROR_DOCUMENT(code, more)

extern volatile sig_atomic_t bed_cancel; /* the client's; cleared by begin */
extern struct faults *bed_faults;
extern struct s3_client *bed_client;
extern struct err bed_err; /* of the last call; cleared by begin */

void bed_begin(const struct fault_step *steps, size_t count);
#define BEGIN(steps) bed_begin(steps, sizeof(steps) / sizeof *(steps))
/** Close both. requests: as many came. */
void bed_end(void);
void bed_end_after(int requests);

/** GET of the five bytes of HELLO, which have to be these if it succeeds. */
int read_hello(void);
int put_hello(bool if_none);

void assert_says(const char *part); /* bed_err does, and nothing secret */
void assert_request_has(int index, const char *part);

#endif
