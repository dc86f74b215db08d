#include "trainer/data/cache.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "trainer/data/cache_chunk.h"
#include "trainer/data/cache_store.h"
#include "trainer/data/cache_table.h"
#include "trainer/data/index.h"
#include "trainer/data/order.h"

#define SETS_MAX 4 /* train, val, test */
#define BUSY_MAX 8 /* chunks that are passed over because somebody reads them */

/* What this process knows of a chunk. */
struct known {
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
    struct known *known;                 /* (chunks) */
    uint32_t epoch;                      /* of the evaluation */
};

struct data_cache {
    char *dir;
    struct data_cache_store *store;
    struct data_cache_set sets[SETS_MAX];
    int set_count;
    bool off;              /* for good */
    pthread_mutex_t mutex; /* guards what follows, sets[].known and .epoch; the store's lock may be
                              taken inside */
    uint64_t now;
    struct data_cache_stats stats;
};

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

/* ---- what is known without its files ---- */

/* As `state` is now; it may be another the next moment. */
static uint32_t state_of(const struct data_cache_set *set, uint64_t chunk)
{
    return __atomic_load_n(&set->table->states[chunk], __ATOMIC_ACQUIRE);
}

static struct data_cache_chunk chunk_of(const struct data_cache_set *set, uint64_t number)
{
    const uint64_t size = set->host.chunk_samples, first = number * size,
                   left = set->host.samples - first;

    return (struct data_cache_chunk){.key = set->table->key,
                                     .number = number,
                                     .samples = set->index->samples + first,
                                     .count = (uint32_t)(left < size ? left : size),
                                     .fd = -1};
}

static uint64_t bytes_of(const struct data_cache_set *set, uint64_t number)
{
    const struct data_cache_chunk chunk = chunk_of(set, number);

    return data_cache_chunk_bytes(&chunk);
}

static uint32_t epoch_of(const struct data_cache_set *set, uint32_t epoch)
{
    return epoch == DATA_CACHE_TOLD ? set->epoch : epoch;
}

/* Whether it has the pictures and the table of a set before it (the test set is the validation's,
 * say): a chunk's state is true of all of them, and it is needed when the first of them needs it.
 */
static bool is_twin(const struct data_cache_set *set)
{
    return set->table != &set->own;
}

/* Whether this process has read its share of a chunk in an epoch, if it has one. */
static bool is_done(const struct data_cache_set *set, uint64_t chunk, uint32_t epoch)
{
    const struct known *const known = &set->known[chunk];

    return (known->epoch == epoch ? known->read : 0) >=
           data_cache_use_samples(&set->mine, chunk, epoch);
}

/* Whether another set of its pictures still wants a chunk in an epoch. */
static bool is_wanted(const struct data_cache_set *set, uint64_t chunk, uint32_t epoch)
{
    const struct data_cache *const cache = set->cache;

    for (int i = 0; i < cache->set_count; i++) {
        const struct data_cache_set *const other = &cache->sets[i];

        if (other != set && other->table == set->table && !is_done(other, chunk, epoch))
            return true;
    }
    return false;
}

/* Under both locks: of one set. */
static struct data_cache_span own_next_of(struct data_cache_set *set, uint64_t chunk)
{
    struct known *const known = &set->known[chunk];
    const uint32_t state = set->table->states[chunk];

    if (known->state != state ||
        (known->next.begin != DATA_CACHE_NEVER && known->next.end < set->cache->now)) {
        known->next = data_cache_next_use(&set->host, chunk, data_cache_state_needed_from(state),
                                          set->cache->now);
        known->state = state;
    }
    return known->next;
}

/* Under both locks: when a chunk that is there is needed next. */
static uint64_t next_of(const struct data_cache_set *set, uint64_t chunk)
{
    struct data_cache *const cache = set->cache;
    uint64_t next = DATA_CACHE_NEVER;

    for (int i = 0; i < cache->set_count; i++)
        if (cache->sets[i].table == set->table) {
            const uint64_t begin = own_next_of(&cache->sets[i], chunk).begin;

            next = begin < next ? begin : next;
        }
    return next;
}

/* Under both locks: the same of one that is not there and not needed before `from`. */
static uint64_t next_from(const struct data_cache_set *set, uint64_t chunk, uint32_t from)
{
    const struct data_cache *const cache = set->cache;
    uint64_t next = DATA_CACHE_NEVER;

    for (int i = 0; i < cache->set_count; i++)
        if (cache->sets[i].table == set->table) {
            const uint64_t begin =
                data_cache_next_use(&cache->sets[i].host, chunk, from, cache->now).begin;

            next = begin < next ? begin : next;
        }
    return next;
}

/* ---- making room ---- */

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

        if (is_twin(set))
            continue;
        for (uint64_t chunk = 0; set->table->states != NULL && chunk < set->table->chunks;
             chunk++) {
            uint64_t begin;

            if (set->table->states[chunk] == 0)
                continue;
            begin = next_of(set, chunk);
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

/* Under both locks: remove what is not needed before `from` until a file has room. */
static bool make_room(struct data_cache *cache, uint64_t file_bytes, uint64_t from)
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
                                   bytes_of(victim.set, victim.chunk)))
            cache->stats.evicted++;
        else
            busy[busy_count++] = victim;
    }
    return true;
}

/* Under both locks: a file for a chunk that was read in `epoch`, if it is worth it. */
static void create(struct data_cache_set *set, struct data_cache_chunk *chunk, uint32_t epoch)
{
    struct data_cache *const cache = set->cache;
    const uint64_t bytes = data_cache_chunk_bytes(chunk);
    const uint32_t state = is_wanted(set, chunk->number, epoch) ? data_cache_state_after(epoch) - 1
                                                                : data_cache_state_after(epoch);
    const uint64_t next = next_from(set, chunk->number, data_cache_state_needed_from(state));

    /* What is not needed again in this run takes nothing from what is there. */
    if (next == DATA_CACHE_NEVER ? !data_cache_store_fits(cache->store, bytes)
                                 : !make_room(cache, bytes, next + 1))
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

static void put_text(struct digest_sha256 *digest, const char *text)
{
    digest_sha256_put(digest, text, strlen(text) + 1);
}

static void make_key(const struct data_index *index, uint64_t chunk_samples,
                     unsigned char key[DIGEST_SHA256_BYTES])
{
    struct digest_sha256 *const digest = digest_sha256_new();
    const uint64_t counts[] = {index->sharded, index->count, chunk_samples, index->files};

    put_text(digest, "convoy cache 1");
    put_text(digest, index->root);
    digest_sha256_put(digest, index->fingerprint, sizeof index->fingerprint);
    digest_sha256_put(digest, counts, sizeof counts);
    for (size_t i = 0; i < index->files; i++) {
        put_text(digest, index->file_names[i]);
        put_text(digest, index->file_etags != NULL ? index->file_etags[i] : "");
    }
    for (size_t i = 0; i < index->count; i++) {
        const struct data_sample *const sample = &index->samples[i];
        const uint64_t words[] = {sample->offset, (uint64_t)sample->bytes << 32 | sample->crc32c,
                                  sample->file};

        digest_sha256_put(digest, words, sizeof words);
    }
    digest_sha256_end(digest, key);
    digest_sha256_free(digest);
}

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
        if (!is_twin(&cache->sets[i]))
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

    assert(cache->set_count < SETS_MAX && host->samples == index->count);
    *set = (struct data_cache_set){
        .cache = cache, .index = index, .host = *host, .mine = *mine, .epoch = 0};
    if (host->order != NULL) {
        set->order = *host->order;
        set->host.order = set->mine.order = &set->order;
    }
    set->table = &set->own;
    set->own.chunks = data_cache_chunks(host);
    make_key(index, host->chunk_samples, set->own.key);
    for (int i = cache->set_count - 1; i >= 0; i--)
        if (memcmp(cache->sets[i].own.key, set->own.key, sizeof set->own.key) == 0)
            set->table = cache->sets[i].table;
    if (!is_twin(set) && data_cache_store_add(cache->store, set->table, err) < 0)
        return -1;
    set->known = calloc(set->own.chunks + 1, sizeof *set->known);
    if (set->known == NULL)
        abort();
    cache->set_count++;
    pthread_mutex_lock(&cache->mutex);
    if (data_cache_store_lock(cache->store)) { /* --cache-bytes may have been more the last time */
        if (data_cache_store_used(cache->store) > data_cache_store_bytes_max(cache->store))
            make_room(cache, 0, 0);
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
    struct data_cache_chunk chunk = chunk_of(set, number);

    pthread_mutex_lock(&cache->mutex);
    if (data_cache_store_lock(cache->store)) {
        const enum finding found = state_of(set, number) != 0 ? find(set, &chunk, false) : FOUND;

        close_chunk(&chunk);
        if ((found == GONE || found == DAMAGED) &&
            data_cache_store_evict(cache->store, set->table, number, bytes_of(set, number)))
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
    struct data_cache_chunk chunk = chunk_of(set, number);

    pthread_mutex_lock(&cache->mutex);
    if (data_cache_store_lock(cache->store)) {
        if (state_of(set, number) != 0 && find(set, &chunk, true) == FOUND &&
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

    if (state_of(set, chunk->number) == 0)
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
            chunk = chunk_of(set, number);
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
    struct known *const known = &set->known[chunk];

    if (known->epoch != epoch)
        known->read = 0;
    known->epoch = epoch;
    known->read += n;
    if (!is_done(set, chunk, epoch) || is_wanted(set, chunk, epoch) || state_of(set, chunk) == 0 ||
        state_of(set, chunk) >= data_cache_state_after(epoch))
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
    struct data_cache_chunk chunk = chunk_of(set, samples[0] / size);
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
        if (state_of(set, samples[i] / set->host.chunk_samples) == 0)
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
    struct data_cache_chunk chunk = chunk_of(set, samples[0] / size);
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
