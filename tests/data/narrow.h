/*
 * tests/data/narrow.h -- pages of an index with little room, so that they are forgotten and read
 * again.
 */
#ifndef TESTS_DATA_NARROW_H
#define TESTS_DATA_NARROW_H

#include <stdint.h>

struct data_index;
struct data_pages;

/** Pages for an index, or instead of those that it has. `whole` is the same index with all of its
 * samples, folder a local one with its tars. */
struct data_pages *narrow_pages(const struct data_index *index, const struct data_index *whole,
                                const char *folder, uint64_t bytes_max);

#endif
