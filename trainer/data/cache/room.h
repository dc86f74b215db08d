/*
 * trainer/data/cache/room.h -- which chunks of a cache give way to a new one (policy.h).
 */
#ifndef DATA_CACHE_ROOM_H
#define DATA_CACHE_ROOM_H

#include <stdbool.h>
#include <stdint.h>

struct data_cache;

/** With the cache's mutex and the store's lock: remove what is not needed before the tick `from`,
 * what is needed last first, until a file of so many bytes has room. false: it has none. */
bool data_cache_room_make(struct data_cache *cache, uint64_t file_bytes, uint64_t from);

#endif
