/*
 * trainer/output.h -- a file that a verb writes, where the user wants it.
 *
 * It lies in a folder of this host or in S3 and appears whole or not at all (checkpoint/place.h);
 * without a name it is stdout.
 */
#ifndef TRAIN_OUTPUT_H
#define TRAIN_OUTPUT_H

#include "base/file.h"
#include "trainer/checkpoint/place.h"

struct buf;
struct err;

struct train_output {
    struct place place;
    char *name; /* in the place; NULL: stdout */
    struct file_new file;
};

/** Take the name apart; nothing is made yet. path: a file's name, s3:// too; NULL: stdout.
 * ERR_USAGE: there is a folder or a device of this name, or it names none. Close in any case; it
 * removes what was not committed, and accepts all-zero. */
int train_output_open(struct train_output *output, const char *path, struct err *err);
void train_output_close(struct train_output *output);

/** Begin to write. Where that cannot be, this finds out before minutes of work are in vain:
 * ERR_USAGE; in S3 what place_check_writable says. */
int train_output_begin(struct train_output *output, struct err *err);

/** Write the bytes and empty the buf. ERR_IO. */
int train_output_write(struct train_output *output, struct buf *bytes, struct err *err);

/** All is written: the file appears. */
int train_output_commit(struct train_output *output, struct err *err);

#endif
