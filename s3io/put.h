/*
 * s3io/put.h -- the headers that a write carries. For object.c and upload.c.
 */
#ifndef S3IO_PUT_H
#define S3IO_PUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define S3_PUT_BYTES_MAX ((uint64_t)5 << 30) /* more goes in parts only */

struct s3_config;
struct s3_pair;
struct s3_put;

/** Content type and server-side encryption: of PUT and CreateMultipartUpload. Returns how many
 * (at most 3). The texts are put's and config's. */
size_t s3_put_kind(const struct s3_put *put, const struct s3_config *config,
                   struct s3_pair *headers);

/** If-None-Match and If-Match: of PUT and CompleteMultipartUpload. Returns how many (at most 2). */
size_t s3_put_conditions(const struct s3_put *put, struct s3_pair *headers);

/** Whether a body need not be signed: it has a checksum, and nobody on the way can change both. */
bool s3_put_is_unsigned(const struct s3_config *config, bool checksum);

#endif
