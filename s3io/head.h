/*
 * s3io/head.h -- what HEAD says of an object. For object.c and upload.c.
 */
#ifndef S3IO_HEAD_H
#define S3IO_HEAD_H

#include <stdbool.h>
#include <stddef.h>

struct err;
struct s3_client;
struct s3_object;

struct s3_head {
    const char *bucket, *key;
    bool checksum; /* ask for its CRC-32C, too */
    bool once;     /* one try, also when all is to stop */
    /* May be NULL: a header's name (in lower case), and where its value goes: "" if it has none. */
    const char *header;
    char *value;
    size_t value_bytes;
};

/** S3_YES with *object (not NULL) set; S3_NO: there is none; -1: nobody could tell, or the answer
 * has no ETag or length. */
int s3_head(struct s3_client *client, const struct s3_head *head, struct s3_object *object,
            struct err *err);

#endif
