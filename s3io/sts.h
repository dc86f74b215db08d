/*
 * s3io/sts.h -- ask AWS's Security Token Service (STS) for the keys of a role.
 *
 * A POST of a form, signed by header for the service "sts" (or not at all, where a web identity
 * speaks for itself), tried again after what time may mend: no connection, 5xx, throttling,
 * IDPCommunicationError; a clock that is off is corrected once by the server's Date. It goes to
 * config->sts_endpoint, else to AWS's for the region, through a proxy where the environment names
 * one. Sources: AWS Security Token Service API Reference, "AssumeRole",
 * "AssumeRoleWithWebIdentity", "Common Errors"; AWS General Reference, "AWS Security Token Service
 * endpoints and quotas".
 */
#ifndef S3IO_STS_H
#define S3IO_STS_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "s3io/sign.h"

struct err;
struct s3_config;
struct s3_keys;

#define S3_STS_TRY_S 20.0 /* at most, for one try */

struct s3_sts {
    const struct s3_config *config;
    const char *region;                  /* where config has none; NULL: us-east-1 */
    const volatile sig_atomic_t *cancel; /* ends it with ERR_STOPPED; may be NULL */
    bool once;                           /* one try is enough: keys at hand serve meanwhile */
};

#define S3_STS_FIELDS_MAX 8

struct s3_sts_question {
    const char *action;                       /* "AssumeRole" */
    struct s3_pair fields[S3_STS_FIELDS_MAX]; /* beside Action and Version; not encoded */
    size_t field_count;
    const struct s3_keys *keys; /* that sign it; NULL: not signed */
    const char *who;            /* for messages: where the keys or the token are from */
    const char *token;          /* the field that is a secret, NULL: none; no message repeats it */
};

/** Fetch keys. Blocks, for S3_STS_TRY_S and a wait at each of AWS_MAX_ATTEMPTS tries. ERR_INPUT: a
 * refusal, with what to do; ERR_NET; ERR_STOPPED. */
int s3_sts_fetch(const struct s3_sts *sts, const struct s3_sts_question *question,
                 struct s3_keys *keys, struct err *err);

/** Where a question goes: the origin "https://HOST[:PORT]", the path, and the region that it is
 * signed for. Release accepts all-zero. */
struct s3_sts_address {
    struct buf origin, path;
    const char *host; /* in origin */
    const char *region;
};
void s3_sts_address_make(struct s3_sts_address *address, const struct s3_sts *sts);
void s3_sts_address_release(struct s3_sts_address *address);

#endif
