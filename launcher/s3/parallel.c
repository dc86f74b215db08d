#include "launcher/s3/parallel.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "base/err.h"

#define THREADS_MAX 64

struct state {
    const struct launch_parallel *parallel;
    pthread_mutex_t mutex; /* guards what follows */
    size_t next;
    bool failed;
    struct err err; /* of the first failure */
};

static void fail(struct state *state, const struct err *err)
{
    pthread_mutex_lock(&state->mutex);
    if (!state->failed)
        state->err = *err;
    state->failed = true;
    pthread_mutex_unlock(&state->mutex);
    __atomic_store_n(state->parallel->cancel, 1, __ATOMIC_RELAXED); /* requests look at it */
}

static bool take(struct state *state, size_t *index)
{
    bool taken;

    pthread_mutex_lock(&state->mutex);
    taken = state->next < state->parallel->count &&
            __atomic_load_n(state->parallel->cancel, __ATOMIC_RELAXED) == 0;
    if (taken)
        *index = state->next++;
    pthread_mutex_unlock(&state->mutex);
    return taken;
}

static void *run(void *argument)
{
    struct state *const state = argument;
    size_t index;

    while (take(state, &index)) {
        struct err err = {0};

        if (state->parallel->work(state->parallel->context, index, &err) < 0)
            fail(state, &err);
    }
    return NULL;
}

int launch_s3_parallel_run(const struct launch_parallel *parallel, struct err *err)
{
    struct state state = {.parallel = parallel, .mutex = PTHREAD_MUTEX_INITIALIZER};
    pthread_t threads[THREADS_MAX];
    int started = 0;

    assert(parallel->threads >= 1 && parallel->threads <= THREADS_MAX);
    /* This thread is one of them: where no more can be started, the work is still done. */
    while (started < parallel->threads - 1 && (size_t)started + 1 < parallel->count &&
           pthread_create(&threads[started], NULL, run, &state) == 0)
        started++;
    run(&state);
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&state.mutex);
    if (state.failed) {
        *err = state.err;
        return -1;
    }
    if (state.next < parallel->count)
        return err_set(err, ERR_STOPPED, "stopped");
    return 0;
}
