/*
 * trainer/data/index/builder.h -- the samples of an index while their number is not known yet.
 *
 * Keys lie one behind another in one run of bytes, in the order in which samples were added;
 * samples get their pointers when that run has stopped moving.
 */
#ifndef DATA_INDEX_BUILDER_H
#define DATA_INDEX_BUILDER_H

#include "base/buf.h"

struct data_index;
struct data_sample;
struct err;

struct data_builder {
    struct buf samples, keys;
};
void data_builder_release(struct data_builder *builder);

/** Add a sample; its `key` member is not looked at, the key is copied. ERR_MEMORY. */
int data_builder_add(struct data_builder *builder, const struct data_sample *sample,
                     const char *key, struct err *err);

/** Hand the samples over to an index that has none. The builder is all zero again. */
void data_builder_finish(struct data_builder *builder, struct data_index *index);

#endif
