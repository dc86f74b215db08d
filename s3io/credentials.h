/*
 * s3io/credentials.h -- keys, from where AWS's own tools take them, fetched again before they
 * expire.
 *
 * The first of these that has any (botocore's order, of which we have these): the profile, where
 * one was given by option; AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN);
 * the profile's role (role_arn with source_profile or credential_source, role.h); web identity
 * (web_identity.h); the profile's keys in ~/.aws/credentials; its credential_process (process.h);
 * its keys in ~/.aws/config; the container endpoint (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or
 * _FULL_URI: ECS, SageMaker, EKS); instance metadata (IMDSv2). A profile that needs what we do not
 * have (SSO, login_session) is one line that says so. Source: AWS SDKs and Tools Reference Guide,
 * "Standardized credential providers"; contract: 2 s and 3 tries for the container endpoint, 1 s
 * for instance metadata, neither ever through a proxy.
 */
#ifndef S3IO_CREDENTIALS_H
#define S3IO_CREDENTIALS_H

#include <signal.h>
#include <stdbool.h>

struct err;
struct s3_config;
struct s3_credentials;

struct s3_keys {
    char *access_key, *secret_key;
    char *token;      /* NULL: none */
    double expires_s; /* seconds since 1970; 0: never */
};
/** Wipes them. Accepts all-zero and NULL. */
void s3_keys_release(struct s3_keys *keys);

/** config is the caller's and outlives it. Free ends a fetch that is under way, and accepts NULL.
 */
struct s3_credentials *s3_credentials_new(const struct s3_config *config);
void s3_credentials_free(struct s3_credentials *credentials);

/** Copy of the keys to sign with now; *keys is the caller's to release. They are fetched by a
 * thread of their own, S3_REFRESH_AHEAD_S before they expire (a role's that live less than an hour:
 * after three quarters of their life); those at hand serve meanwhile, as long as they are valid.
 * Where there are none it is waited for, by all callers for the same, until *cancel (may be NULL)
 * is not zero: ERR_STOPPED. ERR_INPUT: none anywhere (the line lists where it looked), half a pair,
 * a file or answer that is wrong. ERR_NET. */
#define S3_REFRESH_AHEAD_S (15.0 * 60)
int s3_credentials_get(struct s3_credentials *credentials, const volatile sig_atomic_t *cancel,
                       struct s3_keys *keys, struct err *err);

/** The same for who tidies up after a cancel: waits so long at most, else ERR_STOPPED. */
int s3_credentials_get_within(struct s3_credentials *credentials, double limit_s,
                              struct s3_keys *keys, struct err *err);

/** The server refused these keys as expired or unknown: the next get fetches anew unless another
 * thread did already. */
void s3_credentials_refused(struct s3_credentials *credentials, const struct s3_keys *keys);

/** Where the keys at hand are from, for messages: "the environment", "profile 'x'", ... */
const char *s3_credentials_source(struct s3_credentials *credentials);

#endif
