/*
 * trainer/data/cache/table.h -- which chunks of a dataset are in a cache: a file that the processes
 * of a host map.
 *
 *     at    bytes
 *     0     8      "CVYCCT1\n"
 *     8     32     key of the dataset
 *     40    8      chunks
 *     48    8      zeros
 *     56    8      CRC-32C of all before, in the low half
 *     64    4 n    a word for each chunk
 *
 * It can be made again from the files beside it, so nothing in it is trusted but its length.
 */
#ifndef DATA_CACHE_TABLE_H
#define DATA_CACHE_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"

/* A dataset's place in the folder. */
struct data_cache_table {
    unsigned char key[DIGEST_SHA256_BYTES];
    uint64_t chunks;
    /* (chunks), shared by processes: 0 where a chunk is not there; else the two below. Changed
     * under the store's lock; what is read without is a guess. NULL: there is no room for the
     * table, nothing is kept. */
    uint32_t *states;
    int folder, fd; /* the dataset's folder, the file in it; -1: not open */
    void *mapped;
};

/** The state of a chunk that was read for the last time in an epoch, or is not known to be needed
 * before the next one; and of such a state that next epoch. What was found on the disk is needed
 * from 0 on. */
#define DATA_CACHE_STATE_FOUND 1
uint32_t data_cache_state_after(uint32_t epoch);
uint32_t data_cache_state_needed_from(uint32_t state);

/** Length of the file. */
uint64_t data_cache_table_bytes(uint64_t chunks);
/** Map the file that is in table->folder. -1: there is none of this key, or (chunks not 0) of
 * another length; then nothing is open but the folder. chunks 0: takes the file's. */
int data_cache_table_map(struct data_cache_table *table);
/** Make it, or a damaged one good again in its place; what its words say is not checked (new:
 * zeros). -1 with errno; as map. */
int data_cache_table_make(struct data_cache_table *table);
/** With the folder. */
void data_cache_table_close(struct data_cache_table *table);

/** Whether nobody has a folder's table open with a flock (also where there is none). */
bool data_cache_table_idle(int folder);
/** Remove a folder's table, if it is one; *bytes: its length. -1: there is none. */
int data_cache_table_remove(int folder, uint64_t *bytes);

#endif
