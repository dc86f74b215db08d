#include "trainer/picture_cache.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "trainer/data/cache/cache.h"
#include "trainer/data/index/place.h"
#include "trainer/run.h"
#include "trainer/stop.h"

/* What a run reads of an index: lanes of training, shares of an evaluation. */
enum reading { TRAINS, EVALUATES, ENDS };

/* That of ranks [begin, end). */
static struct data_cache_use use_of(const struct train_run *run, const struct data_index *index,
                                    enum reading reading, int begin, int end)
{
    const int ranks = run->comm->size;
    const uint64_t count = index->count;
    struct data_cache_use use = {.samples = count,
                                 .chunk_samples = data_index_chunk_samples(index),
                                 .at_end = reading == ENDS,
                                 .epoch_end = (uint32_t)run->options->epochs,
                                 .epoch_ticks = 1};

    if (run->order.samples > 0) /* else nothing is trained */
        use.epoch_ticks += data_order_steps(&run->order);
    if (reading == TRAINS) {
        use.order = &run->order;
        use.lane_begin = comm_tree_share(run->order.lanes, begin, ranks).begin;
        use.lane_end = comm_tree_share(run->order.lanes, end - 1, ranks).end;
    } else {
        use.sample_begin = train_share_of_rank(count, begin, ranks).begin;
        use.sample_end = train_share_of_rank(count, end - 1, ranks).end;
    }
    return use;
}

static int add(struct train_run *run, const struct data_index *index, enum reading reading,
               struct err *err)
{
    const struct comm *const comm = run->comm;
    struct data_cache_use host, mine;
    int begin = comm->rank, end = comm->rank + 1;

    if (!data_place_is_remote(index->root) || index->parts != NULL)
        return 0;
    if (index->pages != NULL) { /* a file of the cache is known by every sample that may be in it */
        if (comm->local_rank == 0)
            log_warn("--cache: '%s' has %zu pictures, too many to keep any: all are read from S3",
                     index->root, index->count);
        return 0;
    }
    while (begin > 0 && comm->host_of[begin - 1] == comm->host_of[comm->rank])
        begin--;
    while (end < comm->size && comm->host_of[end] == comm->host_of[comm->rank])
        end++;
    host = use_of(run, index, reading, begin, end);
    mine = use_of(run, index, reading, comm->rank, comm->rank + 1);
    return data_cache_add(run->cache, index, &host, &mine, err);
}

static bool is_wanted(const struct train_run *run)
{
    const struct train_dataset *const d = &run->dataset;

    return run->options->cache != NULL && (data_place_is_remote(d->train.root) ||
                                           (d->has_val && data_place_is_remote(d->val.root)) ||
                                           (d->has_test && data_place_is_remote(d->test.root)));
}

static int open_cache(struct train_run *run, enum reading reading, struct err *err)
{
    const struct train_options *const o = run->options;
    const struct train_dataset *const d = &run->dataset;

    run->cache = data_cache_new(o->cache, o->cache_bytes, &train_stop_asked, err);
    if (run->cache != NULL && add(run, &d->train, reading, err) == 0 &&
        (!d->has_val || add(run, &d->val, EVALUATES, err) == 0) &&
        (!d->has_test || add(run, &d->test, ENDS, err) == 0))
        return 0;
    data_cache_free(run->cache);
    run->cache = NULL;
    return -1;
}

/* Ranks of this host that do without, whichever they are: the first of them says so. why: this
 * rank's reason. Collective. */
static int warn_of_lost(const struct train_run *run, const struct err *why, const char *what,
                        struct err *err)
{
    struct comm *const comm = run->comm;
    int64_t *const lost = calloc((size_t)comm->size, sizeof *lost);
    int first = comm->size, count = 0, rc;

    if (lost == NULL)
        abort();
    lost[comm->rank] = run->cache == NULL;
    rc = comm_sum_integers(comm, lost, comm->size, err);
    for (int rank = comm->size - 1; rank >= 0; rank--)
        if (comm->host_of[rank] == comm->host_of[comm->rank] && lost[rank] != 0) {
            first = rank;
            count++;
        }
    if (rc == 0 && first == comm->rank && why->code != ERR_STOPPED)
        log_warn("--cache: %s; %s goes on without it on %d of %d ranks of this host", why->msg,
                 what, count, comm->local_size);
    free(lost);
    return rc;
}

static int open_for(struct train_run *run, enum reading reading, struct err *err)
{
    struct err why = {0};

    if (!is_wanted(run))
        return 0;
    (void)open_cache(run, reading, &why);
    return warn_of_lost(run, &why, reading == TRAINS ? "training" : "evaluation", err);
}

int train_picture_cache_open(struct train_run *run, struct err *err)
{
    return open_for(run, TRAINS, err);
}

int train_picture_cache_open_evaluation(struct train_run *run, struct err *err)
{
    return open_for(run, EVALUATES, err);
}

/* What is counted, in this order. */
enum { HITS, HIT_BYTES, MISSES, MISS_BYTES, KEPT, EVICTED, DAMAGED, BYTES, COUNTS };
static const char *const names[COUNTS] = {"hits", "hit_bytes", "misses",  "miss_bytes",
                                          "kept", "evicted",   "damaged", "bytes"};

static int sum_up(struct train_run *run, const struct data_cache_stats *s, json_t **json,
                  struct err *err)
{
    int64_t counts[COUNTS] = {
        [HITS] = (int64_t)s->hits,
        [HIT_BYTES] = (int64_t)s->hit_bytes,
        [MISSES] = (int64_t)s->misses,
        [MISS_BYTES] = (int64_t)s->miss_bytes,
        [KEPT] = (int64_t)s->kept,
        [EVICTED] = (int64_t)s->evicted,
        [DAMAGED] = (int64_t)s->damaged,
        [BYTES] = run->comm->local_rank == 0 ? (int64_t)s->disk_bytes : 0, /* a folder's, once */
    };

    if (comm_sum_integers(run->comm, counts, COUNTS, err) < 0)
        return -1;
    *json = json_object();
    for (int i = 0; i < COUNTS; i++)
        json_object_set_new(*json, names[i], json_integer(counts[i]));
    return 0;
}

int train_picture_cache_tell(struct train_run *run, json_t **json, struct err *err)
{
    struct data_cache_stats s = {0};

    *json = NULL;
    if (!is_wanted(run)) /* the same on every rank, whether a cache could be opened or not */
        return 0;
    if (run->cache != NULL)
        data_cache_stats(run->cache, &s);
    return sum_up(run, &s, json, err);
}

static long long member(const json_t *json, const char *name)
{
    return json_integer_value(json_object_get(json, name));
}

void train_picture_cache_log(const struct train_run *run, const json_t *json)
{
    if (json == NULL)
        return;
    log_info("--cache '%s': %lld pictures (%.1f MB) from it, %lld (%.1f MB) from S3; %lld kept, "
             "%lld chunks evicted, %lld damaged; %.1f MB in use",
             run->options->cache, member(json, "hits"), (double)member(json, "hit_bytes") / 1e6,
             member(json, "misses"), (double)member(json, "miss_bytes") / 1e6, member(json, "kept"),
             member(json, "evicted"), member(json, "damaged"), (double)member(json, "bytes") / 1e6);
}
