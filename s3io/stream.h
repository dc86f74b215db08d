/*
 * s3io/stream.h -- an object's bytes as they arrive, in order and each once, whatever breaks on the
 * way. For the sources of this folder.
 *
 * A body that is cut short is asked for again from the byte reached, with If-Match, so that the
 * bytes of two versions never mix. Source: Amazon S3 API Reference, GetObject; RFC 9110, 14.
 */
#ifndef S3IO_STREAM_H
#define S3IO_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct s3_client;
struct s3_get;
struct s3_object;

/** Takes the bytes at `offset` of what was asked for (0: the first), in their order and each once.
 * -1 with err ends the reading. */
typedef int s3_stream_sink(void *context, uint64_t offset, const void *data, size_t bytes,
                           const struct s3_object *object, struct err *err);

/** Read get's range, or the whole object, into sink. S3_YES: all of it went there. S3_NO, -1: as
 * s3_object_read. *object is set with the first byte, or at the end of an empty one. */
int s3_stream_read(struct s3_client *client, const struct s3_get *get, s3_stream_sink *sink,
                   void *context, struct s3_object *object, struct err *err);

struct s3_http_answer;
#define S3_STREAM_BYTES_UNKNOWN UINT64_MAX
/** Size (S3_STREAM_BYTES_UNKNOWN where it is not said), ETag and times from the answer to GET
 * (whole), HEAD or PUT. */
void s3_stream_object(struct s3_object *object, const struct s3_http_answer *answer);

#endif
