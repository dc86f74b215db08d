/*
 * trainer/data/cache/set.h -- the pictures of an index in a cache: what a process knows of its
 * chunks without their files, when they are needed next first of all. For this room only.
 */
#ifndef DATA_CACHE_SET_H
#define DATA_CACHE_SET_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "trainer/data/cache/cache.h"
#include "trainer/data/cache/chunk.h"
#include "trainer/data/cache/policy.h"
#include "trainer/data/cache/table.h"
#include "trainer/data/index/order.h"

struct data_cache_store;

#define DATA_CACHE_SETS_MAX 4 /* train, val, test */

/* What this process knows of a chunk. */
struct data_cache_known {
    struct data_cache_span next; /* as computed for: */
    uint32_t state;              /* 0: not computed */
    uint32_t epoch, read;        /* samples that this process read in its last epoch */
};

struct data_cache_set {
    struct data_cache *cache;
    const struct data_index *index;
    struct data_order order; /* the uses' own */
    struct data_cache_use host, mine;
    struct data_cache_table *table, own; /* table: of the first set with this key */
    struct data_cache_known *known;      /* (chunks) */
    uint32_t epoch;                      /* of the evaluation */
};

struct data_cache {
    char *dir;
    struct data_cache_store *store;
    struct data_cache_set sets[DATA_CACHE_SETS_MAX];
    int set_count;
    bool off;              /* for good */
    pthread_mutex_t mutex; /* guards what follows, sets[].known and .epoch; the store's lock may be
                              taken inside */
    uint64_t now;
    struct data_cache_stats stats;
};

/** What the dataset of an index is known by (cache.h). */
void data_cache_set_key(const struct data_index *index, uint64_t chunk_samples,
                        unsigned char key[DIGEST_SHA256_BYTES]);

/** As a chunk's state is now (table.h); it may be another the next moment. */
uint32_t data_cache_set_state(const struct data_cache_set *set, uint64_t chunk);
/** A chunk that is not open; and the length of its file. */
struct data_cache_chunk data_cache_set_chunk(const struct data_cache_set *set, uint64_t number);
uint64_t data_cache_set_bytes(const struct data_cache_set *set, uint64_t number);

/** Whether it has the pictures and the table of a set before it (the test set is the validation's,
 * say): a chunk's state is true of all of them, and it is needed when the first of them needs it.
 */
bool data_cache_set_is_twin(const struct data_cache_set *set);
/** Whether this process has read its share of a chunk in an epoch, if it has one. */
bool data_cache_set_is_done(const struct data_cache_set *set, uint64_t chunk, uint32_t epoch);
/** Whether another set of its pictures still wants a chunk in an epoch. */
bool data_cache_set_is_wanted(const struct data_cache_set *set, uint64_t chunk, uint32_t epoch);

/** With the cache's mutex and the store's lock: when a chunk that is there is needed next, a tick
 * (policy.h). */
uint64_t data_cache_set_next(const struct data_cache_set *set, uint64_t chunk);
/** The same of one that is not there and not needed before the epoch `from`. */
uint64_t data_cache_set_next_from(const struct data_cache_set *set, uint64_t chunk, uint32_t from);

#endif
