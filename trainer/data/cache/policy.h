/*
 * trainer/data/cache/policy.h -- when a host reads which chunk next, and which one it can do
 * without.
 *
 * The order of samples is arithmetic (order.h), so the next use of each chunk is known: what is
 * needed last goes first, and what comes in is kept only where it is needed before something that
 * is there. No other rule misses less where all chunks are of one size.
 * Source: Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems
 * Journal 5(2), 1966.
 *
 * Time is counted in ticks: an epoch has one for each step and one more, in which it is evaluated.
 * A chunk is one of order.h; its use begins with the first step of its shuffle window (the window
 * is read ahead as a whole) and ends with the last. Ranks of a host have lanes next to one another,
 * so a host has one run of each epoch's sequence.
 *
 * Pure arithmetic; any thread.
 */
#ifndef DATA_CACHE_POLICY_H
#define DATA_CACHE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct data_order;

#define DATA_CACHE_NEVER   UINT64_MAX /* not before the run ends, or too far ahead to look */
#define DATA_CACHE_HORIZON 64         /* epochs that are looked ahead */

/* What a host reads of an index, and when. */
struct data_cache_use {
    const struct data_order *order; /* training: lanes of it; NULL: evaluation of samples */
    uint32_t lane_begin, lane_end;
    uint64_t sample_begin, sample_end;
    uint64_t samples, chunk_samples; /* of the index */
    bool at_end;                     /* evaluation: not of each epoch, but once at the end */
    uint32_t epoch_end;              /* the run's, exclusive */
    uint64_t epoch_ticks;            /* steps of an epoch of training, and one */
};

/* One use: both ends included. */
struct data_cache_span {
    uint64_t begin, end; /* ticks; DATA_CACHE_NEVER */
};

uint64_t data_cache_chunks(const struct data_cache_use *use);
/** The first use of a chunk in epoch `from` or later that is not over at `now` (by more than a
 * window: ranks read ahead differently). */
struct data_cache_span data_cache_next_use(const struct data_cache_use *use, uint64_t chunk,
                                           uint32_t from, uint64_t now);
/** How many of a chunk's samples are read in an epoch. */
uint64_t data_cache_use_samples(const struct data_cache_use *use, uint64_t chunk, uint32_t epoch);

#endif
