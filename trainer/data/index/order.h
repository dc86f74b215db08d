/*
 * trainer/data/index/order.h -- which sample stands where in an epoch: sample order, version 1.
 *
 * Pure arithmetic: any place of any epoch is found in constant time and memory, so a resumed run
 * goes to its place without reading what came before.
 *
 * The index (n samples) is cut into chunks of G consecutive samples; the last may be shorter. Each
 * epoch a keyed permutation orders the chunks, and the samples in that order are the epoch's
 * sequence. The sequence is cut into V lanes, one after the other. Lane v feeds micro-batch v of
 * every step. Inside a lane, samples are permuted within windows of 16 G places (the last window
 * may be shorter).
 *
 * A full step holds B images: micro-batch v has B / V, and one more when v < B mod V. An epoch has
 * floor(n / B) full steps and, if R = n mod B is not 0, a last step of R images: micro-batch v has
 * R / V, one more when v < R mod V; none at all for v >= R when R < V. A lane is as long as what
 * its micro-batches take: when V divides B the lanes differ by at most one.
 *
 * Parts. Where hosts have samples of their own (parts: run after run of the index, and the lanes
 * that read it), each part is ordered as above by itself, by its lanes' share of B and with a seed
 * of its own. An epoch has as many steps as the part that needs most; a part that is through has
 * micro-batches without images.
 *
 * Permutations are Feistel networks on the smallest even number of bits that holds the range, with
 * cycle walking (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002); round
 * function and keys: Philox, see order.c.
 */
#ifndef DATA_INDEX_ORDER_H
#define DATA_INDEX_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DATA_ORDER_VERSION 1

/* Samples that only these lanes read. Either may be none; samples without lanes are never read. */
struct data_order_part {
    uint64_t sample_begin, samples;
    uint32_t lane_begin, lanes;
};

struct data_order {
    uint64_t samples;       /* n */
    uint64_t chunk_samples; /* G */
    uint64_t seed;
    uint32_t batch; /* B, global batch: images */
    uint32_t lanes; /* V, micro-batches per full step */
    bool drop_last; /* leave the short last step out */
    const struct data_order_part
        *parts; /* (part_count) of ascending samples and lanes, all of both;
                   the caller's, outlives the order. NULL: one of all */
    uint32_t part_count;
};

/** Steps of an epoch (0 when drop_last leaves none). */
uint64_t data_order_steps(const struct data_order *order);
/** Images of an epoch. */
uint64_t data_order_images(const struct data_order *order);
/** Images of an epoch's steps 0 .. step - 1; step <= data_order_steps(). */
uint64_t data_order_images_before(const struct data_order *order, uint64_t step);
/** Images of step `step` of an epoch over all lanes. */
uint32_t data_order_step_images(const struct data_order *order, uint64_t step);
/** Images of one micro-batch; 0 for an absent one. */
uint32_t data_order_lane_images(const struct data_order *order, uint64_t step, uint32_t lane);
/** The index place of image i of micro-batch (step, lane) in an epoch. i <
 * data_order_lane_images(). */
uint64_t data_order_sample(const struct data_order *order, uint32_t epoch, uint64_t step,
                           uint32_t lane, uint32_t i);

/*
 * The same by lanes, for who reads ahead: the places of a lane are numbered through an epoch in the
 * order in which its micro-batches take them.
 */
/** Places of a lane in an epoch. */
uint64_t data_order_lane_places(const struct data_order *order, uint32_t lane);
/** The place of image i of micro-batch (step, lane) in its lane. */
uint64_t data_order_place(const struct data_order *order, uint64_t step, uint32_t lane, uint32_t i);
/** The step that takes a place. */
uint64_t data_order_place_step(const struct data_order *order, uint32_t lane, uint64_t place);
/** The index place of the sample at a place of a lane. place < data_order_lane_places(). */
uint64_t data_order_place_sample(const struct data_order *order, uint32_t epoch, uint32_t lane,
                                 uint64_t place);
/** Places of a window: 16 G. Windows begin at multiples of it. */
uint64_t data_order_window_places(const struct data_order *order);

/*
 * The same backwards, for who keeps chunks: where they stand in an epoch's sequence. Of an order
 * without parts.
 */
/** Where a chunk begins in the sequence; *samples gets its length. */
uint64_t data_order_chunk_place(const struct data_order *order, uint32_t epoch, uint64_t chunk,
                                uint64_t *samples);
/** Where a lane begins in the sequence; of lane V: where the last one ends. */
uint64_t data_order_lane_begin(const struct data_order *order, uint32_t lane);

/** A keyed permutation of [0, n): exposed for tests and for who shuffles elsewhere. x < n. */
uint64_t data_permute(uint64_t x, uint64_t n, const uint32_t key[2]);
uint64_t data_unpermute(uint64_t y, uint64_t n, const uint32_t key[2]);

#endif
