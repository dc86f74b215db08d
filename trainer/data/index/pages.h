/*
 * trainer/data/index/pages.h -- the samples of a large set of shards, read shard by shard when they
 * are wanted.
 *
 * The top index says how many samples each shard has, and pack numbers samples in the order of
 * shards: so a sample's shard is found by halving, and its entry by reading that shard's index
 * file, a page. Pages that nobody holds are forgotten, the one used longest ago first, when all
 * take more than bytes_max: memory is that, what is held, and 80 bytes and a name for each shard.
 * Each page is checked as it is read: its CRC, the lengths, labels and sums that the top index
 * says, on a disk the tar too. The fingerprint is what the top index says: to compute it every key
 * would be needed.
 *
 * Any number of threads may hold samples at a time.
 */
#ifndef DATA_INDEX_PAGES_H
#define DATA_INDEX_PAGES_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct data_index;
struct data_pages;
struct data_sample;
struct data_shard_top;
struct err;

#define DATA_PAGES_BYTES_MAX ((uint64_t)256 << 20) /* of an index: 5 million pictures' */

/** For an index whose root, classes and file names are there and stay. shards: (index->files),
 * copied. */
struct data_pages *data_pages_new(const struct data_index *index,
                                  const struct data_shard_top *shards, uint64_t bytes_max);
/** Nothing is held any more. Accepts NULL. */
void data_pages_free(struct data_pages *pages);

/** labels[l] is what label l of the files is from now on; before anything is held. */
void data_pages_bind(struct data_pages *pages, const int32_t *labels, int count);

/** The number of the shard that has a sample. */
size_t data_pages_file(const struct data_pages *pages, uint64_t sample);

/** See data_index_hold(), data_index_drop(), data_index_sample(). */
int data_pages_hold(struct data_pages *pages, uint64_t sample, const volatile sig_atomic_t *cancel,
                    struct err *err);
void data_pages_drop(struct data_pages *pages, uint64_t sample);
const struct data_sample *data_pages_sample(struct data_pages *pages, uint64_t sample);

/** For another rank: what new and bind were given. decode: -1 where the bytes are not all there. */
void data_pages_encode(const struct data_pages *pages, struct buf *out);
struct data_pages *data_pages_decode(const struct data_index *index, const void *data,
                                     size_t bytes);

/* What was read so far. */
struct data_pages_stats {
    uint64_t reads, bytes, bytes_max; /* pages; of memory now, and at most */
};
void data_pages_stats(struct data_pages *pages, struct data_pages_stats *stats);

#endif
