/*
 * s3io/web_identity.h -- a role's keys for a token of an identity provider (EKS's IRSA, OIDC), by
 * STS's AssumeRoleWithWebIdentity.
 *
 * Settings, the variable before the profile's key: AWS_WEB_IDENTITY_TOKEN_FILE or
 * web_identity_token_file, AWS_ROLE_ARN or role_arn, AWS_ROLE_SESSION_NAME or role_session_name.
 * Source: AWS SDKs and Tools Reference Guide, "Assume role credential provider"; rules of
 * botocore's AssumeRoleWithWebIdentityProvider.
 */
#ifndef S3IO_WEB_IDENTITY_H
#define S3IO_WEB_IDENTITY_H

#include <stdbool.h>

struct err;
struct s3_ini;
struct s3_keys;
struct s3_sts;

/* The texts are the environment's or the ini's. */
struct s3_web_identity {
    const char *token_file, *role_arn, *session_name; /* the last one NULL: none */
};

/** 1: there is one; 0: none; -1 with err: a token's file without a role (ERR_INPUT). variables:
 * whether the environment counts; not for a profile that was given by option, nor for a
 * source_profile. */
int s3_web_identity_read(struct s3_web_identity *identity, const struct s3_ini *files,
                         const char *profile, bool variables, struct err *err);

/** Read the token anew (who writes the file renews it) and ask STS. ERR_INPUT also for a file that
 * is missing or holds no token; else as s3_sts_fetch. */
int s3_web_identity_assume(const struct s3_web_identity *identity, const struct s3_sts *sts,
                           struct s3_keys *keys, struct err *err);

#endif
