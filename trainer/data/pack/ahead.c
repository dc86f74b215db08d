#include "trainer/data/pack/ahead.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "base/buf.h"
#include "base/err.h"
#include "trainer/data/pack/source.h"

#define WAIT_MS 100 /* how soon a stop is seen */

struct slot {
    struct buf bytes;
    struct err err;
    bool done, failed;
};

struct data_ahead {
    const struct data_source *source;
    const uint64_t *samples;
    size_t count;
    const volatile sig_atomic_t *cancel;
    pthread_t *threads;
    int started;
    pthread_mutex_t mutex; /* guards all below; a slot's bytes belong to its reader until done */
    pthread_cond_t room, ready;
    struct slot slots[DATA_AHEAD_SAMPLES]; /* place i is in slot i modulo their number */
    size_t next, taken;                    /* the place to be read next; to be taken next */
    uint64_t held;                         /* bytes read or under way */
    bool stop;
};

static uint64_t bytes_of(const struct data_ahead *ahead, size_t place)
{
    return ahead->source->index.samples[ahead->samples[place]].bytes;
}

/* Under the mutex: whether the next place may be read now. The one that is taken next always. */
static bool may_read(const struct data_ahead *ahead)
{
    return ahead->next == ahead->taken ||
           (ahead->next - ahead->taken < DATA_AHEAD_SAMPLES &&
            ahead->held + bytes_of(ahead, ahead->next) <= DATA_AHEAD_BYTES);
}

static void *read_some(void *context)
{
    struct data_ahead *ahead = context;

    pthread_mutex_lock(&ahead->mutex);
    for (;;) {
        struct slot *slot;
        size_t place;
        int rc;

        while (!ahead->stop && ahead->next < ahead->count && !may_read(ahead))
            pthread_cond_wait(&ahead->room, &ahead->mutex);
        if (ahead->stop || ahead->next == ahead->count)
            break;
        place = ahead->next++;
        slot = &ahead->slots[place % DATA_AHEAD_SAMPLES];
        ahead->held += bytes_of(ahead, place);
        pthread_mutex_unlock(&ahead->mutex);
        rc = data_source_get(ahead->source, ahead->samples[place], &slot->bytes, &slot->err);
        pthread_mutex_lock(&ahead->mutex);
        slot->failed = rc < 0;
        slot->done = true;
        pthread_cond_broadcast(&ahead->ready);
    }
    pthread_mutex_unlock(&ahead->mutex);
    return NULL;
}

struct data_ahead *data_ahead_new(const struct data_source *source, const uint64_t *samples,
                                  size_t count, int threads, const volatile sig_atomic_t *cancel)
{
    struct data_ahead *ahead = calloc(1, sizeof *ahead);
    pthread_condattr_t monotonic;

    if (ahead == NULL)
        abort();
    if (threads == 0)
        threads = source->reader != NULL ? DATA_AHEAD_THREADS : DATA_AHEAD_THREADS_REMOTE;
    ahead->source = source;
    ahead->samples = samples;
    ahead->count = count;
    ahead->cancel = cancel;
    ahead->threads = calloc((size_t)threads, sizeof *ahead->threads);
    if (ahead->threads == NULL)
        abort();
    pthread_mutex_init(&ahead->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&ahead->room, NULL);
    pthread_cond_init(&ahead->ready, &monotonic);
    pthread_condattr_destroy(&monotonic);
    for (; ahead->started < threads; ahead->started++)
        if (pthread_create(&ahead->threads[ahead->started], NULL, read_some, ahead) != 0)
            break;
    if (ahead->started == 0)
        abort();
    return ahead;
}

void data_ahead_free(struct data_ahead *ahead)
{
    if (ahead == NULL)
        return;
    pthread_mutex_lock(&ahead->mutex);
    ahead->stop = true;
    pthread_cond_broadcast(&ahead->room);
    pthread_mutex_unlock(&ahead->mutex);
    for (int i = 0; i < ahead->started; i++)
        pthread_join(ahead->threads[i], NULL);
    for (size_t i = 0; i < DATA_AHEAD_SAMPLES; i++)
        buf_release(&ahead->slots[i].bytes);
    pthread_cond_destroy(&ahead->room);
    pthread_cond_destroy(&ahead->ready);
    pthread_mutex_destroy(&ahead->mutex);
    free(ahead->threads);
    free(ahead);
}

/* Under the mutex. */
static int wait_for(struct data_ahead *ahead, const struct slot *slot, struct err *err)
{
    while (!slot->done) {
        struct timespec until;

        if (ahead->cancel != NULL && *ahead->cancel)
            return err_set(err, ERR_STOPPED, "stopped while reading '%s'",
                           ahead->source->index.root);
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += WAIT_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&ahead->ready, &ahead->mutex, &until);
    }
    return 0;
}

int data_ahead_take(struct data_ahead *ahead, struct buf *out, struct err *err)
{
    struct slot *slot;
    int rc;

    pthread_mutex_lock(&ahead->mutex);
    assert(ahead->taken < ahead->count);
    slot = &ahead->slots[ahead->taken % DATA_AHEAD_SAMPLES];
    rc = wait_for(ahead, slot, err);
    if (rc == 0 && slot->failed) {
        if (err != NULL)
            *err = slot->err;
        rc = -1;
    } else if (rc == 0) {
        buf_release(out);
        *out = slot->bytes;
        slot->bytes = (struct buf){0}; /* a slot keeps no storage: there are many */
        slot->done = false;
        ahead->held -= bytes_of(ahead, ahead->taken++);
        pthread_cond_broadcast(&ahead->room);
    }
    pthread_mutex_unlock(&ahead->mutex);
    return rc;
}
