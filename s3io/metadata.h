/*
 * s3io/metadata.h -- the EC2 instance metadata service, version 2 (session tokens).
 *
 * Source: Amazon EC2 User Guide, "Use the Instance Metadata Service to access instance metadata".
 * AWS_EC2_METADATA_DISABLED, AWS_EC2_METADATA_SERVICE_ENDPOINT, ..._ENDPOINT_MODE,
 * AWS_EC2_METADATA_V1_DISABLED, AWS_METADATA_SERVICE_TIMEOUT and ..._NUM_ATTEMPTS are heeded.
 */
#ifndef S3IO_METADATA_H
#define S3IO_METADATA_H

#include <signal.h>
#include <stdbool.h>

struct buf;
struct err;
struct s3_metadata;

/** *cancel (may be NULL) that is not zero ends what is asked, with ERR_STOPPED. */
struct s3_metadata *s3_metadata_new(const volatile sig_atomic_t *cancel);
void s3_metadata_free(struct s3_metadata *metadata);

/** Append the item below /latest/ ("meta-data/placement/region"). 1: there; 0: no such item (404);
 * -1: ERR_NET (not reachable in time: probably no EC2 host, or a container whose hop limit of 1
 * loses the token's answer), ERR_INPUT (disabled, refused), ERR_USAGE (a variable
 * that is wrong). A refused token is fetched anew once.
 * One thread at a time. */
int s3_metadata_get(struct s3_metadata *metadata, const char *item, struct buf *out,
                    struct err *err);

/** The region that this host is in, the caller's to free; NULL: nobody says. Checked, as it becomes
 * a part of a host's name. */
char *s3_metadata_region(struct s3_metadata *metadata);

/** Whether it ever answered anything: false where this is probably no EC2 host. */
bool s3_metadata_answered(const struct s3_metadata *metadata);

#endif
