/*
 * s3io/address.h -- where a request for a bucket and key goes: host and path.
 *
 * Sources: Amazon S3 User Guide, "Virtual hosting of general purpose buckets", "Bucket naming
 * rules"; AWS General Reference, "Amazon S3 endpoints and quotas".
 */
#ifndef S3IO_ADDRESS_H
#define S3IO_ADDRESS_H

#include <stdbool.h>

#include "base/buf.h"

struct s3_config;

struct s3_address {
    struct buf origin; /* "https://imgs.s3.eu-west-1.amazonaws.com", without a '/' behind */
    struct buf host;   /* the Host header: origin without the scheme */
    struct buf path;   /* encoded, beginning with '/' */
};

/** Fill an all-zero address, or one made before. key NULL: the bucket itself. origin: take this one
 * (a redirect's) in the endpoint's place; a bucket that its host begins with is left out of the
 * path. NULL: the configured endpoint, or AWS's for the region. Release accepts all-zero. */
void s3_address_make(struct s3_address *address, const struct s3_config *config, const char *region,
                     const char *bucket, const char *key, const char *origin);
void s3_address_release(struct s3_address *address);

/** Whether the bucket's name may be a part of a host's name: with https no dots, since the
 * wildcard of a certificate stands for one label. */
bool s3_address_fits_host(const char *bucket, bool https);

/** Whether what is meant for the server at `home` (NULL: AWS) may go to `origin` too, both
 * "http[s]://HOST[:PORT]" and maybe a path: the same host, at whatever port, or another one of its
 * domain. */
bool s3_address_related(const char *origin, const char *home);

/** "s3://BUCKET/KEY" for messages; the middle of a long key is left out, so that the reason still
 * fits in the line. By value: s3_address_name(bucket, key).text lives to the end of the statement.
 */
struct s3_address_name {
    char text[420];
};
struct s3_address_name s3_address_name(const char *bucket, const char *key);

#endif
