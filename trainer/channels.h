/*
 * trainer/channels.h -- which of a job's channels hold the training pictures, where the options'
 * own variables do not say.
 *
 * A channel is a variable SM_CHANNEL_<NAME>: a path or an s3:// URI. The table of options knows the
 * usual names; here are those that somebody chose.
 */
#ifndef TRAIN_CHANNELS_H
#define TRAIN_CHANNELS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/option.h"

struct buf;
struct err;

/** Where no option names training pictures and there is just one channel that could hold them, take
 * it for --train. Channels of other meaning (validation, test, model, code, ...) do not count. */
int train_channels_assign(struct option_set *set, struct err *err);

/** What the channel of this name holds, `bytes` long, in any case: never empty. NULL: there is
 * none. The environment's. */
const char *train_channels_value(const char *name, size_t bytes);

/** Append the names of all channels, ", " between; nothing where there are none. */
void train_channels_names(struct buf *out);

#endif
