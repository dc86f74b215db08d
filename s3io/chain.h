/*
 * s3io/chain.h -- one look at all places that may have keys, in the order of credentials.h.
 */
#ifndef S3IO_CHAIN_H
#define S3IO_CHAIN_H

#include <signal.h>
#include <stdbool.h>

struct err;
struct s3_config;
struct s3_keys;
struct s3_metadata;

/* Where keys came from. */
enum s3_chain_place {
    S3_CHAIN_NOWHERE,
    S3_CHAIN_ENVIRONMENT,
    S3_CHAIN_ROLE,
    S3_CHAIN_WEB_IDENTITY,
    S3_CHAIN_CREDENTIALS_FILE,
    S3_CHAIN_PROCESS,
    S3_CHAIN_CONFIG_FILE,
    S3_CHAIN_CONTAINER,
    S3_CHAIN_METADATA,
};
#define S3_CHAIN_PLACES (S3_CHAIN_METADATA + 1)

/** A place for messages ("the role of profile 'p'"), the caller's to free. */
char *s3_chain_name(enum s3_chain_place place, const char *profile);

struct s3_chain_ask {
    const struct s3_config *config;
    struct s3_metadata *metadata;
    const volatile sig_atomic_t *cancel; /* ends it with ERR_STOPPED; may be NULL */
    enum s3_chain_place before; /* where the keys at hand are from, else S3_CHAIN_NOWHERE: once
                                   instance metadata had keys its silence is ERR_NET, not a place
                                   without any */
    bool ahead;                 /* the keys at hand still serve: no long row of tries */
};

/** Fetch keys from the first place that has any. The AWS files are read again at each call, since
 * tools renew keys in them, and so are tokens; all roles of a chain are assumed anew. Blocks
 * (container endpoint, instance metadata, STS, a process). One thread at a time for one `metadata`.
 * Else as s3_credentials_get. */
int s3_chain_fetch(const struct s3_chain_ask *ask, struct s3_keys *keys, enum s3_chain_place *place,
                   struct err *err);

#endif
