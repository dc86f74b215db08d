/*
 * trainer/weights_source.h -- the weights that a path stands for, wherever they are.
 */
#ifndef TRAIN_WEIGHTS_SOURCE_H
#define TRAIN_WEIGHTS_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "trainer/weights/weights.h"

struct buf;
struct err;

/**
 * Read weights of any format (weights/weights.h): from a file, a model.tar.gz, or a folder with one
 * of them in it (weights/choice.h says which); each on this host or under s3://BUCKET/.
 *
 * name  the file that was read is appended, for messages: "x/model.tar.gz: model.pth".
 *
 * Blocks. ERR_INPUT names the file, what is wrong with it, or what it is instead; ERR_IO, ERR_NET,
 * ERR_MEMORY. The caller releases the weights.
 */
int train_weights_open(struct weights *weights, const char *path, struct buf *name,
                       struct err *err);

/** Whether an address stands for a folder: on this host, where it is one; in S3, where it does not
 * end as a file of weights does. */
bool train_weights_is_folder(const char *path);

/** The most bytes that are taken out of a tar for one file of weights: no more than this host has
 * free. ERR_USAGE as train_host_memory. */
int train_weights_room(size_t *bytes, struct err *err);
#define TRAIN_WEIGHTS_BYTES_MAX ((size_t)4 << 30)

#endif
