/*
 * trainer/data/stream/range.h -- read one planned range of a bucket's pictures.
 */
#ifndef DATA_STREAM_RANGE_H
#define DATA_STREAM_RANGE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/data/index/place.h"

struct data_cache_set;
struct data_group;
struct data_index;
struct err;
struct s3_client;

/* Where from; read by any number of threads. */
struct data_range_source {
    const struct data_index *index;
    struct s3_client *client;
    struct data_place root;       /* the folder of index->root; released by whoever made this */
    struct data_cache_set *cache; /* asked first, and told; NULL: none */
    bool evaluation;              /* as the cache is told: not of the group's epoch */
    const volatile sig_atomic_t *cancel; /* ends the reading with ERR_STOPPED */
};

/**
 * Read a range of a group and put its pictures (heap) into group->data; on failure none of them.
 * Returns 1 where the cache had them all, 0 where they are from S3.
 *
 * scratch  room for the range's length where it holds more than one picture, else not looked at.
 *          Pictures go through it: a range that was kept whole would not shrink as they are taken.
 * damaged  gets the number of samples of a shard that came with another CRC-32C than their index
 *          has. Each is read again by itself, three times; one that stays wrong has no picture
 *          (NULL) afterwards.
 *
 * Blocks. Touches the group at this range's samples only. ERR_INPUT names the object: gone, or
 * replaced since it was listed; ERR_NET, ERR_MEMORY, ERR_STOPPED.
 */
int data_range_read(const struct data_range_source *source, struct data_group *group, size_t number,
                    unsigned char *scratch, uint32_t *damaged, struct err *err);

#endif
