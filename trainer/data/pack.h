/*
 * trainer/data/pack.h -- write a folder per class as tar shards with an index.
 */
#ifndef DATA_PACK_H
#define DATA_PACK_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct err;

struct data_pack_options {
    const char *source; /* a folder per class, or a root with train and valid|validation|val and
                           test below */
    const char *target; /* the folder to write; each split in a folder of the same name below it.
                           Source and target may each be s3://BUCKET/PREFIX */
    uint64_t
        shard_bytes;  /* a shard is closed when it holds this much; default DATA_PACK_SHARD_BYTES */
    bool stop_at_bad; /* a file that is no picture, or empty, is ERR_INPUT; else it is packed too
                         (but where empty) and warned of: training leaves it out */
    const volatile sig_atomic_t *cancel;
};
#define DATA_PACK_SHARD_BYTES 100000000u

/** Pack, then read back and compare every sample's CRC-32C. A target that already holds shards is
 * ERR_INPUT. The top index appears last, whole; a
 * failure removes what was written. A shard that goes to a bucket is made in a temporary folder
 * first (target.h). */
int data_pack(const struct data_pack_options *options, struct err *err);

#endif
