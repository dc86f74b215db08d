/*
 * trainer/data/cache/store.h -- the folder of a cache of pictures, shared by processes: which files
 * are there, and that they never take up more than they may.
 *
 *     DIR/pictures/lock               who holds its flock may change what is below; its page is
 *                                     mapped: "CVYCCL1\n", then words of 8 bytes: marked, bytes
 *                                     in use, beats, bytes of DIR/index
 *     DIR/pictures/users              flocked, shared, by every process that uses the folder
 *     DIR/pictures/warned             flocked by the process that warned that it does without
 *     DIR/pictures/KEY/table          a dataset: a word for each chunk, mapped; flocked, shared, by
 *                                     those who use it
 *     DIR/pictures/KEY/0000002a.chunk chunk.h; flocked, shared, while it is read or written
 *
 * KEY is the dataset's, in hex. Bytes are counted before a file is made and after it is gone, each
 * file in whole blocks of the file system and one more (extents, its name), so what `du` says of
 * DIR stays below; what others put into a KEY folder counts too, at the next counting. DIR/index,
 * what was found in tars (webdataset.h), is written without asking and before the folder is opened;
 * it is counted at each opening (drafts there of processes that are no more go), chunks give way to
 * it, and where it alone is above the limit the folder is refused. A file that somebody reads or
 * writes is not removed: no bytes linger in a file without a name.
 *
 * Kills. Flocks end with the process. Who dies while it holds `lock` leaves it marked; the next
 * then counts all files anew, as does who finds no other user. What a writer left half is not valid
 * (chunk.h).
 *
 * What is not ours: nothing but files called NUMBER.chunk that begin as ours do (or are empty, or
 * zeros) and the table of a KEY is ever removed, and a folder only when it is empty.
 *
 * Waiting: a lock is asked for again for a second at most, and then not for ten: who cannot have it
 * does without. So does who has it and cannot count all files, where they are to be, within another
 * second. Who opens the folder or adds a dataset would do without for good, so it waits
 * longer: as long as the holder counts files (a beat in `lock` for each; on a cold disk that takes
 * minutes), ten seconds where it does not get on, and till it is asked to stop. Nobody waits for
 * room, for another process's data or for the network while it holds a lock. So there is no circle
 * of waiting, whatever memory and disk are left.
 */
#ifndef DATA_CACHE_STORE_H
#define DATA_CACHE_STORE_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct data_cache_chunk;
struct data_cache_store;
struct data_cache_table;
struct err;

/** Open DIR (made if missing) for files of `bytes` altogether; 0: half of what is free on its disk,
 * with what is there. Datasets that nobody uses give way until it is that. cancel (may be NULL; as
 * long as the store) ends waiting and counting. ERR_IO: DIR cannot be used, or is too small to hold
 * anything; ERR_STOPPED. */
int data_cache_store_open(struct data_cache_store **store, const char *dir, uint64_t bytes,
                          const volatile sig_atomic_t *cancel, struct err *err);
/** Accepts NULL. */
void data_cache_store_close(struct data_cache_store *store);
/** Whether this is the first of the processes that have the folder open to ask this. Any thread. */
bool data_cache_store_may_warn(const struct data_cache_store *store);
/** What the files may take up. */
uint64_t data_cache_store_bytes_max(const struct data_cache_store *store);

/** Take up or make a dataset's table, to be closed with data_cache_table_close; key and chunks are
 * set. Where there is no room for it, its states are NULL. ERR_IO, ERR_STOPPED. */
int data_cache_store_add(struct data_cache_store *store, struct data_cache_table *table,
                         struct err *err);

/** The lock, for the functions below; false where it cannot be had in time. */
bool data_cache_store_lock(struct data_cache_store *store);
void data_cache_store_unlock(struct data_cache_store *store);

/** Bytes in use; and whether a file of so many has room. */
uint64_t data_cache_store_used(const struct data_cache_store *store);
bool data_cache_store_fits(const struct data_cache_store *store, uint64_t file_bytes);
/** Remove a chunk of a dataset that nobody uses; false where there is none. */
bool data_cache_store_evict_idle(struct data_cache_store *store);
/** Make a chunk's file, begun (chunk.h) and counted, and set its state then. 0, and chunk->fd
 * has a shared flock; -1 with errno: there is no such file, nothing is counted. */
int data_cache_store_create(struct data_cache_store *store, struct data_cache_table *table,
                            struct data_cache_chunk *chunk, uint32_t state);
/** Remove a chunk; false where somebody reads or writes it now, or it cannot be removed. */
bool data_cache_store_evict(struct data_cache_store *store, struct data_cache_table *table,
                            uint64_t chunk, uint64_t file_bytes);

/** Without the lock: open a chunk's file, shared flock. -1 with errno. */
int data_cache_store_file(const struct data_cache_table *table, uint64_t chunk, bool writing);

#endif
