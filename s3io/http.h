/*
 * s3io/http.h -- one HTTP exchange over a kept connection: the only files that include curl's
 * headers are http*. New connections are spread over the addresses that a host's name has.
 *
 * No retries, no signing, no redirects followed, no "Expect: 100-continue" below 1 MiB: those who
 * call know better.
 */
#ifndef S3IO_HTTP_H
#define S3IO_HTTP_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "s3io/sign.h"

struct err;
struct s3_http;

struct s3_http_options {
    const char *ca_bundle; /* PEM file; NULL: the system's. Copied */
    bool no_proxy; /* never through a proxy (metadata, container credentials); else *_PROXY and
                      NO_PROXY count */
};

/** Connections kept for later calls. Any number of threads may use one; each call in flight has a
 * connection. */
struct s3_http *s3_http_new(const struct s3_http_options *options);
void s3_http_free(struct s3_http *http);

struct s3_http_answer;
/** Takes a body as it arrives; the answer's status and headers are there. 0, or -1 to end the call
 * (S3_HTTP_ABORTED). */
typedef int s3_http_sink(void *context, const struct s3_http_answer *answer, const void *data,
                         size_t bytes);

struct s3_http_call {
    const char *method, *url;
    const struct s3_pair *headers;
    size_t header_count;
    const void *body; /* NULL: none */
    size_t body_bytes;
    double connect_s, total_s; /* time limits; 0: connect 10 s, total none */
    /* Less than 2 KiB/s for so long is an error, where a body comes that goes to the sink; else
     * less than 1 byte/s: a document may come blank by blank while it is made. 0: 20 s. */
    double stall_s;
    s3_http_sink *sink; /* the body of a 2xx answer goes here; NULL: into answer->body */
    void *context;
    /* > 0: a request that is not answered whole by then is sent a second time, on another
     * connection, if hedge_may says so then; the first whole 2xx answer counts, and the other one
     * is dropped. The second one's body goes to sink with hedge_context; all are called from this
     * thread. */
    double hedge_s;
    bool (*hedge_may)(void *context);
    void *hedge_may_context, *hedge_context;
    const volatile sig_atomic_t *cancel, *stop; /* looked at at least 5 times a second, either ends
                                                   it; may be NULL */
};

#define S3_HTTP_BODY_MAX ((size_t)64 << 20) /* of answer->body */

/* How a call without an answer failed, for those who decide whether to try again. */
enum s3_http_failure {
    S3_HTTP_ANSWERED, /* it did not: status is set, the body is complete */
    S3_HTTP_CONNECT,  /* no address, refused, timed out: nothing was sent */
    S3_HTTP_STALE,  /* a kept connection turned out to be closed before a byte of the answer came */
    S3_HTTP_BROKEN, /* reset, ended in mid-answer, stalled, timed out */
    S3_HTTP_CERTIFICATE, /* not trusted, wrong name, expired; or the CA bundle cannot be read */
    S3_HTTP_ABORTED,     /* the sink or cancel ended it */
    S3_HTTP_OTHER,       /* a URL or library matter that no retry mends */
};

struct s3_http_answer {
    int status;         /* 0 unless a status line came */
    struct buf headers; /* "name: value\n" lines, names in lower case */
    struct buf body;    /* of answers that are no 2xx, or all where there is no sink */
    enum s3_http_failure failure;
    bool hedged;      /* a second request was sent */
    bool second;      /* and this is how that one ended */
    int other_status; /* of the one that was dropped; 0: it was not through with its answer */
};

/** Blocks. 0: an answer came whole, whatever its status; -1 with err (ERR_NET; ERR_INPUT for a
 * certificate, naming AWS_CA_BUNDLE; ERR_STOPPED) and answer->failure. The line names host and
 * port, never headers. answer is all-zero before and the caller's to release after, also on
 * failure. */
int s3_http_send(struct s3_http *http, const struct s3_http_call *call,
                 struct s3_http_answer *answer, struct err *err);
void s3_http_answer_release(struct s3_http_answer *answer);

/** A header's value (name in lower case) in `value`, cut at its size; false if it is not there. */
bool s3_http_header(const struct s3_http_answer *answer, const char *name, char *value,
                    size_t bytes);

#endif
