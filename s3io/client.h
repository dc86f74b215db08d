/*
 * s3io/client.h -- who talks to S3, where, and as whom: settings, credentials and connections of a
 * process.
 *
 * A client is safe to use from any number of threads. Each request in flight has a connection; idle
 * ones are kept and used again. Requests block their caller; who wants several in flight has
 * several threads.
 *
 * Every request is signed (sign.h) anew at each try, and tried again after what time may mend: 500,
 * 502, 503, 504, 429, RequestTimeout, SlowDown and the other throttling codes, a connection
 * refused, reset, stalled or ended in mid-body, an <Error> document with status 200. Waits grow
 * from S3_BACKOFF_S by a factor of 2 up to S3_BACKOFF_MAX_S, each a random share of that (full
 * jitter: AWS Architecture Blog, "Exponential Backoff And Jitter", 2015), and at least what
 * Retry-After asks for, if that is no more than S3_BACKOFF_MAX_S, else that. A request is given up
 * after S3_ATTEMPTS tries, and where the server has answered before not before it has failed for
 * S3_PATIENCE_S on end: so an outage of a minute ends nothing, and a mistyped endpoint is known in
 * seconds. Who sets AWS_MAX_ATTEMPTS (or the profile's max_attempts) has that number of tries
 * instead, the first one too, however long they take. Expired credentials are fetched again once, a
 * wrong region is followed twice and remembered, a clock that is off is corrected once by the
 * server's Date. 403, 404 and certificate errors are never tried again.
 */
#ifndef S3IO_CLIENT_H
#define S3IO_CLIENT_H

#include <signal.h>
#include <stdbool.h>

struct err;
struct s3_client;

#define S3_BACKOFF_S     0.1
#define S3_BACKOFF_MAX_S 20.0
#define S3_ATTEMPTS      8
#define S3_PATIENCE_S    120.0

/* What a person may set explicitly; NULL or 0: as environment and files have it. */
struct s3_client_options {
    const char *profile;  /* given so, it goes before AWS_ACCESS_KEY_ID */
    const char *region;   /* else AWS_REGION, AWS_DEFAULT_REGION, the profile's, instance metadata,
                             us-east-1 */
    const char *endpoint; /* else AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile's,
                             S3_ENDPOINT_URL, AWS */
    const char *sse; /* x-amz-server-side-encryption of what is written: "aws:kms" or "AES256" */
    const char *sse_key_id; /* its KMS key (CONVOY_SSE_KMS_KEY_ID); sets sse to aws:kms */
    /* 0: S3_PATIENCE_S; less where somebody waits who gives up sooner, or asks again himself. */
    double patience_s;
    /* Looked at while waiting and transferring; when it becomes non-zero requests end with
     * ERR_STOPPED. May be NULL. */
    const volatile sig_atomic_t *cancel;
};

/** Read settings (not credentials yet: they are fetched at the first request). ERR_USAGE or
 * ERR_INPUT names the variable, file and line, or profile that is wrong. options may be NULL. */
int s3_client_open(struct s3_client **client, const struct s3_client_options *options,
                   struct err *err);
/** No request may be in flight. Accepts NULL. */
void s3_client_close(struct s3_client *client);

/** The process's own client, opened at the first call with the options last given to
 * s3_client_configure and kept to the end of the process: one set of credentials and connections
 * for all its parts. NULL with err when it cannot be opened; a later call tries again. Any thread.
 */
struct s3_client *s3_client_shared(struct err *err);
/** Set the shared client's options (copied) before its first use. */
void s3_client_configure(const struct s3_client_options *options);
/** Close the shared client if it was opened: so that a leak checker sees a clean end. */
void s3_client_shared_close(void);

/** What requests so far were: for reports and tests. */
struct s3_client_stats {
    unsigned long long requests, retries, bytes_in, bytes_out;
    unsigned long long hedged; /* of requests: asked a second time because the first one was slow */
};
void s3_client_stats(struct s3_client *client, struct s3_client_stats *stats);

#endif
