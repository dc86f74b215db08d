/*
 * trainer/data/stream/group.h -- consecutive places of a lane that are read together: their
 * samples, the ranges that hold them (plan.h), and the pictures that have come and were not taken
 * yet.
 *
 * Not safe for several threads by itself: fetch.c says who may touch what.
 */
#ifndef DATA_STREAM_GROUP_H
#define DATA_STREAM_GROUP_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/data/stream/plan.h"

struct data_cache_set;
struct data_index;
struct data_order;
struct data_sample;
struct err;

enum data_range_state { DATA_RANGE_PLANNED, DATA_RANGE_BEGUN, DATA_RANGE_READ, DATA_RANGE_FAILED };

struct data_group {
    uint32_t epoch;
    uint64_t begin;              /* its first place in the lane */
    uint32_t count, taken;       /* samples */
    bool failed;                 /* as data_group_failure says; the group is of one sample */
    uint64_t *samples;           /* (count) index places, by place */
    struct data_sample *entries; /* (count) by place; keys NULL where they are read on demand */
    unsigned char **data;        /* (count) by place; NULL: not there, or taken */
    uint32_t *range_of;          /* (count) by place: number of the range */
    struct data_plan plan;
    enum data_range_state *states; /* (plan.range_count) */
    struct err **errs;             /* (plan.range_count) of DATA_RANGE_FAILED, else NULL */
    size_t begun;                  /* ranges: all before are not DATA_RANGE_PLANNED any more */
};

/* Where a group is cut from its lane. */
struct data_group_cut {
    const struct data_index *index;
    const struct data_order *order; /* NULL: sample_begin and on, in index order */
    uint64_t sample_begin;
    uint32_t lane, epoch;
    uint64_t place, places;       /* its first place, and how many the lane has: place < places */
    uint64_t window;              /* places: it ends where a multiple of this does */
    uint64_t bytes_max;           /* or when it holds this much; one sample at least */
    uint64_t range_bytes;         /* as data_plan_init */
    struct data_cache_set *cache; /* NULL: none */
    const volatile sig_atomic_t *cancel; /* ends the reading of pages; may be NULL */
};

/** Gather the samples and plan them. No picture is read, but of an index whose pages are read on
 * demand those are, which may block: the samples are copied, so that no page is held. Where not
 * even the first could be had, a group of one range that has failed. */
struct data_group *data_group_new(const struct data_group_cut *cut);
/** Why a group has failed; NULL: it has not. */
const struct err *data_group_failure(const struct data_group *group);
/** With the pictures that nobody took. Accepts NULL. */
void data_group_free(struct data_group *group);

#endif
