/*
 * trainer/data/stream/plan.h -- which ranges of which files hold a group of samples.
 *
 * Pure arithmetic. Pictures that lie behind one another in a shard, with nothing but a tar's
 * headers, padding and class members between them, become one range, so that a shuffled window of
 * whole chunks is read by a few long requests. A picture with a file of its own is a range.
 */
#ifndef DATA_STREAM_PLAN_H
#define DATA_STREAM_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct data_index;
struct data_sample;

struct data_plan_range {
    uint32_t first, count; /* its samples: by_file[first .. first + count - 1] */
    uint32_t need;         /* which of the group's samples is wanted first */
    uint32_t file;         /* shards: number of the tar */
    uint64_t offset;       /* in the file */
    uint64_t length;       /* of the range: what is read */
    uint64_t bytes;        /* of its samples: what is kept */
    bool cached;           /* all of its samples seem to be in the cache */
};

struct data_plan {
    uint32_t *by_file;              /* (count) numbers of the group's samples, as they lie in the
                                       files */
    struct data_plan_range *ranges; /* by need: the first wanted first */
    size_t range_count;
};

/** Plan the group samples[0 .. count) (of the index, in the order in which they are wanted, each
 * once). cached (count): which of them seem to be in the cache; a range has only such or none.
 * NULL: none. No range with more than one sample is longer than range_bytes. Allocates two small
 * arrays.
 */
void data_plan_init(struct data_plan *plan, const struct data_index *index,
                    const struct data_sample *samples, const bool *cached, uint32_t count,
                    uint64_t range_bytes);
/** Accepts all-zero. */
void data_plan_release(struct data_plan *plan);

#endif
