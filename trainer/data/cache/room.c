#include "trainer/data/cache/room.h"

#include "trainer/data/cache/set.h"
#include "trainer/data/cache/store.h"

#define BUSY_MAX 8 /* chunks that are passed over because somebody reads them */

struct victim {
    struct data_cache_set *set;
    uint64_t chunk;
};

static bool is_among(const struct victim *victims, int count, struct data_cache_set *set,
                     uint64_t chunk)
{
    for (int i = 0; i < count; i++)
        if (victims[i].set == set && victims[i].chunk == chunk)
            return true;
    return false;
}

/* Under both locks: what is needed last, if that is not before `from`. */
static bool farthest(struct data_cache *cache, uint64_t from, const struct victim *busy,
                     int busy_count, struct victim *victim)
{
    bool found = false;

    for (int s = 0; s < cache->set_count; s++) {
        struct data_cache_set *const set = &cache->sets[s];

        if (data_cache_set_is_twin(set))
            continue;
        for (uint64_t chunk = 0; set->table->states != NULL && chunk < set->table->chunks;
             chunk++) {
            uint64_t begin;

            if (set->table->states[chunk] == 0)
                continue;
            begin = data_cache_set_next(set, chunk);
            if (begin < from || is_among(busy, busy_count, set, chunk))
                continue;
            *victim = (struct victim){set, chunk};
            found = true;
            if (begin == DATA_CACHE_NEVER)
                return true;
            from = begin + 1;
        }
    }
    return found;
}

bool data_cache_room_make(struct data_cache *cache, uint64_t file_bytes, uint64_t from)
{
    struct victim busy[BUSY_MAX];
    int busy_count = 0;

    if (file_bytes > data_cache_store_bytes_max(cache->store))
        return false;
    while (!data_cache_store_fits(cache->store, file_bytes)) {
        struct victim victim;

        if (data_cache_store_evict_idle(cache->store))
            continue;
        if (busy_count == BUSY_MAX || !farthest(cache, from, busy, busy_count, &victim))
            return false;
        if (data_cache_store_evict(cache->store, victim.set->table, victim.chunk,
                                   data_cache_set_bytes(victim.set, victim.chunk)))
            cache->stats.evicted++;
        else
            busy[busy_count++] = victim;
    }
    return true;
}
