/*
 * s3io/fault.h -- what an answer that is no success says, and what helps.
 *
 * Source: Amazon S3 API Reference, "Error responses".
 */
#ifndef S3IO_FAULT_H
#define S3IO_FAULT_H

#include <stdbool.h>

struct err;
struct s3_http_answer;

#define S3_FAULT_WAIT_S_MAX 20.0 /* as long as a wait of our own (S3_BACKOFF_MAX_S) */

/* Texts are cut at their sizes; "" is: not said. */
struct s3_fault {
    int status;
    char code[64];       /* <Code>: "NoSuchKey" */
    char message[240];   /* <Message> */
    char request_id[64]; /* x-amz-request-id or <RequestId> */
    char region[40];     /* x-amz-bucket-region or <Region>: where the bucket is */
    char origin[300];    /* "https://HOST[:PORT]" of Location or <Endpoint>: where to ask instead */
    double server_s;     /* Date, seconds since 1970; 0: none */
    double retry_after_s; /* Retry-After, S3_FAULT_WAIT_S_MAX at most; 0: none */
    bool document;        /* there was an <Error> document */
};

/** Read an answer's headers and, if it is one, its <Error> document (STS: <ErrorResponse>). */
void s3_fault_read(struct s3_fault *fault, const struct s3_http_answer *answer);

/** "HTTP 403 AccessDenied (request 7QX2)" */
#define S3_FAULT_HEAD_CHARS 200
void s3_fault_head(const struct s3_fault *fault, char head[S3_FAULT_HEAD_CHARS]);

enum s3_remedy {
    S3_REMEDY_NONE,      /* a person has to mend it */
    S3_REMEDY_WAIT,      /* the same again later */
    S3_REMEDY_KEYS,      /* other credentials, once */
    S3_REMEDY_CLOCK,     /* the server's clock, once */
    S3_REMEDY_ELSEWHERE, /* another region or host */
    S3_REMEDY_CALLER,    /* an answer that whoever asked has a use for: no such key, upload; 412 */
};
enum s3_remedy s3_fault_remedy(const struct s3_fault *fault);

/* What the line about a fault needs to know about the request. */
struct s3_fault_place {
    const char *bucket, *host; /* "s3.localhost:80" */
    const char *region;        /* signed for */
    const char *permission;    /* "s3:GetObject" */
    const char *source;        /* of the credentials: "the environment" */
    double clock_s;            /* what the clock of this host says */
};

/** "HTTP 403 AccessDenied (request 7QX2): ...": what is wrong and what to do. ERR_NET where only
 * waiting would have helped, else ERR_INPUT. Returns -1. */
int s3_fault_line(const struct s3_fault *fault, const struct s3_fault_place *place,
                  struct err *err);

/** Its part where the clocks are apart, which STS has a word of its own for. head: s3_fault_head's;
 * clock_s: what this host's clock says. Returns -1 with ERR_INPUT. */
int s3_fault_clock_line(const struct s3_fault *fault, const char *head, double clock_s,
                        const char *host, struct err *err);

#endif
