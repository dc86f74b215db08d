/* comm/queue.c -- see queue.h. */
#include "comm/queue.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

void comm_queue_init(struct comm_queue *queue, int buckets)
{
    pthread_condattr_t monotonic;

    *queue = (struct comm_queue){.buckets = buckets, .settled = true};
    queue->there = calloc((size_t)buckets + 1, sizeof *queue->there);
    if (queue->there == NULL)
        abort();
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&queue->mutex, NULL);
    pthread_cond_init(&queue->wished, &monotonic);
    pthread_cond_init(&queue->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void comm_queue_release(struct comm_queue *queue)
{
    if (queue->there == NULL)
        return;
    pthread_cond_destroy(&queue->wished);
    pthread_cond_destroy(&queue->changed);
    pthread_mutex_destroy(&queue->mutex);
    free(queue->there);
    *queue = (struct comm_queue){0};
}

void comm_queue_begin(struct comm_queue *queue, uint32_t leaves, double deadline_s)
{
    pthread_mutex_lock(&queue->mutex);
    assert(queue->settled);
    queue->wishes.step++;
    queue->wishes.leaves = leaves;
    queue->wishes.deadline_s = deadline_s;
    queue->wishes.ready = 0;
    queue->wishes.answered = false;
    memset(queue->there, 0, (size_t)queue->buckets * sizeof *queue->there);
    queue->heard = false;
    queue->settled = false;
    pthread_cond_signal(&queue->wished);
    pthread_mutex_unlock(&queue->mutex);
}

void comm_queue_computed(struct comm_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->wishes.computed++;
    pthread_mutex_unlock(&queue->mutex); /* nobody has to wake up for it */
}

void comm_queue_ready(struct comm_queue *queue, size_t floats)
{
    pthread_mutex_lock(&queue->mutex);
    queue->wishes.ready = floats;
    pthread_cond_signal(&queue->wished);
    pthread_mutex_unlock(&queue->mutex);
}

void comm_queue_answer(struct comm_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    assert(!queue->settled && !queue->wishes.answered);
    queue->wishes.answered = true;
    pthread_cond_signal(&queue->wished);
    pthread_mutex_unlock(&queue->mutex);
}

void comm_queue_doing(struct comm_queue *queue, enum comm_doing doing)
{
    pthread_mutex_lock(&queue->mutex);
    queue->wishes.doing = doing;
    queue->wishes.doing_since_s = clock_now_s();
    if (doing == COMM_WAITS)
        pthread_cond_signal(&queue->wished);
    while (doing == COMM_COMPUTES && queue->speaking)
        pthread_cond_wait(&queue->changed, &queue->mutex);
    pthread_mutex_unlock(&queue->mutex);
}

void comm_queue_close(struct comm_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->wishes.closing = true;
    pthread_cond_signal(&queue->wished);
    pthread_mutex_unlock(&queue->mutex);
}

static int outcome(const struct comm_queue *queue, struct err *err)
{
    if (queue->err.code == ERR_NONE)
        return 0;
    if (err != NULL)
        *err = queue->err;
    return -1;
}

static bool all_there(const struct comm_queue *queue, int begin, int end)
{
    for (int bucket = begin; bucket < end; bucket++)
        if (!queue->there[bucket])
            return false;
    return true;
}

int comm_queue_wait_sums(struct comm_queue *queue, int begin, int end, struct err *err)
{
    int rc;

    pthread_mutex_lock(&queue->mutex);
    while (!all_there(queue, begin, end) && queue->err.code == ERR_NONE)
        pthread_cond_wait(&queue->changed, &queue->mutex);
    rc = outcome(queue, err);
    pthread_mutex_unlock(&queue->mutex);
    return rc;
}

static int wait_for(struct comm_queue *queue, const bool *what, struct err *err)
{
    int rc;

    pthread_mutex_lock(&queue->mutex);
    while (!*what && queue->err.code == ERR_NONE)
        pthread_cond_wait(&queue->changed, &queue->mutex);
    rc = outcome(queue, err);
    pthread_mutex_unlock(&queue->mutex);
    return rc;
}

int comm_queue_wait_answers(struct comm_queue *queue, struct err *err)
{
    return wait_for(queue, &queue->heard, err);
}

int comm_queue_wait_settled(struct comm_queue *queue, struct err *err)
{
    return wait_for(queue, &queue->settled, err);
}

int comm_queue_check(struct comm_queue *queue, struct err *err)
{
    int rc;

    pthread_mutex_lock(&queue->mutex);
    rc = outcome(queue, err);
    pthread_mutex_unlock(&queue->mutex);
    return rc;
}

/* Something that the communication thread should act on at once. */
static bool differs(const struct comm_wishes *a, const struct comm_wishes *b)
{
    return a->step != b->step || a->ready != b->ready || a->answered != b->answered ||
           a->closing != b->closing || (a->doing != b->doing && a->doing == COMM_WAITS);
}

static struct timespec after(double seconds)
{
    struct timespec at;
    double whole;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_nsec += (long)(modf(seconds, &whole) * 1e9);
    at.tv_sec += (time_t)whole + at.tv_nsec / 1000000000;
    at.tv_nsec %= 1000000000;
    return at;
}

struct comm_wishes comm_queue_sleep(struct comm_queue *queue, const struct comm_wishes *seen,
                                    double seconds)
{
    const struct timespec until = after(seconds);
    struct comm_wishes wishes;
    int rc = 0;

    pthread_mutex_lock(&queue->mutex);
    while (rc == 0 && !differs(&queue->wishes, seen))
        rc = pthread_cond_timedwait(&queue->wished, &queue->mutex, &until);
    wishes = queue->wishes;
    pthread_mutex_unlock(&queue->mutex);
    return wishes;
}

bool comm_queue_speak(struct comm_queue *queue)
{
    bool speaks;

    pthread_mutex_lock(&queue->mutex);
    speaks = queue->speaking = queue->settled && queue->wishes.doing == COMM_WAITS;
    pthread_mutex_unlock(&queue->mutex);
    return speaks;
}

void comm_queue_spoken(struct comm_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->speaking = false;
    pthread_cond_signal(&queue->changed);
    pthread_mutex_unlock(&queue->mutex);
}

static void set(struct comm_queue *queue, bool *what)
{
    pthread_mutex_lock(&queue->mutex);
    *what = true;
    pthread_cond_signal(&queue->changed);
    pthread_mutex_unlock(&queue->mutex);
}

void comm_queue_there(struct comm_queue *queue, int bucket)
{
    assert(bucket >= 0 && bucket < queue->buckets);
    set(queue, &queue->there[bucket]);
}

void comm_queue_heard(struct comm_queue *queue)
{
    set(queue, &queue->heard);
}

void comm_queue_settled(struct comm_queue *queue)
{
    set(queue, &queue->settled);
}

void comm_queue_fail(struct comm_queue *queue, const struct err *err)
{
    pthread_mutex_lock(&queue->mutex);
    queue->err = *err;
    pthread_cond_signal(&queue->changed);
    pthread_mutex_unlock(&queue->mutex);
}
