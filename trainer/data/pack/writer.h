/*
 * trainer/data/pack/writer.h -- samples on their way into shards: tar after tar, each with its
 * index file, and the top index over all.
 *
 * What is written depends on the samples, their order and shard_bytes alone. A shard is read back
 * and compared as soon as it is finished, so the writer can go on where an earlier one of the same
 * samples ended: data_writer_look tells which shards are there, data_writer_pass goes on behind
 * one. A shard that a bucket has by the time it is delivered (the last upload of a pack that was
 * taken over) is passed too if it is the same, and left alone if it is not.
 */
#ifndef DATA_PACK_WRITER_H
#define DATA_PACK_WRITER_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/buf.h"
#include "trainer/data/index/shard.h"
#include "trainer/data/pack/tar.h"

struct data_index;
struct data_packing;
struct data_sample;
struct data_target;
struct err;

struct data_writer {
    struct data_target *target; /* the caller's, as all here that points */
    const char *folder;
    uint64_t shard_bytes; /* a shard is closed when it holds this much */
    const volatile sig_atomic_t *cancel;
    const struct data_packing *note; /* must still be ours as a shard is delivered; NULL: none */
    size_t samples;                  /* put or passed so far: the next one's number */
    json_t *shards;                  /* of the top index: a member for each that is finished */
    /* the shard in hand */
    struct data_tar tar;
    struct data_shard shard;
    char *tar_path; /* NULL: none is begun */
    uint64_t bytes; /* its pictures */
    struct buf scratch;
};

void data_writer_init(struct data_writer *writer, struct data_target *target, const char *folder,
                      uint64_t shard_bytes, const volatile sig_atomic_t *cancel);
/** A shard that is not finished goes. Accepts all-zero. */
void data_writer_release(struct data_writer *writer);

/** Append a sample: its key, label and bytes count. What is neither JPEG nor PNG is called as its
 * key ends. ERR_INPUT: what was written reads back otherwise, another took over the note, or
 * another shard is there; ERR_IO, ERR_NET. */
int data_writer_put(struct data_writer *writer, const struct data_sample *sample,
                    const unsigned char *picture, struct err *err);
/** The last shard. */
int data_writer_finish(struct data_writer *writer, struct err *err);

/** How many of the samples from `first` on make a shard. */
size_t data_writer_plan(const struct data_writer *writer, const struct data_index *index,
                        size_t first);
/** Whether shard `number`, of `count` samples of the index from `first` on, is there whole, all of
 * it read and compared: then *tar_bytes is its tar's length. Else that is 0, and what there is of
 * it is removed. A shard that cannot be read now is an error, and stays: ERR_IO, ERR_NET,
 * ERR_MEMORY, ERR_STOPPED, ERR_INPUT (S3 refuses). */
int data_writer_look(struct data_writer *writer, const struct data_index *index, size_t number,
                     size_t first, size_t count, uint64_t *tar_bytes, struct err *err);
/** A shard that was found whole becomes the target's, as data_target_own. */
void data_writer_own(struct data_writer *writer, size_t number);
/** Between two shards: the next one is there, as data_writer_look said; go on behind it. */
void data_writer_pass(struct data_writer *writer, const struct data_index *index, size_t count,
                      uint64_t tar_bytes);

/** The top index, last of all, once each shard was seen to be there. ERR_INPUT: one is not, or not
 * as long as it was; the name of a class is not UTF-8. */
int data_writer_top(struct data_writer *writer, const struct data_index *index, struct err *err);
/** Before anything is written: the same check. */
int data_writer_check_names(const struct data_index *index, struct err *err);

#endif
