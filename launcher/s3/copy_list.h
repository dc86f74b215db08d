/*
 * launcher/s3/copy_list.h -- what `convoy s3 cp` is to copy: each source with its target.
 */
#ifndef LAUNCH_S3_COPY_LIST_H
#define LAUNCH_S3_COPY_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/uri.h"

struct err;
struct s3_client;

/* One end of a copy: "-", a path, or s3://BUCKET/KEY. */
struct launch_s3_end {
    const char *text;
    bool is_stream; /* "-" */
    struct uri uri; /* else */
};

#define LAUNCH_S3_BYTES_UNKNOWN UINT64_MAX

struct launch_s3_item {
    char *from, *to; /* paths or keys; from is NULL where `to` is a folder to be made */
    uint64_t bytes;  /* of the source; LAUNCH_S3_BYTES_UNKNOWN */
};

struct launch_s3_items {
    struct launch_s3_item *at;
    size_t count, capacity;
};

/** Accepts all-zero. */
void launch_s3_items_release(struct launch_s3_items *items);

/** One file or object. A target that is a folder ("dir/", an existing folder, "s3://b/x/",
 * "s3://b") gets the source's last part as its name. ERR_USAGE, ERR_INPUT. Neither end is a stream.
 */
int launch_s3_items_add_one(struct launch_s3_items *items, const struct launch_s3_end *from,
                            const struct launch_s3_end *to, struct err *err);

/** All files below a folder, by name; symbolic links are followed. What is no regular file is left
 * out with a warning. ERR_INPUT: none there, or a name that no key can have. */
int launch_s3_items_add_files(struct launch_s3_items *items, const struct launch_s3_end *from,
                              const struct launch_s3_end *to, struct err *err);

/** All objects below a prefix ("x" is taken for "x/"). To a folder: ERR_INPUT for a key that names
 * no file inside it. */
int launch_s3_items_add_objects(struct launch_s3_items *items, struct s3_client *client,
                                const struct launch_s3_end *from, const struct launch_s3_end *to,
                                struct err *err);

#endif
