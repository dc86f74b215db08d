/*
 * tests/s3io/fake_sts.h -- an STS endpoint: each answer has keys of its own, STS-1, STS-2, ...,
 * with the secret key TOPSECRET and the session token TOKEN-1, TOKEN-2, ...
 */
#ifndef TESTS_S3IO_FAKE_STS_H
#define TESTS_S3IO_FAKE_STS_H

#include "fake.h"

#define FAKE_STS_SEEN_MAX 32

struct fake_sts {
    /* What it answers; the test's to set before start or under fake_lock. */
    double lives_s; /* 0: an hour */
    int status;     /* 0: 200; else an error with: */
    const char *code, *says;
    int fail_count;      /* so many errors, then keys; 0: for ever */
    const char *body;    /* NULL: the document for an action, else this text */
    const char *headers; /* beside; NULL: none */

    struct fake *fake;
    int number;                    /* of the last keys */
    int seen_count;                /* requests */
    char *seen[FAKE_STS_SEEN_MAX]; /* head and body of each */
};

/** Listen, and set AWS_ENDPOINT_URL_STS and AWS_REGION=eu-west-1. */
void fake_sts_start(struct fake_sts *sts);
void fake_sts_stop(struct fake_sts *sts);
/** Forget the requests so far. Under fake_lock. */
void fake_sts_forget(struct fake_sts *sts);

#endif
