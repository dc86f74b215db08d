/*
 * trainer/data/cache/cache.h -- pictures of a bucket kept on the host's disk, for later epochs and
 * later runs on the same data.
 *
 * Before a range is read from S3 the cache is asked, after it the cache is told. What is kept is a
 * chunk of the order (order.h: G consecutive samples, about 4 MB), a file each (chunk.h), in
 * a folder of bounded size that the processes of a host share (store.h); which chunks stay is
 * Belady's rule (policy.h). A chunk is the order's unit: all of it is read in one window, by
 * one lane, or two where their border lies in it. Of a chunk that came in parts, or that two ranks
 * share, the file holds what was read so far.
 *
 * A dataset is known by a SHA-256 over its root, its fingerprint, the names and ETags of its files
 * and each sample's place, length and CRC-32C (or ETag's): what changes in S3 is another dataset.
 *
 * It never fails a run. An error of the disk (full, say) is a warning, by the first process of the
 * host that meets it, and from then on nothing is there for those that do. (But `lock` and the
 * tables are mapped: who cuts them short, or a disk that cannot read them, ends a process with
 * SIGBUS.) A picture that is not what was written is read from S3 again and written anew, whoever
 * else has its chunk open; a chunk whose header is not goes when nobody has. A thread
 * waits for the locks of store.h only, which have a time limit, and holds nothing else
 * meanwhile that another needs for giving one back: no thread that fetches can lock up here.
 *
 * In memory: 32 bytes for each chunk, and 4 that the processes share.
 */
#ifndef DATA_CACHE_H
#define DATA_CACHE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/data/cache/policy.h"

struct data_cache;
struct data_cache_set;
struct data_index;
struct err;

/** Open DIR (store.h); set `cancel` (may be NULL; as long as the cache) ends that. NULL:
 * ERR_IO, ERR_STOPPED. */
struct data_cache *data_cache_new(const char *dir, uint64_t bytes,
                                  const volatile sig_atomic_t *cancel, struct err *err);
/** Accepts NULL. Nobody may use a set any more. */
void data_cache_free(struct data_cache *cache);

/** Keep pictures of an index: what the host reads of it and when, and which part of that this
 * process does (the order is copied; the index outlives the cache). Before the first thread looks.
 * ERR_IO, ERR_STOPPED. */
int data_cache_add(struct data_cache *cache, const struct data_index *index,
                   const struct data_cache_use *host, const struct data_cache_use *mine,
                   struct err *err);
/** The index's set; NULL: none, or cache is NULL. */
struct data_cache_set *data_cache_set(struct data_cache *cache, const struct data_index *index);

/* Any thread, from here on. Each function but the first accepts a NULL set, which has nothing. */

/** Where the reading is: a step of an epoch of training. */
void data_cache_now(struct data_cache_set *set, uint32_t epoch, uint64_t step);
/** An evaluation of an epoch begins: it reads with `epoch` DATA_CACHE_TOLD below. */
void data_cache_evaluate(struct data_cache_set *set, uint32_t epoch);
#define DATA_CACHE_TOLD UINT32_MAX

/** Which of these samples (count, in any order) seem to be there. */
void data_cache_look(struct data_cache_set *set, const uint64_t *samples, uint32_t count,
                     bool *there);
/** Read samples that are wanted in an epoch into out[i]. false: they are not all there, what was
 * written is void. */
bool data_cache_get(struct data_cache_set *set, uint32_t epoch, const uint64_t *samples,
                    uint32_t count, unsigned char *const *out);
/** These came from S3 (NULL: this one did not); keep them, if they are worth it. */
void data_cache_put(struct data_cache_set *set, uint32_t epoch, const uint64_t *samples,
                    uint32_t count, unsigned char *const *data);

struct data_cache_stats {
    uint64_t hits, hit_bytes;    /* pictures that came from the disk */
    uint64_t misses, miss_bytes; /* and from S3 */
    uint64_t kept;               /* pictures written */
    uint64_t evicted;            /* chunks that made room */
    uint64_t damaged;            /* pictures, and chunks' headers, that were not what was written */
    uint64_t disk_bytes;         /* taken up now, by all processes */
    uint64_t disk_bytes_max;     /* --cache-bytes, or what it came to */
};
void data_cache_stats(struct data_cache *cache, struct data_cache_stats *stats);

#endif
