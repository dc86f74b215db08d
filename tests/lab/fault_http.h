/*
 * tests/lab/fault_http.h -- as much of HTTP/1.1 as a proxy needs that acts on single requests: one
 * head after the other, and where a body ends (Content-Length, chunked, or with the connection; RFC
 * 9112).
 */
#ifndef TESTS_LAB_FAULT_HTTP_H
#define TESTS_LAB_FAULT_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define FAULT_SIDE_BYTES ((size_t)256 << 10)

/* One end of a connection, and what came from it and was not used yet. */
struct fault_side {
    int fd; /* -1: none */
    size_t begin, end;
    unsigned char data[FAULT_SIDE_BYTES];
};
/** Wait for more. false: the other side has closed or is gone; or there is no room. */
bool fault_side_fill(struct fault_side *side);
/** Close the socket, by a reset if `reset`. */
void fault_side_close(struct fault_side *side, bool reset);
/** false: the other side is gone. */
bool fault_send(int fd, const void *data, size_t bytes);

/** Replace `head` by the next head, its empty line included. false: there is none. */
bool fault_head_read(struct fault_side *side, struct buf *head);
/** A header's value (name in lower case), cut at its room; "" and false if it is not there. */
bool fault_head_value(const struct buf *head, const char *name, char *value, size_t bytes);
/** Take a header's line out of the head. */
void fault_head_remove(struct buf *head, const char *name);
/** "HTTP/1.1 206 Partial Content": 206. */
int fault_head_status(const struct buf *head);

/* A body on its way. */
struct fault_body {
    enum { FAULT_BODY_LENGTH, FAULT_BODY_CHUNKED, FAULT_BODY_TO_END } framing;
    enum { FAULT_BODY_SIZE_LINE, FAULT_BODY_DATA, FAULT_BODY_DATA_END, FAULT_BODY_TRAILER } at;
    uint64_t left; /* of the length, or of the chunk */
    bool line_empty;
    bool extension; /* behind the length of a chunk */
    bool done;
    uint64_t length; /* 0 unless framing is FAULT_BODY_LENGTH */
};
/** Of the message whose head this is; `response` where one without a length goes to the end. */
void fault_body_init(struct fault_body *body, const struct buf *head, bool response);
/** How many of the next bytes are all data of the body or all its framing (*is_data); at least one
 * while the body is not done. */
size_t fault_body_run(struct fault_body *body, const unsigned char *data, size_t bytes,
                      bool *is_data);

#endif
