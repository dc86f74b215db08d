#include "trainer/data/set/shard_queue.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/err.h"

/* What a thread has read, until it is taken. */
struct slot {
    struct data_shard shard;
    bool done;
    int rc;
    struct err err;
};

struct data_shard_queue {
    data_shard_queue_read *read;
    void *context;
    size_t count, depth;
    pthread_t *threads;
    int running;

    pthread_mutex_t mutex; /* guards all below */
    pthread_cond_t room, arrived;
    struct slot *slots; /* (depth) of shard i: i % depth */
    size_t begun, taken;
    bool stop;
};

/* Under the mutex: the next number to read; false at the end. */
static bool take_number(struct data_shard_queue *queue, size_t *number)
{
    while (!queue->stop && queue->begun < queue->count &&
           queue->begun >= queue->taken + queue->depth)
        pthread_cond_wait(&queue->room, &queue->mutex);
    if (queue->stop || queue->begun == queue->count)
        return false;
    *number = queue->begun++;
    return true;
}

static void *work(void *argument)
{
    struct data_shard_queue *const queue = argument;
    size_t number;

    pthread_mutex_lock(&queue->mutex);
    while (take_number(queue, &number)) {
        struct slot *const slot = &queue->slots[number % queue->depth];

        pthread_mutex_unlock(&queue->mutex);
        slot->rc = queue->read(queue->context, number, &slot->shard, &slot->err);
        pthread_mutex_lock(&queue->mutex);
        slot->done = true;
        queue->stop = queue->stop || slot->rc < 0;
        pthread_cond_broadcast(&queue->arrived);
    }
    pthread_cond_broadcast(&queue->arrived);
    pthread_mutex_unlock(&queue->mutex);
    return NULL;
}

/* Signals are for the main thread. Returns why there are not all threads, 0 where there are. */
static int start_threads(struct data_shard_queue *queue, int threads)
{
    sigset_t all, before;
    int rc = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (rc == 0 && queue->running < threads) {
        rc = pthread_create(&queue->threads[queue->running], NULL, work, queue);
        queue->running += rc == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

struct data_shard_queue *data_shard_queue_new(size_t count, data_shard_queue_read *read,
                                              void *context, struct err *err)
{
    const int threads = count < DATA_SHARD_QUEUE_THREADS ? (int)count : DATA_SHARD_QUEUE_THREADS;
    struct data_shard_queue *const queue = calloc(1, sizeof *queue);
    int rc;

    if (queue == NULL)
        abort();
    *queue = (struct data_shard_queue){
        .read = read, .context = context, .count = count, .depth = 2 * (size_t)threads + 1};
    queue->threads = calloc((size_t)threads + 1, sizeof *queue->threads);
    queue->slots = calloc(queue->depth, sizeof *queue->slots);
    if (queue->threads == NULL || queue->slots == NULL)
        abort();
    pthread_mutex_init(&queue->mutex, NULL);
    pthread_cond_init(&queue->room, NULL);
    pthread_cond_init(&queue->arrived, NULL);
    rc = start_threads(queue, threads);
    if (rc == 0 || queue->running > 0)
        return queue;
    err_set_errno(err, ERR_MEMORY, rc, "cannot start a thread that reads indexes of shards");
    data_shard_queue_free(queue);
    return NULL;
}

int data_shard_queue_next(struct data_shard_queue *queue, struct data_shard *shard, struct err *err)
{
    struct slot *slot;
    int rc;

    assert(queue->taken < queue->count);
    slot = &queue->slots[queue->taken % queue->depth];
    pthread_mutex_lock(&queue->mutex);
    while (!slot->done) /* what was begun before a failure ends, and no number before it is left */
        pthread_cond_wait(&queue->arrived, &queue->mutex);
    rc = slot->rc;
    if (rc < 0 && err != NULL)
        *err = slot->err;
    if (rc == 0) {
        *shard = slot->shard;
        *slot = (struct slot){0};
        queue->taken++;
        pthread_cond_signal(&queue->room);
    }
    pthread_mutex_unlock(&queue->mutex);
    return rc;
}

void data_shard_queue_free(struct data_shard_queue *queue)
{
    if (queue == NULL)
        return;
    pthread_mutex_lock(&queue->mutex);
    queue->stop = true;
    pthread_cond_broadcast(&queue->room);
    pthread_mutex_unlock(&queue->mutex);
    for (int i = 0; i < queue->running; i++)
        pthread_join(queue->threads[i], NULL);
    for (size_t i = 0; i < queue->depth; i++)
        data_shard_release(&queue->slots[i].shard);
    pthread_mutex_destroy(&queue->mutex);
    pthread_cond_destroy(&queue->room);
    pthread_cond_destroy(&queue->arrived);
    free(queue->threads);
    free(queue->slots);
    free(queue);
}
