/*
 * s3io/request.h -- one S3 request: signed and sent until it is answered, and what of the client
 * all requests share. For the sources of this folder.
 */
#ifndef S3IO_REQUEST_H
#define S3IO_REQUEST_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "s3io/client.h"
#include "s3io/config.h"
#include "s3io/fault.h"
#include "s3io/hedge.h"
#include "s3io/http.h"
#include "s3io/sign.h"

struct err;
struct s3_bucket; /* what was learned about one */
struct s3_credentials;

struct s3_client {
    struct s3_config config;
    struct s3_credentials *credentials;
    struct s3_http *http;
    struct s3_hedge hedge;
    struct s3_sign_cache signing;
    const volatile sig_atomic_t *cancel;
    /* S3_BACKOFF_S, S3_BACKOFF_MAX_S, the option's patience, the time without a byte that ends a
     * try, and how long a request that ignores a cancel waits for keys: tests make them short. */
    double backoff_s, backoff_max_s, patience_s, stall_s, last_keys_s;

    pthread_mutex_t mutex;     /* guards what follows */
    bool swept;                /* old uploads of ours were looked for */
    bool answered;             /* somebody has answered, well or ill */
    double patience_said_s;    /* when it was last said that something is waited for */
    struct s3_bucket *buckets; /* those with a region of their own, or seen to be there */
    char *region;              /* of buckets not in the list; NULL until it is asked for */
    double clock_ahead_s;      /* the server's clock before ours */
    struct s3_client_stats stats;
};

/** Where the bucket's requests are signed for, a copy for the caller to free: what a redirect
 * taught, else the configured region, else instance metadata's (at AWS), else us-east-1. */
char *s3_client_region(struct s3_client *client, const char *name);
/** The host that a lasting redirect led to, a copy for the caller to free; NULL: the usual one. */
char *s3_client_origin(struct s3_client *client, const char *name);
/** The bucket was found there. origin NULL: nothing new about it. */
void s3_client_learn_place(struct s3_client *client, const char *name, const char *region,
                           const char *origin);
/** Whether an answer has shown that the bucket is there. */
bool s3_client_bucket_seen(struct s3_client *client, const char *name);
void s3_client_see_bucket(struct s3_client *client, const char *name);

struct s3_request {
    const char *method, *bucket;
    const char *key;             /* NULL: the bucket itself */
    const struct s3_pair *query; /* not encoded */
    size_t query_count;
    const struct s3_pair *headers; /* beside those that every request has */
    size_t header_count;           /* at most S3_REQUEST_HEADERS_MAX */
    const void *body;
    size_t body_bytes;
    bool unsigned_body; /* its SHA-256 is not computed: over https, with a checksum in a header */
    s3_http_sink *sink; /* of a 2xx answer's body; NULL: into tries->answer.body */
    void *context;
    /* Not NULL: the sink may be called for two answers side by side, with this for the second one's
     * (s3_http_call), and `bytes` are expected: a range that may be hedged. */
    void *hedge_context;
    uint64_t bytes;
    const char *permission; /* the action that a 403 means, "s3:GetObject" */
    const char *root; /* a 2xx answer must be a document with this root element; NULL: it is none */
    bool etag; /* a 2xx answer has an ETag, as S3's to HEAD and PUT of an object: else it is none */
    double stall_s;                      /* 0: the client's */
    const volatile sig_atomic_t *cancel; /* instead of the client's; NULL: that one */
    const volatile sig_atomic_t *stop;   /* beside that one; may be NULL */
    bool ignore_cancel;                  /* for cleaning up after a cancel: soon, or not at all */
    int attempts;                        /* 0: the client's, or by time */
};
#define S3_REQUEST_HEADERS_MAX 12

/* All tries of one request. All zero at first; the outcome is in answer and fault. */
struct s3_tries {
    struct s3_http_answer answer; /* of the last try */
    struct s3_fault fault;        /* what it said, where it was no 2xx */
    bool lost;                    /* a try may have taken effect though no success was seen */
    int count;                    /* of those that count as attempts */
    double failing_s;             /* since when (clock_now_s) nothing has come; 0: it goes well */

    /* request.c's own */
    char *payload_sha256, *origin, *region;
    double signed_s;
    bool origin_stays; /* a 301's, not a 307's */
    bool stale, renewed, clock_set, probe;
    int hops;
};
void s3_tries_release(struct s3_tries *tries);

/**
 * Send the request once, signed now, and judge the answer.
 *
 * Returns its status, of what the caller decides about: 2xx, 404 with NoSuchKey or NoSuchUpload
 * (also where these came with 200), 409, 412, 416; 0: to be called again (the wait is over; headers
 * and sink may be others then, for a body that was cut short); -1 with err: nothing more to be
 * tried.
 */
int s3_request_try(struct s3_client *client, const struct s3_request *request,
                   struct s3_tries *tries, struct err *err);

/** s3_request_try until it is answered: the status or -1. */
int s3_request_send(struct s3_client *client, const struct s3_request *request,
                    struct s3_tries *tries, struct err *err);

/** Wait before the next try and count it. 0; -1: no attempt is left (err as it was, with their
 * number) or cancelled (ERR_STOPPED). For callers that find an answer wanting. */
int s3_request_again(struct s3_client *client, const struct s3_request *request,
                     struct s3_tries *tries, struct err *err);

/** The line for an answer that the caller has no use for either, from tries->fault. Returns -1. */
int s3_request_fail(struct s3_client *client, const struct s3_request *request,
                    const struct s3_tries *tries, struct err *err);

#endif
