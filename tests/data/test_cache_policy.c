/* tests/data/test_cache_policy.c -- when chunks are read next, against counting; and what a cache
 * keeps, against the best that any could. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ftw.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/philox.h"
#include "trainer/data/cache/cache.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/order.h"

#define DRAWS   200
#define SAMPLES 48 /* at most */
#define EPOCHS  4
#define SLOTS   3 /* at most, of the caches that are compared with the best one */
#define BYTES   100

static struct data_cache_use draw_use(struct philox *philox, struct data_order *order)
{
    struct data_cache_use use = {.order = order, .epoch_end = EPOCHS};

    order->samples = 1 + philox_u32(philox) % SAMPLES;
    order->chunk_samples = 1 + philox_u32(philox) % 5;
    order->seed = philox_u32(philox);
    order->batch = 1 + philox_u32(philox) % 12;
    order->lanes = 1 + philox_u32(philox) % order->batch;
    order->drop_last = philox_u32(philox) % 3 == 0;
    use.lane_begin = philox_u32(philox) % order->lanes;
    use.lane_end = use.lane_begin + 1 + philox_u32(philox) % (order->lanes - use.lane_begin);
    use.samples = order->samples;
    use.chunk_samples = order->chunk_samples;
    use.epoch_ticks = data_order_steps(order) + 1;
    return use;
}

/* By looking at every place. */
static struct data_cache_span counted(const struct data_cache_use *use, uint64_t chunk,
                                      uint32_t epoch, uint64_t *samples)
{
    const uint64_t window = data_order_window_places(use->order);
    struct data_cache_span span = {DATA_CACHE_NEVER, 0};

    *samples = 0;
    for (uint32_t lane = use->lane_begin; lane < use->lane_end; lane++) {
        const uint64_t places = data_order_lane_places(use->order, lane);

        for (uint64_t place = 0; place < places; place++) {
            const uint64_t first = place / window * window,
                           last = first + window < places ? first + window - 1 : places - 1,
                           begin = data_order_place_step(use->order, lane, first),
                           end = data_order_place_step(use->order, lane, last);

            if (data_order_place_sample(use->order, epoch, lane, place) / use->chunk_samples !=
                chunk)
                continue;
            ++*samples;
            span.begin = begin < span.begin ? begin : span.begin;
            span.end = end > span.end ? end : span.end;
        }
    }
    if (*samples == 0)
        return (struct data_cache_span){DATA_CACHE_NEVER, DATA_CACHE_NEVER};
    span.begin += epoch * use->epoch_ticks;
    span.end += epoch * use->epoch_ticks;
    return span;
}

static void next_use_is_where_counting_finds_it(void **state)
{
    struct philox philox;

    (void)state;
    philox_init(&philox, 7, 1, 1, PHILOX_ORDER);
    for (int draw = 0; draw < DRAWS; draw++) {
        struct data_order order = {0};
        const struct data_cache_use use = draw_use(&philox, &order);
        const uint32_t from = philox_u32(&philox) % EPOCHS;

        for (uint64_t chunk = 0; chunk < data_cache_chunks(&use); chunk++) {
            struct data_cache_span want = {DATA_CACHE_NEVER, DATA_CACHE_NEVER}, got;

            for (uint32_t epoch = EPOCHS; epoch-- > from;) {
                uint64_t samples;
                const struct data_cache_span span = counted(&use, chunk, epoch, &samples);

                assert_int_equal(data_cache_use_samples(&use, chunk, epoch), samples);
                if (samples > 0)
                    want = span;
            }
            got = data_cache_next_use(&use, chunk, from, 0);
            assert_int_equal(got.begin, want.begin);
            assert_int_equal(got.end, want.end);
        }
    }
}

static void use_that_is_over_is_that_of_the_next_epoch(void **state)
{
    struct data_order order = {.samples = 400, .chunk_samples = 2, .batch = 4, .lanes = 1};
    const struct data_cache_use use = {.order = &order,
                                       .lane_end = 1,
                                       .samples = 400,
                                       .chunk_samples = 2,
                                       .epoch_end = 2,
                                       .epoch_ticks = 101};

    (void)state;
    for (uint64_t chunk = 0; chunk < 200; chunk++) {
        const struct data_cache_span first = data_cache_next_use(&use, chunk, 0, 0),
                                     second = data_cache_next_use(&use, chunk, 1, 0);

        assert_true(first.begin < 101 && second.begin >= 101);
        assert_int_equal(data_cache_next_use(&use, chunk, 0, first.end).begin, first.begin);
        assert_int_equal(data_cache_next_use(&use, chunk, 0, first.end + 9).begin, second.begin);
        assert_int_equal(data_cache_next_use(&use, chunk, 0, second.end + 9).begin,
                         DATA_CACHE_NEVER);
    }
}

static void evaluations_read_their_share_of_each_epoch_or_at_the_end(void **state)
{
    struct data_cache_use use = {.sample_begin = 10,
                                 .sample_end = 15,
                                 .samples = 21,
                                 .chunk_samples = 4,
                                 .epoch_end = 3,
                                 .epoch_ticks = 8};

    (void)state;
    for (uint64_t chunk = 0; chunk < 6; chunk++) {
        const bool mine = chunk == 2 || chunk == 3;

        assert_int_equal(data_cache_next_use(&use, chunk, 1, 0).begin,
                         mine ? 8 + 7 : DATA_CACHE_NEVER);
        assert_int_equal(data_cache_use_samples(&use, chunk, 0), chunk == 2 ? 2 : mine ? 3 : 0);
    }
    use.at_end = true;
    assert_int_equal(data_cache_next_use(&use, 2, 0, 0).begin, 2 * 8 + 7);
    assert_int_equal(data_cache_next_use(&use, 2, 3, 0).begin, DATA_CACHE_NEVER);
}

/* ---- the best that any cache could do ---- */

/* What is read at one tick; chunks of one sample each. */
struct tick {
    uint64_t chunks; /* bits */
    uint32_t epoch;
    uint64_t step;
};

static int list_ticks(const struct data_cache_use *use, struct tick *ticks)
{
    int count = 0;

    for (uint32_t epoch = 0; epoch < EPOCHS; epoch++)
        for (uint64_t step = 0; step < data_order_steps(use->order); step++) {
            struct tick tick = {.epoch = epoch, .step = step};

            for (uint64_t chunk = 0; chunk < use->samples; chunk++)
                if (data_cache_next_use(use, chunk, epoch, 0).begin ==
                    epoch * use->epoch_ticks + step)
                    tick.chunks |= (uint64_t)1 << chunk;
            if (tick.chunks != 0)
                ticks[count++] = tick;
        }
    return count;
}

/* A cache's content: up to SLOTS chunks, ascending, as digits to the base 64; 0: none. */
struct best {
    const struct tick *ticks;
    int count, slots;
    uint16_t *known; /* (count, 49^3): misses from here on, and one; 0: not known */
};

static int misses_from(struct best *best, int at, const int *held, int held_count);

/* Try all contents that can be chosen of `from`. */
static int choose(struct best *best, int at, const int *from, int from_count, int begin, int *held,
                  int held_count)
{
    int least = misses_from(best, at, held, held_count);

    if (held_count == best->slots)
        return least;
    for (int i = begin; i < from_count; i++) {
        int more;

        held[held_count] = from[i];
        more = choose(best, at, from, from_count, i + 1, held, held_count + 1);
        least = more < least ? more : least;
    }
    return least;
}

static int misses_from(struct best *best, int at, const int *held, int held_count)
{
    int from[64], from_count = 0, next[SLOTS], missed = 0, key = 0, misses;
    uint64_t there = 0;

    if (at == best->count)
        return 0;
    for (int i = 0; i < held_count; i++) {
        key = key * (SAMPLES + 1) + held[i] + 1;
        there |= (uint64_t)1 << held[i];
    }
    key += at * (SAMPLES + 1) * (SAMPLES + 1) * (SAMPLES + 1);
    if (best->known[key] > 0)
        return best->known[key] - 1;
    for (int chunk = 0; chunk < SAMPLES; chunk++) {
        const bool wanted = best->ticks[at].chunks >> chunk & 1, has = there >> chunk & 1;

        missed += wanted && !has;
        if (wanted || has)
            from[from_count++] = chunk;
    }
    misses = missed + choose(best, at + 1, from, from_count, 0, next, 0);
    best->known[key] = (uint16_t)(misses + 1);
    return misses;
}

static int best_misses(const struct tick *ticks, int count, int slots)
{
    struct best best = {.ticks = ticks, .count = count, .slots = slots};
    int misses;

    best.known = calloc((size_t)(count + 1) * (SAMPLES + 1) * (SAMPLES + 1) * (SAMPLES + 1),
                        sizeof *best.known);
    assert_non_null(best.known);
    misses = misses_from(&best, 0, NULL, 0);
    free(best.known);
    return misses;
}

static char root[64];

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat, (void)type, (void)ftw;
    return remove(path);
}

/* Misses of the cache itself with room for `slots` chunks. What a tick reads is read at once, for
 * the best cache too: what is there first. */
static int cache_misses(struct data_index *index, const struct data_cache_use *use,
                        const struct tick *ticks, int count, int slots, uint64_t *bytes)
{
    unsigned char data[BYTES] = {0}, got[BYTES];
    unsigned char *const in = data, *const out = got;
    struct err err = {0};
    struct data_cache *cache;
    struct data_cache_set *set;
    struct data_cache_stats stats;

    strcpy(root, "/tmp/convoy-policy-XXXXXX");
    assert_non_null(mkdtemp(root));
    cache = data_cache_new(root, slots > 0 ? bytes[0] + (uint64_t)slots * bytes[1] : 1 << 20, NULL,
                           &err);
    assert_non_null(cache);
    assert_int_equal(data_cache_add(cache, index, use, use, &err), 0);
    set = data_cache_set(cache, index);
    data_cache_stats(cache, &stats);
    if (slots == 0) { /* what the folder takes, and what a chunk does */
        bytes[0] = stats.disk_bytes;
        data_cache_put(set, 0, &(uint64_t){0}, 1, &in);
        data_cache_stats(cache, &stats);
        bytes[1] = stats.disk_bytes - bytes[0];
        count = 0;
    }
    for (int i = 0; i < count; i++) {
        uint64_t missed = 0;

        data_cache_now(set, ticks[i].epoch, ticks[i].step);
        for (uint64_t chunk = 0; chunk < use->samples; chunk++) {
            if ((ticks[i].chunks >> chunk & 1) == 0)
                continue;
            memset(data, (int)chunk, sizeof data);
            if (data_cache_get(set, ticks[i].epoch, &chunk, 1, &out))
                assert_memory_equal(got, data, sizeof data);
            else
                missed |= (uint64_t)1 << chunk;
        }
        for (uint64_t chunk = 0; chunk < use->samples; chunk++) {
            memset(data, (int)chunk, sizeof data);
            if (missed >> chunk & 1)
                data_cache_put(set, ticks[i].epoch, &chunk, 1, &in);
        }
    }
    data_cache_stats(cache, &stats);
    data_cache_free(cache);
    assert_int_equal(nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    return (int)stats.misses;
}

static void no_cache_of_its_size_misses_less(void **state)
{
    struct data_sample samples[SAMPLES];
    struct philox philox;
    int total = 0, all = 0;

    (void)state;
    for (int i = 0; i < SAMPLES; i++)
        samples[i] = (struct data_sample){.key = "a/x.jpg", .bytes = BYTES};
    philox_init(&philox, 8, 1, 1, PHILOX_ORDER);
    for (int draw = 0; draw < 25; draw++) {
        struct data_order order = {0};
        struct data_cache_use use = draw_use(&philox, &order);
        struct data_index index = {.root = root, .samples = samples};
        struct tick ticks[EPOCHS * SAMPLES];
        const int slots = 1 + draw % SLOTS;
        uint64_t bytes[2];
        int count, want, got;

        order.samples = index.count = use.samples = 17 + order.samples % (SAMPLES - 16);
        order.chunk_samples = use.chunk_samples = 1;
        use.epoch_ticks = data_order_steps(&order) + 1;
        count = list_ticks(&use, ticks);
        want = best_misses(ticks, count, slots);
        cache_misses(&index, &use, ticks, count, 0, bytes);
        got = cache_misses(&index, &use, ticks, count, slots, bytes);
        assert_int_equal(got, want);
        total += got;
        for (int i = 0; i < count; i++)
            all += __builtin_popcountll(ticks[i].chunks);
    }
    print_message("%d of %d chunks missed\n", total, all);
    assert_true(total < all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(next_use_is_where_counting_finds_it),
        cmocka_unit_test(use_that_is_over_is_that_of_the_next_epoch),
        cmocka_unit_test(evaluations_read_their_share_of_each_epoch_or_at_the_end),
        cmocka_unit_test(no_cache_of_its_size_misses_less),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
