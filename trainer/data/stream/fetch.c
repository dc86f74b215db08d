/*
 * trainer/data/stream/fetch.c -- threads that read ranges ahead of who takes their samples.
 *
 * Every thread does the most urgent thing that can be done: plan a lane's next group, or read a
 * range of a planned one. Urgency is the step that wants the first sample. A lane has two groups at
 * most, its ranges are begun group by group, and a range is begun only if the lane's share has room
 * for it or holds nothing. That cannot lock up: what is wanted next is in the lane's first group
 * with samples left; all before it were taken, so this group and what was read of the next are all
 * that is held, and the next is not begun before the first is.
 */
#include "trainer/data/stream/fetch.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/trace.h"
#include "s3io/client.h"
#include "trainer/data/cache/cache.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/order.h"
#include "trainer/data/index/place.h"
#include "trainer/data/stream/group.h"
#include "trainer/data/stream/range.h"

#define RANGE_BYTES_MAX ((uint64_t)8 << 20) /* two chunks: a longer one is no cheaper a byte */
#define SCRATCH_SHARE   4 /* at most this part of the memory is for ranges under way */
#define WAIT_SLICE_MS   50
#define AWAY_SLICES     20 /* between two readings of a range while S3 is away: a second */
#define WINDOW_CHUNKS   16 /* of an evaluation's group */

struct lane {
    uint32_t number;
    uint32_t epoch; /* where the next group begins */
    uint64_t place, places;
    bool planning; /* by a thread that has let go of the mutex: the two above are its own */
    struct data_group *groups[2];
    int group_count;
    uint64_t held; /* bytes of pictures read or under way, and not taken */
};

/* How many ranges of an epoch are being read. */
struct under_way {
    uint32_t epoch;
    int ranges; /* 0: of no epoch */
};

struct data_fetch {
    struct data_fetch_options options;
    struct data_order *order; /* a copy, or NULL */
    struct data_range_source source;
    uint64_t lane_bytes, range_bytes, window;
    pthread_t *threads;
    int threads_running;

    pthread_mutex_t mutex;  /* guards all below and the lanes */
    pthread_cond_t work;    /* there may be something to do, or stop */
    pthread_cond_t arrived; /* a range was read or failed, or stop */
    struct lane *lanes;
    size_t lane_count;
    uint64_t held, scratch;      /* by all lanes; by threads for their ranges */
    struct under_way *under_way; /* (threads): each reads one range, so no more epochs */
    int waiting;                 /* threads that wait for a picture */
    volatile sig_atomic_t stop;
    struct data_fetch_stats stats;
};

/* ---- what is to be done next ---- */

/* Move the lane's cursor to the next place there is; false at the end. */
static bool lane_settle(const struct data_fetch *fetch, struct lane *lane)
{
    if (lane->places == 0)
        return false;
    if (lane->place >= lane->places && lane->epoch < fetch->options.epoch_end) {
        lane->epoch++;
        lane->place = 0;
    }
    return lane->epoch < fetch->options.epoch_end;
}

struct job {
    struct lane *lane;
    struct data_group *group; /* NULL: plan the lane's next one */
    size_t range;
    uint64_t urgency;
};

static uint64_t urgency_of(const struct data_fetch *fetch, const struct lane *lane, uint32_t epoch,
                           uint64_t place)
{
    if (fetch->order == NULL)
        return place;
    return epoch * data_order_steps(fetch->order) +
           data_order_place_step(fetch->order, lane->number, place);
}

/* Under the mutex: one range more or less of an epoch is under way. */
static void count_under_way(struct data_fetch *fetch, uint32_t epoch, int more)
{
    struct under_way *at = NULL;

    for (int i = 0; i < fetch->options.threads; i++) {
        struct under_way *const other = &fetch->under_way[i];

        if (other->ranges > 0 && other->epoch == epoch) {
            at = other;
            break;
        }
        if (other->ranges == 0)
            at = other;
    }
    assert(at != NULL && at->ranges + more >= 0);
    at->epoch = epoch;
    at->ranges += more;
}

/* What the last epoch's ranges bring may be kept and wanted in this one: with a cache an epoch
 * begins when those under way have arrived. They need nothing but their requests, so they do. Of
 * the next epoch there may be some under way as well: other lanes are ahead of this one. */
static bool may_be_kept_soon(const struct data_fetch *fetch, uint32_t epoch)
{
    if (fetch->source.cache == NULL || epoch == 0)
        return false;
    for (int i = 0; i < fetch->options.threads; i++)
        if (fetch->under_way[i].ranges > 0 && fetch->under_way[i].epoch == epoch - 1)
            return true;
    return false;
}

/* Under the mutex: the lane's next range, if there is room for it. */
static bool lane_next_range(const struct data_fetch *fetch, struct lane *lane, struct job *job)
{
    for (int g = 0; g < lane->group_count; g++) {
        struct data_group *group = lane->groups[g];
        const struct data_plan_range *range = &group->plan.ranges[group->begun];

        if (group->begun == group->plan.range_count)
            continue;
        if (lane->held > 0 && lane->held + range->bytes > fetch->lane_bytes)
            return false;
        if (may_be_kept_soon(fetch, group->epoch))
            return false;
        *job = (struct job){lane, group, group->begun,
                            urgency_of(fetch, lane, group->epoch, group->begin + range->need)};
        return true;
    }
    return false;
}

static bool lane_next_group(const struct data_fetch *fetch, struct lane *lane, struct job *job)
{
    if (lane->planning || lane->group_count == 2 || !lane_settle(fetch, lane) ||
        may_be_kept_soon(fetch, lane->epoch))
        return false;
    *job = (struct job){lane, NULL, 0, urgency_of(fetch, lane, lane->epoch, lane->place)};
    return true;
}

/* Under the mutex. Where both are equally urgent a plan goes first: it may find what is more so. */
static bool choose(struct data_fetch *fetch, struct job *best)
{
    bool found = false;
    struct job job;

    for (size_t i = 0; i < fetch->lane_count; i++) {
        if (lane_next_range(fetch, &fetch->lanes[i], &job) &&
            (!found || job.urgency < best->urgency)) {
            *best = job;
            found = true;
        }
        if (lane_next_group(fetch, &fetch->lanes[i], &job) &&
            (!found || job.urgency < best->urgency ||
             (job.urgency == best->urgency && best->group != NULL))) {
            *best = job;
            found = true;
        }
    }
    return found;
}

/* ---- the threads ---- */

/* Under the mutex: sleep so long, or until a range was read. */
static void wait_ms(struct data_fetch *fetch, int ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += ms * 1000000L;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&fetch->arrived, &fetch->mutex, &until);
}

/* With the mutex, which is let go meanwhile: S3 did not answer, and nobody waits yet. */
static void wait_while_away(struct data_fetch *fetch)
{
    for (int i = 0; i < AWAY_SLICES && fetch->waiting == 0 && !fetch->stop; i++)
        wait_ms(fetch, WAIT_SLICE_MS);
}

/* With the mutex, which is let go meanwhile. */
static void do_plan(struct data_fetch *fetch, struct lane *lane)
{
    const struct data_group_cut cut = {
        .index = fetch->options.index,
        .order = fetch->order,
        .sample_begin = fetch->options.sample_begin,
        .lane = lane->number,
        .epoch = lane->epoch,
        .place = lane->place,
        .places = lane->places,
        .window = fetch->window,
        .bytes_max = fetch->lane_bytes,
        .range_bytes = fetch->range_bytes,
        .cache = fetch->source.cache,
        .cancel = &fetch->stop,
    };
    struct data_group *group;

    lane->planning = true;
    for (;;) {
        const bool last = fetch->waiting > 0 || fetch->stop;
        const struct err *failure;

        pthread_mutex_unlock(&fetch->mutex);
        if (fetch->order != NULL)
            data_cache_now(cut.cache, cut.epoch,
                           data_order_place_step(fetch->order, cut.lane, cut.place));
        group = data_group_new(&cut);
        pthread_mutex_lock(&fetch->mutex);
        failure = data_group_failure(group);
        if (failure == NULL || last || failure->code != ERR_NET)
            break;
        data_group_free(group);
        wait_while_away(fetch);
    }
    lane->planning = false;
    lane->place += group->count;
    lane->groups[lane->group_count++] = group;
    fetch->stats.groups++;
    pthread_cond_broadcast(&fetch->arrived); /* it may have failed */
}

/* With the mutex: count what is held from now on. */
static void hold(struct data_fetch *fetch, struct lane *lane, uint64_t bytes)
{
    lane->held += bytes;
    fetch->held += bytes;
    if (fetch->held + fetch->scratch > fetch->stats.held_max)
        fetch->stats.held_max = fetch->held + fetch->scratch;
}

static void let_go(struct data_fetch *fetch, struct lane *lane, uint64_t bytes)
{
    lane->held -= bytes;
    fetch->held -= bytes;
}

/* Read a range that this thread has begun, as data_range_read; with the mutex, which is let go
 * meanwhile. S3 may be
 * away for longer than the client's tries: as long as there are pictures for everybody nothing is
 * lost by asking again. A reading that began while somebody waited is the last. */
static int read_range(struct data_fetch *fetch, const struct job *job, unsigned char *scratch,
                      struct err *err)
{
    for (;;) {
        const bool last = fetch->waiting > 0;
        const double begun = trace_begin();
        uint32_t damaged;
        int rc;

        pthread_mutex_unlock(&fetch->mutex);
        rc = data_range_read(&fetch->source, job->group, job->range, scratch, &damaged, err);
        trace_put(
            &(struct trace_span){.category = "input",
                                 .name = "fetch",
                                 .begun_s = begun,
                                 .argument = "bytes",
                                 .value = (int64_t)job->group->plan.ranges[job->range].length});
        pthread_mutex_lock(&fetch->mutex);
        fetch->stats.requests += rc != 1;
        fetch->stats.damaged += damaged;
        if (rc >= 0 || last || err->code != ERR_NET)
            return rc;
        wait_while_away(fetch);
    }
}

/* A thread's own memory for ranges of several pictures. */
static int get_scratch(struct data_fetch *fetch, unsigned char **scratch, struct err *err)
{
    if (*scratch != NULL)
        return 0;
    *scratch = malloc(fetch->range_bytes);
    if (*scratch == NULL)
        return err_set(err, ERR_MEMORY,
                       "no memory for a range of %" PRIu64
                       " bytes: a smaller --prefetch-bytes needs less",
                       fetch->range_bytes);
    fetch->scratch += fetch->range_bytes;
    return 0;
}

/* With the mutex, which is let go meanwhile. */
static void do_read(struct data_fetch *fetch, const struct job *job, unsigned char **scratch)
{
    const struct data_plan_range *range = &job->group->plan.ranges[job->range];
    struct err err = {0};
    int rc = 0;

    job->group->states[job->range] = DATA_RANGE_BEGUN;
    job->group->begun++;
    if (range->count > 1) {
        assert(range->length <= fetch->range_bytes);
        rc = get_scratch(fetch, scratch, &err);
    }
    count_under_way(fetch, job->group->epoch, 1);
    hold(fetch, job->lane, range->bytes);
    if (rc == 0)
        rc = read_range(fetch, job, *scratch, &err);
    fetch->stats.bytes += rc != 1 ? range->length : 0;
    if (range->count > 1 && range->length > fetch->stats.range_max)
        fetch->stats.range_max = range->length;
    if (rc < 0) {
        job->group->errs[job->range] = malloc(sizeof err);
        if (job->group->errs[job->range] == NULL)
            abort();
        *job->group->errs[job->range] = err;
    }
    count_under_way(fetch, job->group->epoch, -1);
    job->group->states[job->range] = rc < 0 ? DATA_RANGE_FAILED : DATA_RANGE_READ;
    pthread_cond_broadcast(&fetch->arrived);
}

static void *fetch_work(void *argument)
{
    struct data_fetch *fetch = argument;
    unsigned char *scratch = NULL;
    struct job job;

    trace_thread("fetch");
    pthread_mutex_lock(&fetch->mutex);
    while (!fetch->stop) {
        if (!choose(fetch, &job)) {
            pthread_cond_wait(&fetch->work, &fetch->mutex);
            continue;
        }
        pthread_cond_signal(&fetch->work); /* where there was one job there may be more */
        if (job.group == NULL)
            do_plan(fetch, job.lane);
        else
            do_read(fetch, &job, &scratch);
    }
    pthread_mutex_unlock(&fetch->mutex);
    free(scratch);
    return NULL;
}

/* Signals are for the main thread: these block all of them. */
static int start_threads(struct data_fetch *fetch, struct err *err)
{
    sigset_t all, before;
    int rc = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (rc == 0 && fetch->threads_running < fetch->options.threads) {
        rc = pthread_create(&fetch->threads[fetch->threads_running], NULL, fetch_work, fetch);
        if (rc == 0)
            fetch->threads_running++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return err_set_errno(err, ERR_MEMORY, rc, "cannot start %d threads that read from S3",
                             fetch->options.threads);
    return 0;
}

/* ---- the caller's side ---- */

static void make_lanes(struct data_fetch *fetch)
{
    const struct data_fetch_options *o = &fetch->options;

    fetch->lane_count = fetch->order != NULL ? o->lane_end - o->lane_begin : 1;
    fetch->lanes = calloc(fetch->lane_count + 1, sizeof *fetch->lanes);
    if (fetch->lanes == NULL)
        abort();
    for (size_t i = 0; i < fetch->lane_count; i++) {
        struct lane *lane = &fetch->lanes[i];

        if (fetch->order == NULL) {
            lane->places = o->sample_end - o->sample_begin;
            continue;
        }
        lane->number = o->lane_begin + (uint32_t)i;
        lane->epoch = o->epoch;
        lane->place = data_order_place(fetch->order, o->step, lane->number, 0);
        lane->places = data_order_lane_places(fetch->order, lane->number);
    }
    if (fetch->order == NULL)
        fetch->options.epoch_end = 1;
}

/* Who gets how much: ranges under way first, the rest is the lanes'. */
static void share_memory(struct data_fetch *fetch)
{
    const uint64_t threads = (uint64_t)fetch->options.threads;
    const uint64_t most = fetch->options.bytes / SCRATCH_SHARE / threads;

    fetch->range_bytes = most < RANGE_BYTES_MAX ? most : RANGE_BYTES_MAX;
    fetch->lane_bytes = (fetch->options.bytes - threads * fetch->range_bytes) /
                        (fetch->lane_count > 0 ? fetch->lane_count : 1);
    fetch->window = fetch->order != NULL
                        ? data_order_window_places(fetch->order)
                        : WINDOW_CHUNKS * data_index_chunk_samples(fetch->options.index);
}

static void init_locks(struct data_fetch *fetch)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&fetch->mutex, NULL);
    pthread_cond_init(&fetch->work, NULL);
    pthread_cond_init(&fetch->arrived, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

struct data_fetch *data_fetch_new(const struct data_fetch_options *options, struct err *err)
{
    struct data_fetch *fetch = calloc(1, sizeof *fetch);

    if (fetch == NULL)
        abort();
    init_locks(fetch);
    fetch->options = *options;
    fetch->options.bytes = options->bytes > 0 ? options->bytes : DATA_FETCH_BYTES;
    fetch->options.threads = options->threads > 0 ? options->threads : DATA_FETCH_THREADS;
    fetch->threads = calloc((size_t)fetch->options.threads, sizeof *fetch->threads);
    fetch->under_way = calloc((size_t)fetch->options.threads, sizeof *fetch->under_way);
    if (options->order != NULL && (fetch->order = malloc(sizeof *fetch->order)) != NULL)
        *fetch->order = *options->order;
    if (fetch->threads == NULL || fetch->under_way == NULL ||
        (options->order != NULL && fetch->order == NULL))
        abort();
    make_lanes(fetch);
    share_memory(fetch);
    fetch->source =
        (struct data_range_source){.index = options->index,
                                   .client = s3_client_shared(err),
                                   .cache = data_cache_set(options->cache, options->index),
                                   .evaluation = options->order == NULL,
                                   .cancel = &fetch->stop};
    if (fetch->source.client == NULL ||
        data_place_folder(&fetch->source.root, options->index->root, err) < 0 ||
        start_threads(fetch, err) < 0) {
        data_fetch_free(fetch);
        return NULL;
    }
    return fetch;
}

void data_fetch_stop(struct data_fetch *fetch)
{
    if (fetch == NULL)
        return;
    pthread_mutex_lock(&fetch->mutex);
    __atomic_store_n(&fetch->stop, 1, __ATOMIC_RELAXED); /* requests under way look at it too */
    pthread_cond_broadcast(&fetch->work);
    pthread_cond_broadcast(&fetch->arrived);
    pthread_mutex_unlock(&fetch->mutex);
}

void data_fetch_free(struct data_fetch *fetch)
{
    if (fetch == NULL)
        return;
    data_fetch_stop(fetch);
    for (int i = 0; i < fetch->threads_running; i++)
        pthread_join(fetch->threads[i], NULL);
    if (fetch->stats.damaged > 0)
        log_warn("%" PRIu64 " times a picture of '%s' came with another CRC-32C than its index "
                 "has and was read again",
                 fetch->stats.damaged, fetch->options.index->root);
    for (size_t i = 0; i < fetch->lane_count; i++)
        for (int g = 0; g < fetch->lanes[i].group_count; g++)
            data_group_free(fetch->lanes[i].groups[g]);
    data_place_release(&fetch->source.root);
    pthread_mutex_destroy(&fetch->mutex);
    pthread_cond_destroy(&fetch->work);
    pthread_cond_destroy(&fetch->arrived);
    free(fetch->lanes);
    free(fetch->order);
    free(fetch->threads);
    free(fetch->under_way);
    free(fetch);
}

/* Under the mutex: the group that holds a place; NULL while it is not planned. */
static struct data_group *lane_find(const struct lane *lane, uint32_t epoch, uint64_t place)
{
    for (int g = 0; g < lane->group_count; g++) {
        struct data_group *group = lane->groups[g];

        if (group->epoch == epoch && place >= group->begin && place - group->begin < group->count)
            return group;
    }
    return NULL;
}

/* Under the mutex: one sample less; a group without any is given up, if it is the first: the second
 * can be done before it. */
static void lane_taken(struct data_fetch *fetch, struct lane *lane, struct data_group *group,
                       uint64_t bytes)
{
    group->taken++;
    let_go(fetch, lane, bytes);
    while (lane->groups[0] != NULL && lane->groups[0]->taken == lane->groups[0]->count) {
        data_group_free(lane->groups[0]);
        lane->groups[0] = lane->groups[1];
        lane->groups[1] = NULL;
        lane->group_count--;
    }
    pthread_cond_signal(&fetch->work);
}

/* A sample of a shard whose bytes were none that its index knows, however often they were read.
 * That its key is not to be had now is no other failure. */
static int wrong_crc(const struct data_fetch *fetch, uint64_t sample, struct err *err)
{
    const struct data_index *const index = fetch->options.index;
    const bool held = data_index_hold(index, sample, &fetch->stop, NULL) == 0;
    char *const path = data_index_path(index, sample);

    err_set(err, ERR_INPUT,
            "'%s' does not match its index: '%s' has another CRC-32C each time it is read", path,
            held ? data_index_sample(index, sample)->key : "a picture");
    if (held)
        data_index_drop(index, sample);
    free(path);
    return -1;
}

static bool stopped(const struct data_fetch *fetch)
{
    const volatile sig_atomic_t *cancel = fetch->options.cancel;

    return fetch->stop || (cancel != NULL && __atomic_load_n(cancel, __ATOMIC_RELAXED));
}

/* Under the mutex: the group of a place whose range was read, or failed; NULL when stopped. */
static struct data_group *wait_for(struct data_fetch *fetch, const struct lane *lane,
                                   uint32_t epoch, uint64_t place)
{
    struct data_group *group;

    fetch->waiting++;
    for (;;) {
        group = stopped(fetch) ? NULL : lane_find(lane, epoch, place);
        if (group != NULL) {
            const enum data_range_state state =
                group->states[group->range_of[place - group->begin]];

            if (state == DATA_RANGE_READ || state == DATA_RANGE_FAILED)
                break;
        } else if (stopped(fetch)) {
            break;
        }
        wait_ms(fetch, WAIT_SLICE_MS);
    }
    fetch->waiting--;
    return group;
}

int data_fetch_take(struct data_fetch *fetch, uint32_t epoch, uint32_t lane_number, uint64_t place,
                    struct buf *out, int32_t *label, struct err *err)
{
    struct lane *lane =
        &fetch->lanes[fetch->order != NULL ? lane_number - fetch->options.lane_begin : 0];
    struct data_group *group;
    uint64_t sample = 0;
    bool damaged = false;
    int rc = 0;

    buf_release(out);
    pthread_mutex_lock(&fetch->mutex);
    group = wait_for(fetch, lane, epoch, place);
    if (group == NULL) {
        rc = err_set(err, ERR_STOPPED, "stopped while waiting for pictures");
    } else {
        const uint64_t at = place - group->begin;
        const struct err *failure = group->errs[group->range_of[at]];

        sample = group->samples[at];
        if (failure != NULL) {
            rc = err_set(err, failure->code, "%s", failure->msg);
        } else if (group->data[at] == NULL) {
            damaged = true;
        } else {
            out->data = group->data[at];
            out->bytes = out->capacity = group->entries[at].bytes;
            *label = group->entries[at].label;
            group->data[at] = NULL;
        }
        lane_taken(fetch, lane, group, group->entries[at].bytes);
    }
    pthread_mutex_unlock(&fetch->mutex);
    return damaged ? wrong_crc(fetch, sample, err) : rc;
}

void data_fetch_stats(struct data_fetch *fetch, struct data_fetch_stats *stats)
{
    pthread_mutex_lock(&fetch->mutex);
    *stats = fetch->stats;
    pthread_mutex_unlock(&fetch->mutex);
}
