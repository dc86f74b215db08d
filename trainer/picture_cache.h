/*
 * trainer/picture_cache.h -- a run's --cache: what its host reads of S3's pictures and when, and
 * what came of it.
 */
#ifndef TRAIN_PICTURE_CACHE_H
#define TRAIN_PICTURE_CACHE_H

#include <jansson.h>

struct err;
struct train_run;

/** Open run->cache where it is asked for and pictures lie in S3. A rank whose folder cannot be used
 * goes on without; the first such rank of each host warns of all of them. Collective; before
 * streams. Returns 0; or -1 with err set by the collective. */
int train_picture_cache_open(struct train_run *run, struct err *err);

/** The same where dataset.train is evaluated once, and nothing is trained (run->order is all zero).
 */
int train_picture_cache_open_evaluation(struct train_run *run, struct err *err);

/** What all ranks' caches did so far: {"hits", "hit_bytes", "misses", "miss_bytes", "kept",
 * "evicted", "damaged", "bytes"}: pictures that came from the disk and from S3, and were written;
 * chunks; the bytes that the folders take up now. *json is NULL without a cache. Collective. */
int train_picture_cache_tell(struct train_run *run, json_t **json, struct err *err);

/** The same as a line in the log. json: what tell made; NULL: nothing. */
void train_picture_cache_log(const struct train_run *run, const json_t *json);

#endif
