/*
 * trainer/data/read.h -- the bytes of a sample, from a file of its own or out of a shard.
 */
#ifndef DATA_READ_H
#define DATA_READ_H

#include <stddef.h>
#include <stdint.h>

struct buf;
struct data_index;
struct data_reader;
struct err;

/** A reader of the index's files; the index is the caller's and outlives it. Any number of threads
 * may use one. */
struct data_reader *data_reader_new(const struct data_index *index);
void data_reader_free(struct data_reader *reader);

/** Replace what is in `out` by the sample's bytes. ERR_INPUT names the file: gone, not allowed, no
 * file, above 2 GiB, of another length than when the index was made, or (shards) with another
 * CRC-32C; ERR_IO: it cannot be read for any other reason. */
int data_reader_get(struct data_reader *reader, uint64_t sample, struct buf *out, struct err *err);

/** How a person finds the sample: "PATH", or "CLASS/x.jpg in PATH" for a shard. Cut to `bytes` with
 * its NUL. */
void data_reader_name(const struct data_reader *reader, uint64_t sample, char *name, size_t bytes);

/** Put the sample's name in front of an error about its content. Returns -1. */
int data_reader_wrap(const struct data_reader *reader, uint64_t sample, struct err *err);

#endif
