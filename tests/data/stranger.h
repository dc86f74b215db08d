/*
 * tests/data/stranger.h -- RecordIO and tars as other people's programs write them, in memory.
 */
#ifndef TESTS_DATA_STRANGER_H
#define TESTS_DATA_STRANGER_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/** Append a record; where the magic stands in the data at a multiple of 4 it becomes parts. */
void stranger_record(struct buf *out, const void *data, size_t bytes);
/** A picture with its label, as im2rec writes it: labels (count of them; 1: in the head). */
void stranger_image(struct buf *out, const float *labels, uint32_t count, const void *picture,
                    size_t bytes);
/** A made-up picture: begins like a JPEG, its content and length depend on the number. */
void stranger_picture(struct buf *out, int number);

/** Append a member to a tar (ustar). */
void stranger_member(struct buf *tar, const char *name, const void *data, size_t bytes);
/** What ends a tar. */
void stranger_end(struct buf *tar);
/** Make a header's sum right again. */
void stranger_sum(unsigned char *header);

#endif
