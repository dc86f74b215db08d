/*
 * trainer/data/set/shards.h -- a folder of tar shards as an index.
 */
#ifndef DATA_SET_SHARDS_H
#define DATA_SET_SHARDS_H

#include <signal.h>
#include <stdint.h>

#include "base/digest.h"

struct data_index;
struct err;

/** Fill classes, samples (pages where there are more than whole_max) and files from the folder
 * index->root. `fingerprint` is what index.json says the result must have; the caller compares, or
 * of pages takes it. What failed is left for data_index_release.
 * ERR_INPUT names what is missing, cut short or does not match. */
int data_shards_read(struct data_index *index, uint64_t whole_max,
                     char fingerprint[DIGEST_HEX_CHARS], const volatile sig_atomic_t *cancel,
                     struct err *err);

#endif
