#include "trainer/data/cache/set.h"

#include <string.h>

#include "trainer/data/index/index.h"

static void put_text(struct digest_sha256 *digest, const char *text)
{
    digest_sha256_put(digest, text, strlen(text) + 1);
}

void data_cache_set_key(const struct data_index *index, uint64_t chunk_samples,
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

uint32_t data_cache_set_state(const struct data_cache_set *set, uint64_t chunk)
{
    return __atomic_load_n(&set->table->states[chunk], __ATOMIC_ACQUIRE);
}

struct data_cache_chunk data_cache_set_chunk(const struct data_cache_set *set, uint64_t number)
{
    const uint64_t size = set->host.chunk_samples, first = number * size,
                   left = set->host.samples - first;

    return (struct data_cache_chunk){.key = set->table->key,
                                     .number = number,
                                     .samples = set->index->samples + first,
                                     .count = (uint32_t)(left < size ? left : size),
                                     .fd = -1};
}

uint64_t data_cache_set_bytes(const struct data_cache_set *set, uint64_t number)
{
    const struct data_cache_chunk chunk = data_cache_set_chunk(set, number);

    return data_cache_chunk_bytes(&chunk);
}

bool data_cache_set_is_twin(const struct data_cache_set *set)
{
    return set->table != &set->own;
}

bool data_cache_set_is_done(const struct data_cache_set *set, uint64_t chunk, uint32_t epoch)
{
    const struct data_cache_known *const known = &set->known[chunk];

    return (known->epoch == epoch ? known->read : 0) >=
           data_cache_use_samples(&set->mine, chunk, epoch);
}

bool data_cache_set_is_wanted(const struct data_cache_set *set, uint64_t chunk, uint32_t epoch)
{
    const struct data_cache *const cache = set->cache;

    for (int i = 0; i < cache->set_count; i++) {
        const struct data_cache_set *const other = &cache->sets[i];

        if (other != set && other->table == set->table &&
            !data_cache_set_is_done(other, chunk, epoch))
            return true;
    }
    return false;
}

/* Under both locks: of one set. */
static struct data_cache_span own_next_of(struct data_cache_set *set, uint64_t chunk)
{
    struct data_cache_known *const known = &set->known[chunk];
    const uint32_t state = set->table->states[chunk];

    if (known->state != state ||
        (known->next.begin != DATA_CACHE_NEVER && known->next.end < set->cache->now)) {
        known->next = data_cache_next_use(&set->host, chunk, data_cache_state_needed_from(state),
                                          set->cache->now);
        known->state = state;
    }
    return known->next;
}

uint64_t data_cache_set_next(const struct data_cache_set *set, uint64_t chunk)
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

uint64_t data_cache_set_next_from(const struct data_cache_set *set, uint64_t chunk, uint32_t from)
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
