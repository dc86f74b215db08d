/*
 * s3io/chain.h -- one look at all places that may have keys, in the order of credentials.h.
 */
#ifndef S3IO_CHAIN_H
#define S3IO_CHAIN_H

struct err;
struct s3_config;
struct s3_keys;
struct s3_metadata;

/* Where keys came from. */
enum s3_chain_place {
    S3_CHAIN_NOWHERE,
    S3_CHAIN_ENVIRONMENT,
    S3_CHAIN_CREDENTIALS_FILE,
    S3_CHAIN_CONFIG_FILE,
    S3_CHAIN_CONTAINER,
    S3_CHAIN_METADATA,
};

/** Fetch keys from the first place that has any. The AWS files are read again at each call, since
 * tools renew keys in them. Blocks (container endpoint, instance metadata). One thread at a time
 * for one `metadata`. before: where the keys at hand are from, else S3_CHAIN_NOWHERE: once instance
 * metadata had keys its silence is ERR_NET, not a place without any. Else as s3_credentials_get. */
int s3_chain_fetch(const struct s3_config *config, struct s3_metadata *metadata,
                   enum s3_chain_place before, struct s3_keys *keys, enum s3_chain_place *place,
                   struct err *err);

#endif
