/*
 * trainer/model_dir.h -- what a finished run leaves: model.safetensors, class_labels.json,
 * config.json.
 */
#ifndef TRAIN_MODEL_DIR_H
#define TRAIN_MODEL_DIR_H

#include "base/digest.h"

struct data_index;
struct err;
struct nn_model;
struct train_options;

/** Write the three files to options->model_dir, a folder or s3://BUCKET/PREFIX, each appearing
 * whole, the model last; what is there of those names is replaced. `hex` receives the SHA-256 of
 * the model file's data section. Nothing in them tells time, host or path: equal runs leave equal
 * files. ERR_IO, ERR_MEMORY; in S3 ERR_INPUT, ERR_NET. */
int train_model_dir_write(const struct train_options *options, struct nn_model *model,
                          const struct data_index *classes, uint64_t steps,
                          char hex[DIGEST_HEX_CHARS], struct err *err);

#endif
