/*
 * trainer/data/stream/pictures.h -- the bytes of an index's samples, one after the other, wherever
 * they lie.
 */
#ifndef DATA_STREAM_PICTURES_H
#define DATA_STREAM_PICTURES_H

#include <signal.h>
#include <stddef.h>

struct buf;
struct data_fetch;
struct data_index;
struct data_reader;
struct err;

struct data_pictures {
    struct data_reader *reader;
    struct data_fetch *fetch; /* where they lie in a bucket: reads ahead */
};

/** The index outlives it. cancel as data_fetch_options. */
int data_pictures_open(struct data_pictures *pictures, const struct data_index *index,
                       const volatile sig_atomic_t *cancel, struct err *err);
/** Accepts all-zero. */
void data_pictures_close(struct data_pictures *pictures);

/** Replace what is in `out` by the bytes of the next sample: call it for 0, 1, 2, ... Errors as
 * data_reader_get and data_fetch_take. */
int data_pictures_get(struct data_pictures *pictures, size_t sample, struct buf *out,
                      struct err *err);

#endif
