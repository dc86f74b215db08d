/*
 * trainer/feature_cache.h -- the frozen layers' work, done once for each picture.
 *
 * Where frozen layers are fixed functions (--batch-norm frozen) and a picture has few views (no
 * augmentation, or --augment-views), their output for it is always the same. Before the first epoch
 * that sees a view, each rank computes the features of its share of the pictures, and all hand
 * theirs to all; from then on nothing is read or decoded. An image's features depend on itself
 * alone, so the bits are those of a run without the cache.
 */
#ifndef TRAIN_FEATURE_CACHE_H
#define TRAIN_FEATURE_CACHE_H

#include <stddef.h>
#include <stdint.h>

struct data_index;
struct err;
struct nn_score;
struct nn_step;
struct train_feature_cache;
struct train_options;
struct train_run;
struct train_tally;

/** Make one if the run can have one, within --feature-cache bytes for each rank, and if every rank
 * finds room for it; a line says why there is none, and *cache is NULL then. Collective. -1 where
 * the ranks cannot agree. Free accepts NULL. */
int train_feature_cache_new(struct train_feature_cache **cache, struct train_run *run,
                            struct err *err);
void train_feature_cache_free(struct train_feature_cache *cache);

/** Bytes of the cache's buffer, beside its rows: a micro-batch, or a message of the rows that ranks
 * send each other. 0 where a run with these options has no cache. */
size_t train_feature_cache_buffer(const struct train_options *options, size_t row_bytes,
                                  int micro_batch);

/** Before the steps of run->position.epoch: compute the view of it, if it is not there. Collective.
 * As train_walk. */
int train_feature_cache_prepare(struct train_feature_cache *cache, struct train_run *run,
                                struct err *err);

/** Features, labels and number of pictures (0: all were left out) of the micro-batch of a lane in
 * the step at run->position; they stay until the next call. ERR_IO. */
int train_feature_cache_batch(struct train_feature_cache *cache, const struct train_run *run,
                              uint32_t lane, struct nn_step *step, struct err *err);

/** The index places of that micro-batch: `trained` of pictures that are there, in their order, then
 * `left_out` of those that are not. */
const uint64_t *train_feature_cache_samples(const struct train_feature_cache *cache,
                                            uint32_t *trained, uint32_t *left_out);

/** As train_evaluate, of the validation pictures. Collective. */
int train_feature_cache_validate(struct train_feature_cache *cache, struct train_run *run,
                                 struct nn_score *score, struct train_tally *tally,
                                 struct err *err);

#endif
