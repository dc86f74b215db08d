/*
 * trainer/data/set/join.h -- one index out of those of several hosts, each of which has pictures of
 * its own: SageMaker's ShardedByS3Key gives each host a share of a channel's objects.
 *
 * The joined index has the samples of the first host, then those of the second, and so on; classes
 * are all that any host has. Its parts say whose samples are whose: only there can they be read.
 */
#ifndef DATA_SET_JOIN_H
#define DATA_SET_JOIN_H

#include <signal.h>
#include <stddef.h>

#include "trainer/data/index/index.h"

struct err;

/** data_index_open for what this host has: one class will do, and where there is no folder, or
 * nothing in it, it is an index without samples. A folder that is there and cannot be looked into,
 * a dead mount for one, is ERR_IO; what is no folder is ERR_INPUT. A bucket, or a manifest of one,
 * is ERR_USAGE: it is no host's own. */
int data_join_open(struct data_index *part, const char *root, const volatile sig_atomic_t *cancel,
                   struct err *err);

/**
 * Join the parts of `count` hosts, in their order. The parts stay the caller's.
 *
 * root         where this host has its own; all else is the same on every host
 * hosts        (count) names, for messages
 * class_names  as for data_index_open; NULL: as found, at least two
 *
 * ERR_INPUT: no pictures at all, one class only, a class that is not among class_names, folders on
 * some hosts and shards on others, numbers for classes on some and words on others, a picture that
 * two hosts have: its key, length and CRC-32C (then both seem to have all); ERR_MEMORY.
 */
int data_join(struct data_index *joined, const char *root, const struct data_index *parts,
              const char *const *hosts, size_t count, char *const *class_names, int classes,
              struct err *err);

#endif
