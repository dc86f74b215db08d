/*
 * trainer/data/stream/read.h -- the bytes of a sample, from a file of its own or out of a shard.
 */
#ifndef DATA_STREAM_READ_H
#define DATA_STREAM_READ_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct data_index;
struct data_reader;
struct err;

/** A reader of the index's files; the index is the caller's and outlives it, and so does cancel
 * (may be NULL): when it becomes non-zero, waiting for an index of S3 ends (data_index_hold). Any
 * number of threads may use one. */
struct data_reader *data_reader_new(const struct data_index *index,
                                    const volatile sig_atomic_t *cancel);
void data_reader_free(struct data_reader *reader);

/** Replace what is in `out` by the sample's bytes, and *label (may be NULL) by its label. ERR_INPUT
 * names the file: gone, not allowed, no file, above 2 GiB, of another length than when the index
 * was made, or (shards) with another CRC-32C; ERR_IO: it cannot be read for any other reason. */
int data_reader_get(struct data_reader *reader, uint64_t sample, struct buf *out, int32_t *label,
                    struct err *err);

/** How a person finds the sample: "PATH", or "CLASS/x.jpg in PATH" for a shard. Cut to `bytes` with
 * its NUL. Where the key is to be had from S3 only this blocks as data_index_hold, and without it
 * the shard is all that is named. */
void data_reader_name(const struct data_reader *reader, uint64_t sample, char *name, size_t bytes);

/** Put the sample's name in front of an error about its content. Returns -1. */
int data_reader_wrap(const struct data_reader *reader, uint64_t sample, struct err *err);

#endif
