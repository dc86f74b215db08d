/*
 * trainer/data/index/split.h -- an index in two: training pictures, and some set aside for
 * validation.
 */
#ifndef DATA_INDEX_SPLIT_H
#define DATA_INDEX_SPLIT_H

struct data_index;
struct err;

/**
 * Set the share (0, 1) of each class's samples that come first in index order aside: `train` and
 * `held_out` become indices of their own (each to be released) and `whole` empties. At least one of
 * each class stays in train; ERR_INPUT where a class has fewer than two. The split depends on the
 * keys only, so folders and shards split alike.
 *
 * Of a joined index (join.h) each part is split where it lies, and gives its share: of a class what
 * one index of all parts would give, dealt out by how many samples of it a part has, rounded up
 * where the part has given least for what it has of the classes before.
 */
int data_index_split(struct data_index *whole, double share, struct data_index *train,
                     struct data_index *held_out, struct err *err);

#endif
