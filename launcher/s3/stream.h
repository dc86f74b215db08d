/*
 * launcher/s3/stream.h -- an object's bytes in their order, and `convoy s3 cat`.
 */
#ifndef LAUNCH_S3_STREAM_H
#define LAUNCH_S3_STREAM_H

#include "launcher/s3/verb.h"

/** Write the object to fd, which may be a pipe: ranges of S3_TRANSFER_PART_BYTES are read side by
 * side, S3_TRANSFER_THREADS of them at most (they are in memory), all of the object as it was at
 * the beginning. what names fd in errors. */
int launch_s3_stream(const struct launch_s3 *s3, const char *bucket, const char *key, int fd,
                     const char *what, struct err *err);

/** cat URI... */
int launch_s3_cat(const struct launch_s3 *s3, struct err *err);

#endif
