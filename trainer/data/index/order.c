/*
 * trainer/data/index/order.c -- sample order, version 1: every number below is part of "same bits"
 * and stays as it is.
 *
 * Keys. The two words of a permutation's key are the first two words of a Philox stream
 * (base/philox.h):
 *
 *     chunks of an epoch           philox_init(seed, 0, epoch, PHILOX_ORDER)
 *     window w of lane v of it     philox_init(seed, 1 + w V + v, epoch, PHILOX_ORDER)
 *
 * Permutation of [0, n). h is the smallest number with 4^h >= n: x is cut into two halves of h
 * bits, (L, R) with L on top. Eight rounds r = 0 .. 7, each
 *
 *     (L, R) <- (R, L xor (F(r, R) mod 2^h))
 *     F(r, R) = word 0 of philox_block(counter = {R, r, h, 0}, key)
 *
 * and all of it again while the result is n or more (cycle walking: at most 4 times on average,
 * since 4^h < 4n). Four rounds of random functions suffice against who chooses his queries (Luby
 * and Rackoff 1988), but on a handful of values they are visibly uneven: over 20,000 keys some
 * value of five went to some place 29 % too often after four rounds, 8 % after six; after eight, no
 * more than chance allows (tests/data/test_order.c).
 */
#include "trainer/data/index/order.h"

#include <assert.h>

#include "base/philox.h"

#define ROUNDS        8
#define WINDOW_CHUNKS 16
#define PART_SEED     UINT64_C(0x9e3779b97f4a7c15) /* 2^64 by the golden ratio: far from any seed */

/* How n images fall to V micro-batches: n / V each, the first n mod V one more. */
static uint64_t share_of(uint64_t n, uint32_t lanes, uint32_t lane)
{
    return n / lanes + (lane < n % lanes);
}

/* The images of micro-batches 0 .. lane - 1 of n. */
static uint64_t share_before(uint64_t n, uint32_t lanes, uint32_t lane)
{
    return n / lanes * lane + (lane < n % lanes ? lane : n % lanes);
}

static uint64_t full_steps(const struct data_order *order)
{
    return order->samples / order->batch;
}

/* Images of the short last step; 0 where there is none. */
static uint32_t last_images(const struct data_order *order)
{
    return order->drop_last ? 0 : (uint32_t)(order->samples % order->batch);
}

/* --- parts --- */

static const struct data_order_part *part_of(const struct data_order *order, uint32_t lane)
{
    const struct data_order_part *part = order->parts;

    while (lane - part->lane_begin >= part->lanes) /* below it: beyond all, as it is unsigned */
        part++;
    return part;
}

/* A part as an order of its own. */
static struct data_order order_of(const struct data_order *order,
                                  const struct data_order_part *part)
{
    const uint32_t end = part->lane_begin + part->lanes;

    return (struct data_order){
        .samples = part->samples,
        .chunk_samples = order->chunk_samples,
        .seed = order->seed + PART_SEED * ((uint64_t)(part - order->parts) + 1),
        .batch = (uint32_t)(share_before(order->batch, order->lanes, end) -
                            share_before(order->batch, order->lanes, part->lane_begin)),
        .lanes = part->lanes,
        .drop_last = order->drop_last};
}

/* The order that a lane is of, as one of its own, and the lane's number in it. */
static struct data_order own_order(const struct data_order *order, uint32_t *lane,
                                   uint64_t *sample_begin)
{
    const struct data_order_part *part;

    *sample_begin = 0;
    if (order->parts == NULL)
        return *order;
    part = part_of(order, *lane);
    *lane -= part->lane_begin;
    *sample_begin = part->sample_begin;
    return order_of(order, part);
}

/* --- steps --- */

static uint64_t steps_of_one(const struct data_order *order)
{
    return full_steps(order) + (last_images(order) > 0);
}

static uint64_t images_before_of_one(const struct data_order *order, uint64_t step)
{
    return step <= full_steps(order) ? step * order->batch
                                     : full_steps(order) * order->batch + last_images(order);
}

uint64_t data_order_steps(const struct data_order *order)
{
    uint64_t most = 0;

    assert(order->chunk_samples > 0 && order->batch > 0 && order->lanes > 0);
    if (order->parts == NULL)
        return steps_of_one(order);
    for (uint32_t p = 0; p < order->part_count; p++) {
        const struct data_order own = order_of(order, &order->parts[p]);
        const uint64_t steps = own.lanes > 0 ? steps_of_one(&own) : 0;

        most = steps > most ? steps : most;
    }
    return most;
}

uint64_t data_order_images_before(const struct data_order *order, uint64_t step)
{
    uint64_t images = 0;

    if (order->parts == NULL)
        return images_before_of_one(order, step);
    for (uint32_t p = 0; p < order->part_count; p++) {
        const struct data_order own = order_of(order, &order->parts[p]);

        images += own.lanes > 0 ? images_before_of_one(&own, step) : 0;
    }
    return images;
}

uint64_t data_order_images(const struct data_order *order)
{
    return data_order_images_before(order, data_order_steps(order));
}

uint32_t data_order_step_images(const struct data_order *order, uint64_t step)
{
    assert(step < data_order_steps(order));
    return (uint32_t)(data_order_images_before(order, step + 1) -
                      data_order_images_before(order, step));
}

uint32_t data_order_lane_images(const struct data_order *order, uint64_t step, uint32_t lane)
{
    uint64_t begin;
    const struct data_order own = own_order(order, &lane, &begin);

    assert(lane < own.lanes);
    return (uint32_t)share_of(
        images_before_of_one(&own, step + 1) - images_before_of_one(&own, step), own.lanes, lane);
}

static unsigned half_bits(uint64_t n)
{
    unsigned h = 0;

    while (h < 32 && ((uint64_t)1 << (2 * h)) < n)
        h++;
    return h;
}

static uint32_t round_function(uint32_t round, uint32_t half, unsigned h, const uint32_t key[2])
{
    const uint32_t counter[4] = {half, round, h, 0};
    uint32_t out[4];

    philox_block(counter, key, out);
    return out[0] & (uint32_t)(((uint64_t)1 << h) - 1);
}

uint64_t data_permute(uint64_t x, uint64_t n, const uint32_t key[2])
{
    const unsigned h = half_bits(n);

    assert(x < n);
    do {
        uint32_t left = (uint32_t)(x >> h);
        uint32_t right = (uint32_t)(x & (((uint64_t)1 << h) - 1));

        for (uint32_t r = 0; r < ROUNDS; r++) {
            const uint32_t next = left ^ round_function(r, right, h, key);

            left = right;
            right = next;
        }
        x = (uint64_t)left << h | right;
    } while (x >= n);
    return x;
}

uint64_t data_unpermute(uint64_t y, uint64_t n, const uint32_t key[2])
{
    const unsigned h = half_bits(n);

    assert(y < n);
    do {
        uint32_t left = (uint32_t)(y >> h);
        uint32_t right = (uint32_t)(y & (((uint64_t)1 << h) - 1));

        for (uint32_t r = ROUNDS; r-- > 0;) {
            const uint32_t before = right ^ round_function(r, left, h, key);

            right = left;
            left = before;
        }
        y = (uint64_t)left << h | right;
    } while (y >= n);
    return y;
}

static void derive_key(uint64_t seed, uint64_t what, uint32_t epoch, uint32_t key[2])
{
    struct philox philox;

    philox_init(&philox, seed, what, epoch, PHILOX_ORDER);
    key[0] = philox_u32(&philox);
    key[1] = philox_u32(&philox);
}

/* Place in the epoch's sequence -> place in the index. The short last chunk of the index may stand
 * anywhere in the sequence: where it stands is looked up backwards, and what follows it is moved by
 * what it lacks. */
static uint64_t sequence_sample(const struct data_order *order, uint32_t epoch, uint64_t place)
{
    const uint64_t size = order->chunk_samples;
    const uint64_t chunks = order->samples / size + (order->samples % size > 0);
    const uint64_t lacking = chunks * size - order->samples;
    uint32_t key[2];
    uint64_t short_end;

    derive_key(order->seed, 0, epoch, key);
    short_end = (data_unpermute(chunks - 1, chunks, key) + 1) * size - lacking;
    if (place >= short_end)
        place += lacking;
    return data_permute(place / size, chunks, key) * size + place % size;
}

uint64_t data_order_chunk_place(const struct data_order *order, uint32_t epoch, uint64_t chunk,
                                uint64_t *samples)
{
    const uint64_t size = order->chunk_samples;
    const uint64_t chunks = order->samples / size + (order->samples % size > 0);
    const uint64_t lacking = chunks * size - order->samples;
    uint32_t key[2];
    uint64_t at, at_short;

    assert(chunk < chunks && order->parts == NULL);
    derive_key(order->seed, 0, epoch, key);
    at = data_unpermute(chunk, chunks, key);
    at_short = data_unpermute(chunks - 1, chunks, key);
    *samples = chunk == chunks - 1 ? size - lacking : size;
    return at * size - (at > at_short ? lacking : 0);
}

static uint64_t lane_begin_of_one(const struct data_order *order, uint32_t lane)
{
    return full_steps(order) * share_before(order->batch, order->lanes, lane) +
           share_before(last_images(order), order->lanes, lane);
}

uint64_t data_order_lane_begin(const struct data_order *order, uint32_t lane)
{
    assert(lane <= order->lanes && order->parts == NULL);
    return lane_begin_of_one(order, lane);
}

uint64_t data_order_window_places(const struct data_order *order)
{
    return WINDOW_CHUNKS * order->chunk_samples;
}

static uint64_t lane_places_of_one(const struct data_order *order, uint32_t lane)
{
    return full_steps(order) * share_of(order->batch, order->lanes, lane) +
           share_of(last_images(order), order->lanes, lane);
}

uint64_t data_order_lane_places(const struct data_order *order, uint32_t lane)
{
    uint64_t begin;
    const struct data_order own = own_order(order, &lane, &begin);

    return lane_places_of_one(&own, lane);
}

/* Only full steps come before any place, and full steps of all parts share out alike. */
uint64_t data_order_place(const struct data_order *order, uint64_t step, uint32_t lane, uint32_t i)
{
    return step * share_of(order->batch, order->lanes, lane) + i;
}

uint64_t data_order_place_step(const struct data_order *order, uint32_t lane, uint64_t place)
{
    return place / share_of(order->batch, order->lanes, lane);
}

static uint64_t place_sample_of_one(const struct data_order *order, uint32_t epoch, uint32_t lane,
                                    uint64_t place)
{
    const uint64_t lane_begin = lane_begin_of_one(order, lane);
    const uint64_t lane_count = lane_places_of_one(order, lane);
    const uint64_t window_size = data_order_window_places(order);
    const uint64_t window = place / window_size, window_begin = window * window_size;
    const uint64_t rest = lane_count - window_begin;
    uint32_t key[2];

    assert(place < lane_count);
    derive_key(order->seed, 1 + window * order->lanes + lane, epoch, key);
    return sequence_sample(
        order, epoch,
        lane_begin + window_begin +
            data_permute(place - window_begin, rest < window_size ? rest : window_size, key));
}

uint64_t data_order_place_sample(const struct data_order *order, uint32_t epoch, uint32_t lane,
                                 uint64_t place)
{
    uint64_t begin;
    const struct data_order own = own_order(order, &lane, &begin);

    return begin + place_sample_of_one(&own, epoch, lane, place);
}

uint64_t data_order_sample(const struct data_order *order, uint32_t epoch, uint64_t step,
                           uint32_t lane, uint32_t i)
{
    assert(i < data_order_lane_images(order, step, lane));
    return data_order_place_sample(order, epoch, lane, data_order_place(order, step, lane, i));
}
