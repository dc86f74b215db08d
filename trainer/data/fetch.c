/*
 * trainer/data/fetch.c -- threads that read ranges ahead of who takes their samples.
 *
 * Every thread does the most urgent thing that can be done: plan a lane's next group, or read a
 * range of a planned one. Urgency is the step that wants the first sample. A lane has two groups at
 * most, its ranges are begun group by group, and a range is begun only if the lane's share has room
 * for it or holds nothing. That cannot lock up: what is wanted next is in the lane's first group
 * with samples left; all before it were taken, so this group and what was read of the next are all
 * that is held, and the next is not begun before the first is.
 */
#include "trainer/data/fetch.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "s3io/client.h"
#include "s3io/object.h"
#include "trainer/data/index.h"
#include "trainer/data/order.h"
#include "trainer/data/place.h"
#include "trainer/data/plan.h"

#define RANGE_BYTES_MAX ((uint64_t)8 << 20) /* two chunks: a longer request is no cheaper a byte   \
                                             */
#define SCRATCH_SHARE   4 /* at most this part of the memory is for ranges under way */
#define WAIT_SLICE_NS   50000000
#define WINDOW_CHUNKS   16 /* of an evaluation's group */

enum range_state { RANGE_PLANNED, RANGE_BEGUN, RANGE_READ, RANGE_FAILED };

struct range {
    enum range_state state;
    struct err *err; /* RANGE_FAILED */
};

struct group {
    uint32_t epoch;
    uint64_t begin;        /* its first place in the lane */
    uint32_t count, taken; /* samples */
    uint64_t *samples;     /* (count) index places, by place */
    unsigned char **data;  /* (count) by place; NULL: not there, or taken */
    uint32_t *range_of;    /* (count) by place: number of the range */
    struct data_plan plan;
    struct range *ranges; /* (plan.range_count) */
    size_t begun;         /* ranges: all before are not RANGE_PLANNED any more */
};

struct lane {
    uint32_t number;
    uint32_t epoch; /* where the next group begins */
    uint64_t place, places;
    bool planning; /* by a thread that has let go of the mutex: the two above are its own */
    struct group *groups[2];
    int group_count;
    uint64_t held; /* bytes of pictures read or under way, and not taken */
};

struct data_fetch {
    struct data_fetch_options options;
    struct data_order *order; /* a copy, or NULL */
    struct s3_client *client;
    struct data_place root;
    uint64_t lane_bytes, range_bytes, window;
    pthread_t *threads;
    int threads_running;

    pthread_mutex_t mutex;  /* guards all below and the lanes */
    pthread_cond_t work;    /* there may be something to do, or stop */
    pthread_cond_t arrived; /* a range was read or failed, or stop */
    struct lane *lanes;
    size_t lane_count;
    uint64_t held, scratch; /* by all lanes; by threads for their ranges */
    volatile sig_atomic_t stop;
    struct data_fetch_stats stats;
};

/* ---- groups ---- */

static void group_free(struct group *group)
{
    if (group == NULL)
        return;
    for (uint32_t i = 0; i < group->count; i++)
        free(group->data[i]);
    for (size_t i = 0; i < group->plan.range_count; i++)
        free(group->ranges[i].err);
    data_plan_release(&group->plan);
    free(group->samples);
    free(group->data);
    free(group->range_of);
    free(group->ranges);
    free(group);
}

static uint64_t sample_at(const struct data_fetch *fetch, const struct lane *lane, uint64_t place)
{
    if (fetch->order == NULL)
        return fetch->options.sample_begin + place;
    return data_order_place_sample(fetch->order, lane->epoch, lane->number, place);
}

/* The samples from the lane's cursor on: to the end of the window at most, and no more than the
 * lane's share holds. */
static void group_gather(const struct data_fetch *fetch, const struct lane *lane,
                         struct group *group)
{
    const uint64_t window_end = (lane->place / fetch->window + 1) * fetch->window;
    const uint64_t end = window_end < lane->places ? window_end : lane->places;
    uint64_t bytes = 0;

    group->samples = calloc((size_t)(end - lane->place), sizeof *group->samples);
    if (group->samples == NULL)
        abort();
    for (uint64_t place = lane->place; place < end; place++) {
        const uint64_t sample = sample_at(fetch, lane, place);

        bytes += fetch->options.index->samples[sample].bytes;
        if (group->count > 0 && bytes > fetch->lane_bytes)
            break;
        group->samples[group->count++] = sample;
    }
}

static struct group *group_new(const struct data_fetch *fetch, const struct lane *lane)
{
    struct group *group = calloc(1, sizeof *group);

    if (group == NULL)
        abort();
    group->epoch = lane->epoch;
    group->begin = lane->place;
    group_gather(fetch, lane, group);
    data_plan_init(&group->plan, fetch->options.index, group->samples, group->count,
                   fetch->range_bytes);
    group->data = calloc(group->count, sizeof *group->data);
    group->range_of = calloc(group->count, sizeof *group->range_of);
    group->ranges = calloc(group->plan.range_count, sizeof *group->ranges);
    if (group->data == NULL || group->range_of == NULL || group->ranges == NULL)
        abort();
    for (size_t r = 0; r < group->plan.range_count; r++) {
        const struct data_plan_range *range = &group->plan.ranges[r];

        for (uint32_t i = 0; i < range->count; i++)
            group->range_of[group->plan.by_file[range->first + i]] = (uint32_t)r;
    }
    return group;
}

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

/* ---- what is to be done next ---- */

struct job {
    struct lane *lane;
    struct group *group; /* NULL: plan the lane's next one */
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

/* Under the mutex: the lane's next range, if there is room for it. */
static bool lane_next_range(const struct data_fetch *fetch, struct lane *lane, struct job *job)
{
    for (int g = 0; g < lane->group_count; g++) {
        struct group *group = lane->groups[g];
        const struct data_plan_range *range = &group->plan.ranges[group->begun];

        if (group->begun == group->plan.range_count)
            continue;
        if (lane->held > 0 && lane->held + range->bytes > fetch->lane_bytes)
            return false;
        *job = (struct job){lane, group, group->begun,
                            urgency_of(fetch, lane, group->epoch, group->begin + range->need)};
        return true;
    }
    return false;
}

static bool lane_next_group(const struct data_fetch *fetch, struct lane *lane, struct job *job)
{
    if (lane->planning || lane->group_count == 2 || !lane_settle(fetch, lane))
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

/* ---- reading ---- */

/* A picture that is an object of its own: is it the one that was listed? */
static int check_object(const struct data_sample *sample, const struct data_place *root,
                        const struct s3_object *object, struct err *err)
{
    const uint32_t etag = digest_crc32c(0, object->etag, strlen(object->etag));

    if (object->bytes == sample->bytes && (sample->crc32c == 0 || etag == sample->crc32c))
        return 0;
    return err_set(err, ERR_INPUT, "'s3://%s/%s%s' was replaced after its folder was listed",
                   root->bucket, root->key, sample->key);
}

static int read_bytes(struct data_fetch *fetch, const struct group *group,
                      const struct data_plan_range *range, void *out, struct err *err)
{
    const struct data_index *index = fetch->options.index;
    const struct data_sample *sample =
        &index->samples[group->samples[group->plan.by_file[range->first]]];
    struct s3_get get = {.bucket = fetch->root.bucket,
                         .offset = range->offset,
                         .bytes = range->length,
                         .cancel = &fetch->stop};
    struct s3_object object = {0};
    struct buf key = {0};
    int rc;

    buf_printf(&key, "%s%s", fetch->root.key,
               index->sharded ? index->file_names[range->file] : sample->key);
    get.key = buf_text(&key);
    if (index->sharded && index->file_etags != NULL && index->file_etags[range->file][0] != '\0')
        get.if_match = index->file_etags[range->file];
    rc = s3_object_read(fetch->client, &get, out, &object, err);
    if (rc == S3_NO)
        rc = s3_object_missing(get.bucket, get.key, err);
    else if (rc == S3_YES && !index->sharded)
        rc = check_object(sample, &fetch->root, &object, err);
    buf_release(&key);
    return rc < 0 ? -1 : 0;
}

/* Room for one picture; at least a byte. */
static unsigned char *picture_new(uint64_t bytes, struct err *err)
{
    unsigned char *data = malloc(bytes);

    if (data == NULL)
        err_set(err, ERR_MEMORY,
                "no memory for a picture of %" PRIu64 " bytes: a smaller --prefetch-bytes needs "
                "less",
                bytes);
    return data;
}

/* Cut what was read into pictures. */
static int hand_out(const struct data_fetch *fetch, struct group *group,
                    const struct data_plan_range *range, const unsigned char *bytes,
                    struct err *err)
{
    for (uint32_t i = range->first; i < range->first + range->count; i++) {
        const uint32_t place = group->plan.by_file[i];
        const struct data_sample *sample = &fetch->options.index->samples[group->samples[place]];

        if ((group->data[place] = picture_new(sample->bytes, err)) == NULL)
            return -1;
        memcpy(group->data[place], bytes + (sample->offset - range->offset), sample->bytes);
    }
    return 0;
}

/* Read a range that this thread has begun. Of several pictures it goes through the thread's own
 * memory: kept whole, it would not shrink as its pictures are taken. */
static int read_range(struct data_fetch *fetch, struct group *group,
                      const struct data_plan_range *range, unsigned char **scratch, struct err *err)
{
    unsigned char **data = &group->data[group->plan.by_file[range->first]];

    if (range->count == 1) {
        *data = picture_new(range->bytes, err);
        return *data == NULL ? -1 : read_bytes(fetch, group, range, *data, err);
    }
    assert(range->length <= fetch->range_bytes);
    if (*scratch == NULL) {
        if ((*scratch = picture_new(fetch->range_bytes, err)) == NULL)
            return -1;
        pthread_mutex_lock(&fetch->mutex);
        fetch->scratch += fetch->range_bytes;
        pthread_mutex_unlock(&fetch->mutex);
    }
    if (read_bytes(fetch, group, range, *scratch, err) < 0)
        return -1;
    return hand_out(fetch, group, range, *scratch, err);
}

/* ---- the threads ---- */

/* With the mutex, which is let go meanwhile. */
static void do_plan(struct data_fetch *fetch, struct lane *lane)
{
    struct group *group;

    lane->planning = true;
    pthread_mutex_unlock(&fetch->mutex);
    group = group_new(fetch, lane);
    pthread_mutex_lock(&fetch->mutex);
    lane->planning = false;
    lane->place += group->count;
    lane->groups[lane->group_count++] = group;
    fetch->stats.groups++;
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

static void do_read(struct data_fetch *fetch, const struct job *job, unsigned char **scratch)
{
    const struct data_plan_range *planned = &job->group->plan.ranges[job->range];
    struct range *range = &job->group->ranges[job->range];
    struct err err = {0};
    int rc;

    range->state = RANGE_BEGUN;
    job->group->begun++;
    hold(fetch, job->lane, planned->bytes);
    pthread_mutex_unlock(&fetch->mutex);
    rc = read_range(fetch, job->group, planned, scratch, &err);
    pthread_mutex_lock(&fetch->mutex);
    fetch->stats.requests++;
    fetch->stats.bytes += planned->length;
    if (planned->count > 1 && planned->length > fetch->stats.range_max)
        fetch->stats.range_max = planned->length;
    if (rc < 0 && (range->err = malloc(sizeof err)) == NULL)
        abort();
    if (rc < 0)
        *range->err = err;
    range->state = rc < 0 ? RANGE_FAILED : RANGE_READ;
    pthread_cond_broadcast(&fetch->arrived);
}

static void *fetch_work(void *argument)
{
    struct data_fetch *fetch = argument;
    unsigned char *scratch = NULL;
    struct job job;

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
    if (options->order != NULL && (fetch->order = malloc(sizeof *fetch->order)) != NULL)
        *fetch->order = *options->order;
    if (fetch->threads == NULL || (options->order != NULL && fetch->order == NULL))
        abort();
    make_lanes(fetch);
    share_memory(fetch);
    fetch->client = s3_client_shared(err);
    if (fetch->client == NULL || data_place_folder(&fetch->root, options->index->root, err) < 0 ||
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
    fetch->stop = 1;
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
    for (size_t i = 0; i < fetch->lane_count; i++)
        for (int g = 0; g < fetch->lanes[i].group_count; g++)
            group_free(fetch->lanes[i].groups[g]);
    data_place_release(&fetch->root);
    pthread_mutex_destroy(&fetch->mutex);
    pthread_cond_destroy(&fetch->work);
    pthread_cond_destroy(&fetch->arrived);
    free(fetch->lanes);
    free(fetch->order);
    free(fetch->threads);
    free(fetch);
}

/* Under the mutex: the group that holds a place; NULL while it is not planned. */
static struct group *lane_find(const struct lane *lane, uint32_t epoch, uint64_t place)
{
    for (int g = 0; g < lane->group_count; g++) {
        struct group *group = lane->groups[g];

        if (group->epoch == epoch && place >= group->begin && place - group->begin < group->count)
            return group;
    }
    return NULL;
}

/* Under the mutex: one sample less; a group without any is given up, if it is the first: the second
 * can be done before it. */
static void lane_taken(struct data_fetch *fetch, struct lane *lane, struct group *group,
                       uint64_t bytes)
{
    group->taken++;
    let_go(fetch, lane, bytes);
    while (lane->group_count > 0 && lane->groups[0]->taken == lane->groups[0]->count) {
        group_free(lane->groups[0]);
        lane->groups[0] = lane->groups[1];
        lane->groups[1] = NULL;
        lane->group_count--;
    }
    pthread_cond_signal(&fetch->work);
}

/* Shards say what a sample's bytes are. */
static int check_crc(const struct data_index *index, uint64_t sample, const struct buf *bytes,
                     struct err *err)
{
    const struct data_sample *entry = &index->samples[sample];
    char *path;

    if (!index->sharded || digest_crc32c(0, bytes->data, bytes->bytes) == entry->crc32c)
        return 0;
    path = data_index_path(index, sample);
    err_set(err, ERR_INPUT, "'%s' does not match its index: '%s' has another CRC-32C", path,
            entry->key);
    free(path);
    return -1;
}

/* Under the mutex: sleep until a range was read; a little at most where cancel is to be looked at.
 */
static void wait_slice(struct data_fetch *fetch)
{
    struct timespec until;

    if (fetch->options.cancel == NULL) {
        pthread_cond_wait(&fetch->arrived, &fetch->mutex);
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += WAIT_SLICE_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&fetch->arrived, &fetch->mutex, &until);
}

static bool stopped(const struct data_fetch *fetch)
{
    return fetch->stop || (fetch->options.cancel != NULL && *fetch->options.cancel);
}

/* Under the mutex: wait for the place's range; NULL when stopped. */
static struct range *wait_for(struct data_fetch *fetch, const struct lane *lane, uint32_t epoch,
                              uint64_t place, struct group **group)
{
    while (!stopped(fetch)) {
        *group = lane_find(lane, epoch, place);
        if (*group != NULL) {
            struct range *range = &(*group)->ranges[(*group)->range_of[place - (*group)->begin]];

            if (range->state == RANGE_READ || range->state == RANGE_FAILED)
                return range;
        }
        wait_slice(fetch);
    }
    return NULL;
}

int data_fetch_take(struct data_fetch *fetch, uint32_t epoch, uint32_t lane_number, uint64_t place,
                    struct buf *out, struct err *err)
{
    struct lane *lane =
        &fetch->lanes[fetch->order != NULL ? lane_number - fetch->options.lane_begin : 0];
    const struct range *range;
    struct group *group;
    uint64_t sample = 0;
    int rc = 0;

    buf_release(out);
    pthread_mutex_lock(&fetch->mutex);
    range = wait_for(fetch, lane, epoch, place, &group);
    if (range == NULL) {
        rc = err_set(err, ERR_STOPPED, "stopped while waiting for pictures");
    } else {
        const uint64_t at = place - group->begin;

        sample = group->samples[at];
        if (range->state == RANGE_FAILED) {
            rc = err_set(err, range->err->code, "%s", range->err->msg);
            free(group->data[at]);
        } else {
            assert(group->data[at] != NULL);
            out->data = group->data[at];
            out->bytes = out->capacity = fetch->options.index->samples[sample].bytes;
        }
        group->data[at] = NULL;
        lane_taken(fetch, lane, group, fetch->options.index->samples[sample].bytes);
    }
    pthread_mutex_unlock(&fetch->mutex);
    return rc < 0 ? -1 : check_crc(fetch->options.index, sample, out, err);
}

void data_fetch_stats(struct data_fetch *fetch, struct data_fetch_stats *stats)
{
    pthread_mutex_lock(&fetch->mutex);
    *stats = fetch->stats;
    pthread_mutex_unlock(&fetch->mutex);
}
