/*
 * s3io/config.h -- settings from options, environment and the AWS files.
 *
 * Source: AWS SDKs and Tools Reference Guide, "Shared config and credentials files",
 * "Service-specific endpoints", "AWS STS Regional endpoints".
 */
#ifndef S3IO_CONFIG_H
#define S3IO_CONFIG_H

#include <stdbool.h>

struct err;
struct s3_client_options;
struct s3_ini;

enum s3_addressing { S3_ADDRESS_AUTO, S3_ADDRESS_PATH, S3_ADDRESS_VIRTUAL };

struct s3_config {
    char *profile;         /* its name; "default" */
    bool profile_explicit; /* given by option, not by AWS_PROFILE */
    struct s3_ini *files;  /* ~/.aws/config and ~/.aws/credentials as read */
    char *region;          /* NULL: nowhere set (then instance metadata is asked, else us-east-1) */
    char *endpoint;        /* "http[s]://HOST[:PORT][/PATH]"; NULL: AWS's own for the region */
    char *sts_endpoint;    /* the same for STS; the option and S3_ENDPOINT_URL are not for it */
    bool sts_global;       /* sts.amazonaws.com for the regions that were there before 2019 */
    bool sts_dualstack;    /* as `dualstack`, without the key of the "s3 =" block */
    enum s3_addressing addressing; /* AUTO: virtual host at AWS where the bucket's name allows it,
                                      path elsewhere */
    char *ca_bundle;               /* PEM file; NULL: the system's */
    int attempts;                  /* 0: S3_ATTEMPTS, and more for some time (client.h) */
    char *sse, *sse_key_id;
    bool dualstack, fips;
    bool sends_checksums, asks_checksums; /* also where nothing requires them */
    char *user_agent;                     /* NULL: http's own */
};

/** Read everything but credentials. ERR_USAGE: a variable with a wrong value; ERR_INPUT: a file and
 * its line, or a profile that is named and not there. options may be NULL. Release accepts
 * all-zero. */
int s3_config_read(struct s3_config *config, const struct s3_client_options *options,
                   struct err *err);
void s3_config_release(struct s3_config *config);

#endif
