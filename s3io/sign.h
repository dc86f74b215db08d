/*
 * s3io/sign.h -- AWS Signature Version 4 by header.
 *
 * Source: AWS General Reference, "Create a signed AWS API request"; for S3 "Authenticating
 * Requests: Using the Authorization Header (AWS Signature Version 4)" in the Amazon S3 API
 * Reference. S3 differs from other services: the path is neither normalised nor encoded twice, and
 * x-amz-content-sha256 is always sent. Nothing is added to the headers: Host, X-Amz-Date
 * (s3_sign_time of the same time), X-Amz-Content-Sha256 and, with a session token,
 * X-Amz-Security-Token are the caller's to give and to send.
 */
#ifndef S3IO_SIGN_H
#define S3IO_SIGN_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

struct buf;
struct s3_keys;

struct s3_pair {
    const char *name, *value;
};

/** The key that a day's signatures for a region are made with, computed once (four HMACs). Any
 * number of threads. Release wipes it. */
struct s3_sign_cache {
    pthread_mutex_t mutex; /* guards what follows */
    char *scope;           /* "20260101/us-east-1/s3/aws4_request"; NULL: none */
    char *secret;          /* the key's */
    unsigned char key[32];
};
void s3_sign_cache_init(struct s3_sign_cache *cache);
void s3_sign_cache_release(struct s3_sign_cache *cache);

struct s3_sign {
    const char *method;          /* "GET" */
    const char *path;            /* encoded already, beginning with '/' */
    const struct s3_pair *query; /* names and values not encoded yet */
    size_t query_count;
    const struct s3_pair
        *headers; /* all that are to be signed, Host among them; any order and case */
    size_t header_count;
    const char *payload_sha256; /* 64 hex digits, or "UNSIGNED-PAYLOAD" */
    const char *region, *service;
    time_t time;
    struct s3_sign_cache *cache; /* NULL: none */
};

/** Append `text` percent-encoded: all bytes but A-Z a-z 0-9 - . _ ~, and '/' only if keep_slash. */
void s3_sign_encode(struct buf *out, const char *text, bool keep_slash);

/** Append the query as it is sent and signed: encoded, sorted, "a=1&b=". */
void s3_sign_query(struct buf *out, const struct s3_pair *query, size_t count);

/** Append the three texts of a signature; any may be NULL. authorization is the header's value. */
void s3_sign_request(const struct s3_sign *sign, const struct s3_keys *keys, struct buf *canonical,
                     struct buf *string_to_sign, struct buf *authorization);

/** "20260101T082200Z" */
#define S3_SIGN_TIME_CHARS 17
void s3_sign_time(time_t when, char out[S3_SIGN_TIME_CHARS]);

#endif
