/*
 * trainer/data/pack/pack.h -- write pictures with their labels as tar shards with an index.
 */
#ifndef DATA_PACK_H
#define DATA_PACK_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct err;

struct data_pack_options {
    const char *source; /* what data_source_open takes, or a root with train and
                           valid|validation|val and test below */
    const char *root;   /* of a list: the folder that its paths are below; NULL: the list's own */
    const char *target; /* the folder to write; each split in a folder of the same name below it.
                           Source and target may each be s3://BUCKET/PREFIX */
    uint64_t
        shard_bytes;  /* a shard is closed when it holds this much; default DATA_PACK_SHARD_BYTES */
    int threads;      /* that read; 0: DATA_AHEAD_THREADS. What is written does not depend on it */
    bool stop_at_bad; /* a file that is no picture, or empty, is ERR_INPUT; else it is packed too
                         (but where empty) and warned of: training leaves it out */
    const volatile sig_atomic_t *cancel;
};
#define DATA_PACK_SHARD_BYTES 100000000u

/**
 * Pack; each shard is read back and compared, every sample's CRC-32C, when it is finished. The top
 * index appears last, whole. A shard that goes to a bucket is made in TMPDIR first, in a
 * file without a name: room for one shard is needed.
 *
 * Where the data is to blame, all that was written is removed. After any other failure (a stop, the
 * network, a disk, memory, what S3 refuses, and of course a kill), finished shards stay with a note
 * of what they are of (packing.h), and the same call goes on behind those that are whole, after it
 * has read and compared them; what it cannot read it leaves alone. Of data in a bucket only a
 * picture that stop_at_bad refuses is surely to blame. A target that holds other shards is
 * ERR_INPUT.
 */
int data_pack(const struct data_pack_options *options, struct err *err);

#endif
