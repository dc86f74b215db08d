/*
 * launcher/channels.h -- the data channels of a SageMaker job: input/config/inputdataconfig.json
 * and the folders below input/data.
 *
 * Source: Amazon SageMaker Developer Guide, "How Amazon SageMaker Provides Training Information",
 * input data configuration.
 */
#ifndef LAUNCH_CHANNELS_H
#define LAUNCH_CHANNELS_H

#include <jansson.h>

struct err;
struct launch_words;

/**
 * Check the channels and export SM_CHANNELS, SM_CHANNEL_<NAME> and SM_INPUT_DATA_CONFIG.
 *
 * base     the tree ("/opt/ml").
 * folders  an object that gets a member for each channel: name to path.
 * pipes    gets two words for each channel in Pipe mode: its first FIFO, input/data/<name>_0, which
 *          need not be there yet, and the folder that is to hold its pictures: <name> below
 *          CONVOY_SPOOL, or BASE/spool. That folder is the channel's path (spool.h makes it), also
 *          where SM_CHANNEL_<NAME> already said input/data/<name>, as the training toolkit has it.
 *
 * A channel is one that the file names, or a folder below input/data. Where the user's own
 * SM_CHANNEL_<NAME> says something else (an s3:// URI, say), that stays and the folder does not
 * matter. Channels that are ShardedByS3Key, of which a host may have nothing, are named by
 * CONVOY_HOST_DATA (convoy train --host-data). ERR_INPUT names file, channel and path: a name that
 * cannot be, a mode that is none, a model that is sharded or a stream, a channel without its folder
 * or without a file in it. Blocks while folders are listed, each up to its first file.
 */
int launch_channels_export(const char *base, json_t *folders, struct launch_words *pipes,
                           struct err *err);

#endif
