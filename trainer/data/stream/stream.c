/*
 * trainer/data/stream/stream.c -- threads that read, decode and transform pictures ahead.
 *
 * A slot is one micro-batch's memory and goes round: free -> filling -> (all its pictures done)
 * whole -> the caller's -> free. The slots being filled or whole stand in `line`, oldest first;
 * only the newest can have pictures that no thread has taken yet, since a batch begins when the one
 * before it is handed out to the last picture.
 *
 * An error is kept in its slot and reported when the slot's turn comes. Pictures are taken in
 * order, so those before a bad one are in work when it is found: the first bad picture in order is
 * what is reported, whichever thread was fastest.
 */
#include "trainer/data/stream/stream.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/trace.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/place.h"
#include "trainer/data/picture/decode.h"
#include "trainer/data/stream/fetch.h"
#include "trainer/data/stream/read.h"

#define NAME_CHARS    (sizeof((struct data_stream_stats *)0)->truncated_first)
#define WAIT_SLICE_NS 5000000 /* how long next sleeps before it looks at cancel again */

/* One micro-batch's memory. The three counts and what follows are guarded by the stream's mutex. */
struct slot {
    struct data_batch batch;
    int taken, done; /* pictures that threads took; and finished */
    int bad;         /* the first picture with an error, -1 for none; the error: */
    struct err err;
    int truncated;                   /* pictures whose data ended early */
    int truncated_first;             /* the first of them, -1 for none */
    char truncated_name[NAME_CHARS]; /* of the first; "" where another was named before */
    bool *missing; /* (micro_batch) pictures that are left out; why stands in batch.bad, */
    int left_out;  /* at their place till the batch is handed over; how many there are */
};

/* The next micro-batch to begin. */
struct cursor {
    uint32_t epoch, lane;
    uint64_t step;   /* evaluation: number of the batch */
    uint64_t sample; /* evaluation: its first sample */
};

struct data_stream {
    struct data_stream_options options;
    struct data_order order; /* a copy: options.order points here, or is NULL */
    struct data_reader *reader;
    struct data_fetch *fetch; /* instead of the reader where the pictures are in S3, else NULL */
    struct slot *slots;       /* (depth) */
    int *line;                /* (depth) numbers of slots from line_begin on, round and round */
    pthread_t *threads;
    int threads_running;

    pthread_mutex_t mutex;  /* guards all below and the slots' counts */
    pthread_cond_t work;    /* a slot is free, or stop */
    pthread_cond_t arrived; /* the oldest slot in line may be whole, or the end was found */
    int *unused;            /* (depth) a stack of the free slots */
    int unused_count, line_begin, line_count;
    struct cursor cursor;
    bool no_more;               /* no batch is begun any more: the end, or an error */
    volatile sig_atomic_t stop; /* the reader's cancel, too */
    struct data_stream_stats stats;
};

/* What a thread works with. */
struct hands {
    struct buf bytes;
    struct data_decoder *decoder;
    struct data_image image;
    struct data_scratch scratch;
    double begun, begun_cpu; /* the stage in work, where stages are timed */
    double stage_s[DATA_STAGES], stage_cpu_s[DATA_STAGES]; /* of this picture */
};

/* ---- which batch comes next ---- */

/* Training: from the cursor on, skip what is empty; false at the end. */
static bool cursor_settle(struct cursor *cursor, const struct data_stream_options *options)
{
    const uint64_t steps = data_order_steps(options->order);

    while (cursor->epoch < options->epoch_end) {
        if (cursor->step >= steps) {
            cursor->epoch++;
            cursor->step = 0;
            cursor->lane = options->lane_begin;
        } else if (cursor->lane >= options->lane_end) {
            cursor->step++;
            cursor->lane = options->lane_begin;
        } else if (data_order_lane_images(options->order, cursor->step, cursor->lane) == 0) {
            cursor->lane++;
        } else {
            return true;
        }
    }
    return false;
}

/* Take the next micro-batch: its name and size go into `batch`. false at the end. */
static bool cursor_take(struct cursor *cursor, const struct data_stream_options *options,
                        struct data_batch *batch)
{
    uint64_t left;

    if (options->order != NULL) {
        if (!cursor_settle(cursor, options))
            return false;
        batch->n = (int)data_order_lane_images(options->order, cursor->step, cursor->lane);
    } else {
        left = options->sample_end - cursor->sample;
        if (left == 0)
            return false;
        batch->n = left < (uint64_t)options->micro_batch ? (int)left : options->micro_batch;
    }
    batch->epoch = cursor->epoch;
    batch->step = cursor->step;
    batch->lane = cursor->lane;
    if (options->order != NULL) {
        cursor->lane++;
    } else {
        cursor->step++;
        cursor->sample += (uint64_t)batch->n;
    }
    return true;
}

static uint64_t stream_sample(const struct data_stream_options *options,
                              const struct data_batch *batch, int i)
{
    if (options->order != NULL)
        return data_order_sample(options->order, batch->epoch, batch->step, batch->lane,
                                 (uint32_t)i);
    return options->sample_begin + batch->step * (uint64_t)options->micro_batch + (uint64_t)i;
}

/* ---- the threads ---- */

/* The picture's bytes, and its label. */
static int stream_read(struct data_stream *stream, struct data_batch *batch, int i,
                       struct buf *bytes, struct err *err)
{
    const struct data_stream_options *o = &stream->options;
    int32_t *const label = &batch->labels[i];

    if (stream->fetch == NULL)
        return data_reader_get(stream->reader, batch->samples[i], bytes, label, err);
    if (o->order == NULL) /* of whatever epoch: each sample is read once */
        return data_fetch_take(stream->fetch, 0, 0, batch->samples[i] - o->sample_begin, bytes,
                               label, err);
    return data_fetch_take(stream->fetch, batch->epoch, batch->lane,
                           data_order_place(o->order, batch->step, batch->lane, (uint32_t)i), bytes,
                           label, err);
}

/* Whether a picture that was not read may be left out: it alone is in the way, and not a shard, the
 * network or memory. */
static bool stream_leaves(const struct data_stream *stream, const struct err *err)
{
    const bool alone = !stream->options.index->sharded && stream->fetch == NULL;

    return stream->options.leave_unreadable &&
           (err->code == ERR_INPUT || (err->code == ERR_IO && alone));
}

static double thread_cpu_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void stage_begin(const struct data_stream *stream, struct hands *hands)
{
    if (stream->options.time_stages) {
        hands->begun = clock_now_s();
        hands->begun_cpu = thread_cpu_s();
    } else {
        hands->begun = trace_begin();
    }
}

static void stage_end(const struct data_stream *stream, struct hands *hands, enum data_stage stage)
{
    static const char *const names[DATA_STAGES] = {"read", "decode", "transform"};

    trace_end("input", names[stage], hands->begun);
    if (stream->options.time_stages) {
        hands->stage_s[stage] = clock_now_s() - hands->begun;
        hands->stage_cpu_s[stage] = thread_cpu_s() - hands->begun_cpu;
    }
}

/* Read, decode and transform one picture to its place in the batch. Touches nothing that another
 * thread does. Returns 1 where its bytes are none that can be decoded: err tells why. */
static int stream_fill(struct data_stream *stream, struct slot *slot, int i, struct hands *hands,
                       bool *truncated, struct err *err)
{
    const struct data_transform *transform = &stream->options.transform;
    const size_t floats = (size_t)transform->size * (size_t)transform->size * 3;
    struct data_batch *batch = &slot->batch;
    const uint64_t sample = stream_sample(&stream->options, batch, i);
    int rc;

    memset(hands->stage_s, 0, sizeof hands->stage_s);
    memset(hands->stage_cpu_s, 0, sizeof hands->stage_cpu_s);
    stage_begin(stream, hands);
    batch->samples[i] = sample;
    rc = stream_read(stream, batch, i, &hands->bytes, err);
    stage_end(stream, hands, DATA_STAGE_READ);
    if (rc < 0)
        return stream_leaves(stream, err) ? 1 : -1;
    stage_begin(stream, hands);
    rc = data_transform_decode(transform, hands->decoder, hands->bytes.data, hands->bytes.bytes,
                               sample, batch->epoch, &hands->image, err);
    stage_end(stream, hands, DATA_STAGE_DECODE);
    if (rc < 0) {
        data_reader_wrap(stream->reader, sample, err);
        return err->code == ERR_INPUT && !stream->options.stop_at_bad ? 1 : -1;
    }
    *truncated = hands->image.truncated;
    stage_begin(stream, hands);
    data_transform_apply(transform, &hands->image, sample, batch->epoch, &hands->scratch,
                         batch->x + (size_t)i * floats);
    stage_end(stream, hands, DATA_STAGE_TRANSFORM);
    return 0;
}

/* Under the mutex: begin another batch if there is one and a slot for it. */
static bool stream_begin_batch(struct data_stream *stream)
{
    const int depth = stream->options.depth;
    struct slot *slot;
    int number;

    if (stream->no_more || stream->unused_count == 0)
        return false;
    number = stream->unused[stream->unused_count - 1];
    slot = &stream->slots[number];
    if (!cursor_take(&stream->cursor, &stream->options, &slot->batch)) {
        stream->no_more = true;
        pthread_cond_broadcast(&stream->arrived);
        return false;
    }
    assert(slot->batch.n <= stream->options.micro_batch);
    slot->taken = slot->done = slot->truncated = slot->left_out = 0;
    slot->bad = slot->truncated_first = -1;
    memset(slot->missing, 0, (size_t)slot->batch.n * sizeof *slot->missing);
    stream->unused_count--;
    stream->line[(stream->line_begin + stream->line_count) % depth] = number;
    stream->line_count++;
    return true;
}

/* Under the mutex: wait for a picture to work on. NULL when it is time to stop. */
static struct slot *stream_take_picture(struct data_stream *stream, int *i)
{
    const int depth = stream->options.depth;
    struct slot *newest;

    for (;;) {
        if (stream->stop)
            return NULL;
        if (stream->line_count > 0) {
            newest =
                &stream->slots[stream->line[(stream->line_begin + stream->line_count - 1) % depth]];
            if (newest->taken < newest->batch.n) {
                *i = newest->taken++;
                return newest;
            }
        }
        if (!stream_begin_batch(stream))
            pthread_cond_wait(&stream->work, &stream->mutex);
    }
}

/* The name stands in front and the reason behind: of a longer text the middle is left out. */
static void bad_tell(struct data_bad *bad, const char *why)
{
    static const char gap[] = " ... ";
    const size_t bytes = strlen(why), room = sizeof bad->why - 1, head = room / 2,
                 tail = room - head - strlen(gap);

    if (bytes <= room)
        memcpy(bad->why, why, bytes + 1);
    else
        snprintf(bad->why, sizeof bad->why, "%.*s%s%s", (int)head, why, gap, why + bytes - tail);
}

/* With the mutex, which is let go meanwhile: the name of a picture that ended early, if it may be
 * the first of the stream. The index may have to be asked, which takes as long as S3 does.
 */
static void stream_name(struct data_stream *stream, const struct slot *slot, int i,
                        char name[NAME_CHARS])
{
    if (stream->stats.truncated > 0 || (slot->truncated_first >= 0 && slot->truncated_first < i))
        return;
    pthread_mutex_unlock(&stream->mutex);
    data_reader_name(stream->reader, slot->batch.samples[i], name, NAME_CHARS);
    pthread_mutex_lock(&stream->mutex);
}

/* Under the mutex: picture i of the slot is there, or is not. truncated: its name if it ended
 * early, else NULL. */
static void stream_put_picture(struct data_stream *stream, struct slot *slot, int i, int rc,
                               const char *truncated, const struct err *err)
{
    if (rc < 0) {
        stream->no_more = true;
        if (slot->bad < 0 || i < slot->bad) {
            slot->bad = i;
            slot->err = *err;
        }
    } else if (rc > 0) {
        slot->missing[i] = true;
        slot->left_out++;
        slot->batch.bad[i].sample = slot->batch.samples[i];
        bad_tell(&slot->batch.bad[i], err->msg);
    } else if (truncated != NULL) {
        slot->truncated++;
        if (slot->truncated_first < 0 || i < slot->truncated_first) {
            slot->truncated_first = i;
            memcpy(slot->truncated_name, truncated, NAME_CHARS);
        }
    }
    slot->done++;
    if (slot->done == slot->batch.n)
        pthread_cond_broadcast(&stream->arrived);
}

static void *stream_work(void *argument)
{
    struct data_stream *stream = argument;
    struct hands hands = {.decoder = data_decoder_new()};
    struct slot *slot;
    int i;

    trace_thread("decode");
    pthread_mutex_lock(&stream->mutex);
    while ((slot = stream_take_picture(stream, &i)) != NULL) {
        struct err err = {0};
        char name[NAME_CHARS] = "";
        bool truncated = false;
        int rc;

        pthread_mutex_unlock(&stream->mutex);
        rc = stream_fill(stream, slot, i, &hands, &truncated, &err);
        pthread_mutex_lock(&stream->mutex);
        for (int stage = 0; stage < DATA_STAGES; stage++) {
            stream->stats.stage_s[stage] += hands.stage_s[stage];
            stream->stats.stage_cpu_s[stage] += hands.stage_cpu_s[stage];
        }
        if (truncated)
            stream_name(stream, slot, i, name);
        stream_put_picture(stream, slot, i, rc, truncated ? name : NULL, &err);
    }
    pthread_mutex_unlock(&stream->mutex);
    buf_release(&hands.bytes);
    data_decoder_free(hands.decoder);
    data_image_release(&hands.image);
    data_scratch_release(&hands.scratch);
    return NULL;
}

/* Signals are for the main thread: the workers block all of them. */
static int stream_start_threads(struct data_stream *stream, struct err *err)
{
    sigset_t all, before;
    int rc = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (rc == 0 && stream->threads_running < stream->options.threads) {
        rc = pthread_create(&stream->threads[stream->threads_running], NULL, stream_work, stream);
        if (rc == 0)
            stream->threads_running++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return err_set_errno(err, ERR_MEMORY, rc, "cannot start %d input threads",
                             stream->options.threads);
    return 0;
}

/* ---- making and ending a stream ---- */

static int stream_allocate(struct data_stream *stream, struct err *err)
{
    const struct data_stream_options *options = &stream->options;
    const size_t depth = (size_t)options->depth, n = (size_t)options->micro_batch;
    const size_t floats = (size_t)options->transform.size * (size_t)options->transform.size * 3;

    stream->slots = calloc(depth, sizeof *stream->slots);
    stream->line = calloc(depth, sizeof *stream->line);
    stream->unused = calloc(depth, sizeof *stream->unused);
    stream->threads = calloc((size_t)options->threads, sizeof *stream->threads);
    if (!stream->slots || !stream->line || !stream->unused || !stream->threads)
        abort();
    for (int i = 0; i < options->depth; i++) {
        struct data_batch *batch = &stream->slots[i].batch;

        batch->slot = i;
        batch->x =
            n <= SIZE_MAX / sizeof(float) / floats ? malloc(n * floats * sizeof(float)) : NULL;
        batch->labels = calloc(n, sizeof *batch->labels);
        batch->samples = calloc(n, sizeof *batch->samples);
        batch->bad = batch->x != NULL ? calloc(n, sizeof *batch->bad) : NULL;
        stream->slots[i].missing = calloc(n, sizeof(bool));
        if (!batch->x || !batch->labels || !batch->samples || !batch->bad ||
            !stream->slots[i].missing)
            return err_set(
                err, ERR_MEMORY,
                "no memory for %d micro-batches of %d images of %d x %d pixels; a smaller "
                "--micro-batch or --image-size needs less",
                options->depth, options->micro_batch, options->transform.size,
                options->transform.size);
        stream->unused[stream->unused_count++] = i;
    }
    return 0;
}

static int stream_start_fetch(struct data_stream *stream, struct err *err)
{
    const struct data_stream_options *o = &stream->options;
    const struct data_fetch_options options = {
        .index = o->index,
        .order = o->order,
        .lane_begin = o->lane_begin,
        .lane_end = o->lane_end,
        .epoch = o->epoch,
        .epoch_end = o->epoch_end,
        .step = o->step,
        .sample_begin = o->sample_begin,
        .sample_end = o->sample_end,
        .bytes = o->fetch_bytes,
        .threads = o->fetch_threads,
        .cache = o->cache,
    };

    if (!data_place_is_remote(o->index->root))
        return 0;
    stream->fetch = data_fetch_new(&options, err);
    return stream->fetch == NULL ? -1 : 0;
}

static void stream_init_locks(struct data_stream *stream)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&stream->mutex, NULL);
    pthread_cond_init(&stream->work, NULL);
    pthread_cond_init(&stream->arrived, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

struct data_stream *data_stream_new(const struct data_stream_options *options, struct err *err)
{
    struct data_stream *stream = calloc(1, sizeof *stream);

    assert(options->threads >= 1 && options->depth >= 2 && options->micro_batch >= 1);
    if (stream == NULL)
        abort();
    stream_init_locks(stream);
    stream->options = *options;
    stream->cursor.sample = options->sample_begin;
    stream->cursor.epoch = options->epoch;
    if (options->order != NULL) {
        assert(options->lane_begin <= options->lane_end &&
               options->lane_end <= options->order->lanes);
        stream->order = *options->order;
        stream->options.order = &stream->order;
        stream->cursor.step = options->step;
        stream->cursor.lane = options->lane_begin;
    } else {
        assert(options->sample_begin <= options->sample_end &&
               options->sample_end <= options->index->count);
    }
    stream->reader = data_reader_new(options->index, &stream->stop);
    if (stream_allocate(stream, err) < 0 || stream_start_fetch(stream, err) < 0 ||
        stream_start_threads(stream, err) < 0) {
        data_stream_free(stream);
        return NULL;
    }
    return stream;
}

void data_stream_free(struct data_stream *stream)
{
    if (stream == NULL)
        return;
    pthread_mutex_lock(&stream->mutex);
    __atomic_store_n(&stream->stop, 1, __ATOMIC_RELAXED); /* requests under way look at it too */
    pthread_cond_broadcast(&stream->work);
    pthread_mutex_unlock(&stream->mutex);
    data_fetch_stop(stream->fetch);
    for (int i = 0; i < stream->threads_running; i++)
        pthread_join(stream->threads[i], NULL);
    data_fetch_free(stream->fetch);
    for (int i = 0; i < stream->options.depth; i++) {
        free(stream->slots[i].batch.x);
        free(stream->slots[i].batch.labels);
        free(stream->slots[i].batch.samples);
        free(stream->slots[i].batch.bad);
        free(stream->slots[i].missing);
    }
    data_reader_free(stream->reader);
    pthread_cond_destroy(&stream->work);
    pthread_cond_destroy(&stream->arrived);
    pthread_mutex_destroy(&stream->mutex);
    free(stream->slots);
    free(stream->line);
    free(stream->unused);
    free(stream->threads);
    free(stream);
}

/* ---- the caller's side ---- */

/* Under the mutex: sleep a little, or until something arrived. */
static void stream_wait_slice(struct data_stream *stream)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += WAIT_SLICE_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&stream->arrived, &stream->mutex, &until);
}

static bool is_set(const volatile sig_atomic_t *cancel)
{
    return cancel != NULL && __atomic_load_n(cancel, __ATOMIC_RELAXED); /* a thread's, too */
}

/* Under the mutex: the oldest batch once it is whole; NULL at the end or when cancelled. */
static struct slot *stream_wait_oldest(struct data_stream *stream,
                                       const volatile sig_atomic_t *cancel)
{
    struct slot *oldest;

    for (;;) {
        if (is_set(cancel))
            return NULL;
        if (stream->line_count > 0) {
            oldest = &stream->slots[stream->line[stream->line_begin]];
            if (oldest->done == oldest->batch.n)
                return oldest;
        } else if (stream->no_more) {
            return NULL;
        }
        stream_wait_slice(stream);
    }
}

/* Under the mutex: what the batch that is handed over adds. */
static void stream_count(struct data_stream *stream, const struct slot *slot)
{
    struct data_stream_stats *stats = &stream->stats;

    stats->images += (uint64_t)(slot->batch.n - slot->left_out);
    for (int i = 0; i < slot->batch.n && slot->left_out > 0 && stats->left_out_first[0] == '\0';
         i++)
        if (slot->missing[i])
            memcpy(stats->left_out_first, slot->batch.bad[i].why, sizeof stats->left_out_first);
    stats->left_out += (uint64_t)slot->left_out;
    if (slot->truncated > 0 && stats->truncated == 0)
        memcpy(stats->truncated_first, slot->truncated_name, NAME_CHARS);
    stats->truncated += (uint64_t)slot->truncated;
}

/* Move the pictures that are there up to the front, and the reasons of the others. The slot keeps
 * its own n. */
static void batch_close_ranks(struct data_batch *batch, const bool *missing, size_t floats)
{
    int kept = 0;

    batch->bad_count = 0;
    for (int i = 0; i < batch->n; i++) {
        if (missing[i]) {
            if (batch->bad_count < i)
                batch->bad[batch->bad_count] = batch->bad[i];
            batch->bad_count++;
            continue;
        }
        if (kept < i)
            memcpy(batch->x + (size_t)kept * floats, batch->x + (size_t)i * floats,
                   floats * sizeof(float));
        batch->labels[kept] = batch->labels[i];
        batch->samples[kept++] = batch->samples[i];
    }
    batch->n = kept;
}

int data_stream_next(struct data_stream *stream, struct data_batch *batch,
                     const volatile sig_atomic_t *cancel, struct err *err)
{
    const double begin = clock_now_s();
    struct slot *slot;
    int rc = 0;

    pthread_mutex_lock(&stream->mutex);
    slot = stream_wait_oldest(stream, cancel);
    if (slot == NULL) {
        if (is_set(cancel))
            rc = err_set(err, ERR_STOPPED, "stopped while waiting for pictures");
    } else if (slot->bad >= 0) { /* it stays in line: asked again, the answer is the same */
        rc = err_set(err, slot->err.code, "%s", slot->err.msg);
    } else {
        stream->line_begin = (stream->line_begin + 1) % stream->options.depth;
        stream->line_count--;
        stream_count(stream, slot);
        *batch = slot->batch;
        if (slot->left_out > 0)
            batch_close_ranks(batch, slot->missing,
                              (size_t)stream->options.transform.size *
                                  (size_t)stream->options.transform.size * 3);
        rc = 1;
    }
    stream->stats.wait_s += clock_now_s() - begin;
    pthread_mutex_unlock(&stream->mutex);
    trace_end("wait", "pictures", begin);
    return rc;
}

void data_stream_give_back(struct data_stream *stream, const struct data_batch *batch)
{
    pthread_mutex_lock(&stream->mutex);
    assert(stream->unused_count < stream->options.depth);
    stream->unused[stream->unused_count++] = batch->slot;
    pthread_cond_broadcast(&stream->work);
    pthread_mutex_unlock(&stream->mutex);
}

void data_stream_stats(struct data_stream *stream, struct data_stream_stats *stats)
{
    pthread_mutex_lock(&stream->mutex);
    *stats = stream->stats;
    pthread_mutex_unlock(&stream->mutex);
}
