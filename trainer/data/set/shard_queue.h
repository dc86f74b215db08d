/*
 * trainer/data/set/shard_queue.h -- index files of shards, read side by side and handed out in
 * order.
 *
 * A request to S3 takes some 20 ms wherever its bytes are few: 1,400 of them are a second with
 * DATA_SHARD_QUEUE_THREADS under way, and half a minute one after the other.
 */
#ifndef DATA_SET_SHARD_QUEUE_H
#define DATA_SET_SHARD_QUEUE_H

#include <stddef.h>

#include "trainer/data/index/shard.h"

struct data_shard_queue;
struct err;

#define DATA_SHARD_QUEUE_THREADS 64

/** Read number `number` of count; called by several threads at a time. */
typedef int data_shard_queue_read(void *context, size_t number, struct data_shard *shard,
                                  struct err *err);

/** Begin to read shards 0 .. count - 1, at most twice the threads ahead of who takes them. Fewer
 * threads will do; NULL where not one could be started: ERR_MEMORY. */
struct data_shard_queue *data_shard_queue_new(size_t count, data_shard_queue_read *read,
                                              void *context, struct err *err);
/** The next shard, the caller's to release. Blocks. -1: its error; then nothing is read any more.
 */
int data_shard_queue_next(struct data_shard_queue *queue, struct data_shard *shard,
                          struct err *err);
/** Waits for what is being read. Accepts NULL. */
void data_shard_queue_free(struct data_shard_queue *queue);

#endif
