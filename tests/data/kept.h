/*
 * tests/data/kept.h -- a cache of pictures in a folder of its own, and processes that use it.
 */
#ifndef TESTS_DATA_KEPT_H
#define TESTS_DATA_KEPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/types.h>

#include "trainer/data/cache/cache.h"
#include "trainer/data/index/index.h"

#define KEPT_COUNT     600
#define KEPT_CHUNK     16
#define KEPT_BYTES_MAX 3000

extern char kept_root[64]; /* DIR */
extern struct data_index kept_pictures;
extern struct data_cache_use kept_use; /* all of them, for ever */

/** Around each case. */
int kept_set_up(void **state);
int kept_tear_down(void **state);

/** What du says of DIR. */
uint64_t kept_disk_use(void);
/** The files of chunks, at most 256. */
extern char kept_paths[256][256];
extern int kept_path_count;
void kept_list_chunks(void);
/** Write a file of zeros below DIR. */
void kept_fill(const char *name, size_t bytes);

/** The bytes of a picture. */
void kept_picture(uint64_t sample, unsigned char *out);
/** Open it; fails the test. */
struct data_cache *kept_open_cache(uint64_t bytes);
/** Whether a picture is there; then it must be right. */
bool kept_get(struct data_cache *cache, uint32_t epoch, uint64_t sample);
void kept_put(struct data_cache *cache, uint32_t epoch, uint64_t sample);
/** Read all of an epoch, as a rank does; returns what was there. */
int kept_read_epoch(struct data_cache *cache, uint32_t epoch);
struct data_cache_stats kept_stats_of(struct data_cache *cache);
/** Close it; who then opens it alone counts all files, and comes to what was counted on the way. */
void kept_close_counted(struct data_cache *cache, uint64_t bytes);

/** A process that trains till it is ended; it must have found nothing wrong. */
pid_t kept_begin_process(uint64_t bytes);
void kept_end_process(pid_t pid);

#endif
