/*
 * s3io/list.h -- the keys of a bucket, page by page.
 *
 * Source: Amazon S3 API Reference, ListObjectsV2 (1,000 keys a page, in bytewise order of keys;
 * encoding-type=url, so that every byte a key may have survives XML).
 */
#ifndef S3IO_LIST_H
#define S3IO_LIST_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct s3_client;

struct s3_listed {
    const char *key; /* decoded; valid during the call */
    uint64_t bytes;
    const char *etag; /* with its quotes; "" for a prefix */
    double modified_s;
    bool is_prefix; /* a common prefix, ending in '/' ("folder"): only with delimiter */
};

/** Called for each key in order. Non-zero ends the listing and becomes its return value (-1: with
 * err set by visit). */
typedef int s3_list_visit(void *context, const struct s3_listed *listed, struct err *err);

/** List all keys that begin with prefix ("" for all). delimiter: keys that have a '/' behind the
 * prefix are grouped up to it, as a folder's entries are. 0 at the end, also where there is none;
 * -1 with err: ERR_INPUT (no such bucket, 403), ERR_NET, ERR_STOPPED. Blocks. */
int s3_list(struct s3_client *client, const char *bucket, const char *prefix, bool delimiter,
            s3_list_visit *visit, void *context, struct err *err);

#endif
