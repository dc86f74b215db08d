#include "trainer/data/cache/cache.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "trainer/data/cache/chunk.h"
#include "trainer/data/cache/room.h"
#include "trainer/data/cache/set.h"
#include "trainer/data/cache/store.h"
#include "trainer/data/cache/table.h"
#include "trainer/data/index/index.h"

static bool is_off(const struct data_cache_set *set)
{
    return set == NULL || set->table->states == NULL ||
           __atomic_load_n(&set->cache->off, __ATOMIC_RELAXED);
}

static void turn_off(struct data_cache *cache, const char *what)
{
    const int number = errno;

    if (__atomic_exchange_n(&cache->off, true, __ATOMIC_RELAXED) ||
        !data_cache_store_may_warn(cache->store))
        return;
    log_warn("cannot %s the cache '%s': %s; training goes on without it", what, cache->dir,
             number != 0 ? strerror(number) : "its files are not as they were written");
}

static uint32_t epoch_of(const struct data_cache_set *set, uint32_t epoch)
{
    return epoch == DATA_CACHE_TOLD ? set->epoch : epoch;
}

/* Under both locks: a file for a chunk that was read in `epoch`, if it is worth it. */
static void create(struct data_cache_set *set, struct data_cache_chunk *chunk, uint32_t epoch)
{
    struct data_cache *const cache = set->cache;
    const uint64_t bytes = data_cache_chunk_bytes(chunk);
    const uint32_t state = data_cache_set_is_wanted(set, chunk->number, epoch)
                               ? data_cache_state_after(epoch) - 1
                               : data_cache_state_after(epoch);
    const uint64_t next =
        data_cache_set_next_from(set, chunk->number, data_cache_state_needed_from(state));

    /* What is not needed again in this run takes nothing from what is there. */
    if (next == DATA_CACHE_NEVER ? !data_cache_store_fits(cache->store, bytes)
                                 : !data_cache_room_make(cache, bytes, next + 1))
        return;
    if (data_cache_store_create(cache->store, set->table, chunk, state) < 0 && errno != EEXIST)
        turn_off(cache, "write to"); /* somebody else's file of that name stays */
}

/* The same, if nobody was faster; -1: there is no file to write to. */
static int admit(struct data_cache_set *set, struct data_cache_chunk *chunk, uint32_t epoch)
{
    struct data_cache *const cache = set->cache;

    pthread_mutex_lock(&cache->mutex);
    if (!data_cache_store_lock(cache->store)) {
        pthread_mutex_unlock(&cache->mutex);
        return -1;
    }
    if (set->table->states[chunk->number] == 0)
        create(set, chunk, epoch);
    data_cache_store_unlock(cache->store);
    pthread_mutex_unlock(&cache->mutex);
    return chunk->fd;
}

/* ---- sets ---- */

struct data_cache *data_cache_new(const char *dir, uint64_t bytes,
                                  const volatile sig_atomic_t *cancel, struct err *err)
{
    struct data_cache *const cache = calloc(1, sizeof *cache);

    if (cache == NULL)
        abort();
    cache->dir = text_copy(dir);
    pthread_mutex_init(&cache->mutex, NULL);
    if (data_cache_store_open(&cache->store, dir, bytes, cancel, err) == 0)
        return cache;
    data_cache_free(cache);
    return NULL;
}

void data_cache_free(struct data_cache *cache)
{
    if (cache == NULL)
        return;
    for (int i = 0; i < cache->set_count; i++) {
        if (!data_cache_set_is_twin(&cache->sets[i]))
            data_cache_table_close(&cache->sets[i].own);
        free(cache->sets[i].known);
    }
    data_cache_store_close(cache->store);
    pthread_mutex_destroy(&cache->mutex);
    free(cache->dir);
    free(cache);
}

int data_cache_add(struct data_cache *cache, const struct data_index *index,
                   const struct data_cache_use *host, const struct data_cache_use *mine,
                   struct err *err)
{
    struct data_cache_set *const set = &cache->sets[cache->set_count];

    assert(cache->set_count < DATA_CACHE_SETS_MAX && host->samples == index->count);
    *set = (struct data_cache_set){
        .cache = cache, .index = index, .host = *host, .mine = *mine, .epoch = 0};
    if (host->order != NULL) {
        set->order = *host->order;
        set->host.order = set->mine.order = &set->order;
    }
    set->table = &set->own;
    set->own.chunks = data_cache_chunks(host);
    data_cache_set_key(index, host->chunk_samples, set->own.key);
    for (int i = cache->set_count - 1; i >= 0; i--)
        if (memcmp(cache->sets[i].own.key, set->own.key, sizeof set->own.key) == 0)
            set->table = cache->sets[i].table;
    if (!data_cache_set_is_twin(set) && data_cache_store_add(cache->store, set->table, err) < 0)
        return -1;
    set->known = calloc(set->own.chunks + 1, sizeof *set->known);
    if (set->known == NULL)
        abort();
    cache->set_count++;
    pthread_mutex_lock(&cache->mutex);
    if (data_cache_store_lock(cache->store)) { /* --cache-bytes may have been more the last time */
        if (data_cache_store_used(cache->store) > data_cache_store_bytes_max(cache->store))
            data_cache_room_make(cache, 0, 0);
        data_cache_store_unlock(cache->store);
    }
    pthread_mutex_unlock(&cache->mutex);
    return 0;
}

struct data_cache_set *data_cache_set(struct data_cache *cache, const struct data_index *index)
{
    for (int i = 0; cache != NULL && i < cache->set_count; i++)
        if (cache->sets[i].index == index)
            return &cache->sets[i];
    return NULL;
}

/* ---- reading ---- */

static void see_now(struct data_cache *cache, uint64_t tick)
{
    pthread_mutex_lock(&cache->mutex);
    if (tick > cache->now)
        cache->now = tick;
    pthread_mutex_unlock(&cache->mutex);
}

void data_cache_now(struct data_cache_set *set, uint32_t epoch, uint64_t step)
{
    if (set != NULL)
        see_now(set->cache, epoch * set->host.epoch_ticks + step);
}

void data_cache_evaluate(struct data_cache_set *set, uint32_t epoch)
{
    if (set == NULL)
        return;
    pthread_mutex_lock(&set->cache->mutex);
    set->epoch = epoch;
    pthread_mutex_unlock(&set->cache->mutex);
}

static void close_chunk(struct data_cache_chunk *chunk)
{
    data_cache_chunk_unload(chunk);
    if (chunk->fd >= 0)
        close(chunk->fd);
    chunk->fd = -1;
}

/* What there is of a chunk. */
enum finding {
    FOUND, /* it is open, and its records are read */
    GONE,
    DAMAGED, /* its header is not what was written */
    UNREAD,  /* errno */
};

static enum finding find(const struct data_cache_set *set, struct data_cache_chunk *chunk,
                         bool writing)
{
    int number;

    chunk->fd = data_cache_store_file(set->table, chunk->number, writing);
    if (chunk->fd < 0)
        return errno == ENOENT ? GONE : UNREAD;
    if (data_cache_chunk_load(chunk) == 0)
        return FOUND;
    number = errno;
    close_chunk(chunk);
    errno = number;
    return number == 0 ? DAMAGED : UNREAD;
}

/* A chunk's file seemed to be damaged, or not there. It is looked at once more under the locks:
 * another may have made it anew meanwhile. */
static void drop(struct data_cache_set *set, uint64_t number)
{
    struct data_cache *const cache = set->cache;
    struct data_cache_chunk chunk = data_cache_set_chunk(set, number);

    pthread_mutex_lock(&cache->mutex);
    if (data_cache_store_lock(cache->store)) {
        const enum finding found =
            data_cache_set_state(set, number) != 0 ? find(set, &chunk, false) : FOUND;

        close_chunk(&chunk);
        if ((found == GONE || found == DAMAGED) &&
            data_cache_store_evict(cache->store, set->table, number,
                                   data_cache_set_bytes(set, number)))
            cache->stats.damaged += found == DAMAGED;
        data_cache_store_unlock(cache->store);
    }
    pthread_mutex_unlock(&cache->mutex);
}

/* A picture's bytes seemed to be wrong. If they still are, its record goes, and the next put writes
 * both; its chunk may be in use and stays. */
static void void_picture(struct data_cache_set *set, uint64_t number, uint32_t at,
                         unsigned char *scratch)
{
    struct data_cache *const cache = set->cache;
    struct data_cache_chunk chunk = data_cache_set_chunk(set, number);

    pthread_mutex_lock(&cache->mutex);
    if (data_cache_store_lock(cache->store)) {
        if (data_cache_set_state(set, number) != 0 && find(set, &chunk, true) == FOUND &&
            data_cache_chunk_has(&chunk, at) && data_cache_chunk_read(&chunk, at, scratch) < 0 &&
            errno == 0) {
            if (data_cache_chunk_void(&chunk, at) == 0)
                cache->stats.damaged++;
            else
                turn_off(cache, "write to");
        }
        close_chunk(&chunk);
        data_cache_store_unlock(cache->store);
    }
    pthread_mutex_unlock(&cache->mutex);
}

/* Open a chunk's file and read what it has; false: nothing. */
static bool open_chunk(struct data_cache_set *set, struct data_cache_chunk *chunk, bool writing)
{
    enum finding found;

    if (data_cache_set_state(set, chunk->number) == 0)
        return false;
    found = find(set, chunk, writing);
    if (found == UNREAD && errno != EWOULDBLOCK)
        turn_off(set->cache, "read");
    else if (found == GONE || found == DAMAGED)
        drop(set, chunk->number);
    return found == FOUND;
}

static int by_sample(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

void data_cache_look(struct data_cache_set *set, const uint64_t *samples, uint32_t count,
                     bool *there)
{
    uint64_t(*const sorted)[2] = calloc((size_t)count + 1, sizeof *sorted);
    struct data_cache_chunk chunk = {.fd = -1};
    uint64_t number = UINT64_MAX;
    bool open = false;

    if (sorted == NULL)
        abort();
    memset(there, 0, count * sizeof *there);
    for (uint32_t i = 0; i < count; i++) {
        sorted[i][0] = samples[i];
        sorted[i][1] = i;
    }
    qsort(sorted, count, sizeof *sorted, by_sample);
    for (uint32_t i = 0; i < count && !is_off(set); i++) {
        const uint64_t size = set->host.chunk_samples;

        if (sorted[i][0] / size != number) {
            number = sorted[i][0] / size;
            close_chunk(&chunk);
            chunk = data_cache_set_chunk(set, number);
            open = open_chunk(set, &chunk, false);
        }
        there[sorted[i][1]] = open && data_cache_chunk_has(&chunk, (uint32_t)(sorted[i][0] % size));
    }
    close_chunk(&chunk);
    free(sorted);
}

/* Samples [0, n) of these are of one chunk. */
static uint32_t run_of(const struct data_cache_set *set, const uint64_t *samples, uint32_t count)
{
    const uint64_t size = set->host.chunk_samples;
    uint32_t n = 1;

    while (n < count && samples[n] / size == samples[0] / size)
        n++;
    return n;
}

/* This process read n samples of a chunk: after its last one of an epoch, the chunk is not needed
 * before the next. */
static void note_read(struct data_cache_set *set, uint64_t chunk, uint32_t n, uint32_t epoch)
{
    struct data_cache *const cache = set->cache;
    struct data_cache_known *const known = &set->known[chunk];

    if (known->epoch != epoch)
        known->read = 0;
    known->epoch = epoch;
    known->read += n;
    if (!data_cache_set_is_done(set, chunk, epoch) || data_cache_set_is_wanted(set, chunk, epoch) ||
        data_cache_set_state(set, chunk) == 0 ||
        data_cache_set_state(set, chunk) >= data_cache_state_after(epoch))
        return;
    if (!data_cache_store_lock(cache->store))
        return;
    if (set->table->states[chunk] > 0)
        __atomic_store_n(&set->table->states[chunk], data_cache_state_after(epoch),
                         __ATOMIC_RELAXED);
    data_cache_store_unlock(cache->store);
}

static uint64_t length(const struct data_cache_set *set, const uint64_t *samples, uint32_t count)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < count; i++)
        bytes += set->index->samples[samples[i]].bytes;
    return bytes;
}

static void count_read(struct data_cache_set *set, uint32_t epoch, const uint64_t *samples,
                       uint32_t count, bool hit)
{
    struct data_cache *const cache = set->cache;

    pthread_mutex_lock(&cache->mutex);
    *(hit ? &cache->stats.hits : &cache->stats.misses) += count;
    *(hit ? &cache->stats.hit_bytes : &cache->stats.miss_bytes) += length(set, samples, count);
    for (uint32_t i = 0, n; i < count && !is_off(set); i += n) {
        n = run_of(set, samples + i, count - i);
        note_read(set, samples[i] / set->host.chunk_samples, n, epoch_of(set, epoch));
    }
    pthread_mutex_unlock(&cache->mutex);
}

/* Samples of one chunk. */
static bool get_run(struct data_cache_set *set, const uint64_t *samples, uint32_t n,
                    unsigned char *const *out)
{
    const uint64_t size = set->host.chunk_samples;
    struct data_cache_chunk chunk = data_cache_set_chunk(set, samples[0] / size);
    bool good = open_chunk(set, &chunk, false), damaged = false;
    uint32_t i = 0;

    for (; i < n && good; i += good) {
        const uint32_t at = (uint32_t)(samples[i] % size);

        good = data_cache_chunk_has(&chunk, at);
        if (good && data_cache_chunk_read(&chunk, at, out[i]) < 0) {
            good = false;
            damaged = errno == 0;
            if (!damaged)
                turn_off(set->cache, "read");
        }
    }
    close_chunk(&chunk);
    if (damaged)
        void_picture(set, chunk.number, (uint32_t)(samples[i] % size), out[i]);
    return good;
}

bool data_cache_get(struct data_cache_set *set, uint32_t epoch, const uint64_t *samples,
                    uint32_t count, unsigned char *const *out)
{
    for (uint32_t i = 0; i < count && !is_off(set); i++)
        if (data_cache_set_state(set, samples[i] / set->host.chunk_samples) == 0)
            return false;
    for (uint32_t i = 0, n; i < count; i += n) {
        if (is_off(set))
            return false;
        n = run_of(set, samples + i, count - i);
        if (!get_run(set, samples + i, n, out + i))
            return false;
    }
    count_read(set, epoch, samples, count, true);
    return true;
}

/* ---- writing ---- */

static void put_run(struct data_cache_set *set, uint32_t epoch, const uint64_t *samples, uint32_t n,
                    unsigned char *const *data)
{
    struct data_cache *const cache = set->cache;
    const uint64_t size = set->host.chunk_samples;
    struct data_cache_chunk chunk = data_cache_set_chunk(set, samples[0] / size);
    uint64_t kept = 0;
    int rc = 0;

    if (!open_chunk(set, &chunk, true) && admit(set, &chunk, epoch) < 0 &&
        !open_chunk(set, &chunk, true)) /* that another thread made meanwhile */
        return;
    for (uint32_t i = 0; i < n && rc == 0; i++) {
        const uint32_t at = (uint32_t)(samples[i] % size);

        if (data[i] == NULL || (chunk.records != NULL && data_cache_chunk_has(&chunk, at)))
            continue;
        rc = data_cache_chunk_write(&chunk, at, data[i]);
        kept += rc == 0;
    }
    if (rc < 0)
        turn_off(cache, "write to");
    close_chunk(&chunk);
    pthread_mutex_lock(&cache->mutex);
    cache->stats.kept += kept;
    pthread_mutex_unlock(&cache->mutex);
}

void data_cache_put(struct data_cache_set *set, uint32_t epoch, const uint64_t *samples,
                    uint32_t count, unsigned char *const *data)
{
    uint32_t now;

    if (set == NULL)
        return;
    pthread_mutex_lock(&set->cache->mutex);
    now = epoch_of(set, epoch);
    pthread_mutex_unlock(&set->cache->mutex);
    for (uint32_t i = 0, n; i < count && !is_off(set); i += n) {
        n = run_of(set, samples + i, count - i);
        put_run(set, now, samples + i, n, data + i);
    }
    count_read(set, now, samples, count, false);
}

void data_cache_stats(struct data_cache *cache, struct data_cache_stats *stats)
{
    pthread_mutex_lock(&cache->mutex);
    *stats = cache->stats;
    stats->disk_bytes = data_cache_store_used(cache->store);
    stats->disk_bytes_max = data_cache_store_bytes_max(cache->store);
    pthread_mutex_unlock(&cache->mutex);
}
