#include "base/trace.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/trace_pack.h"

struct ring {
    struct ring *next;
    char name[TRACE_THREAD_CHARS];
    char given[TRACE_THREAD_CHARS]; /* the name without a number */
    bool taken;                     /* by a thread that has not ended */
    uint64_t written;               /* spans, those that were overwritten too */
    size_t capacity;
    struct trace_span *spans; /* the newest is at (written - 1) % capacity; NULL: no memory */
};

struct word {
    struct word *next;
    char text[];
};

bool trace_on;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards all below, and ring.taken */
static struct ring *rings;                                /* in the order of their making */
static struct word *words;
static size_t capacity;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t ends;             /* its destructor tells that a thread has ended */
static _Thread_local struct ring *own; /* NULL: none yet */

static void let_go(void *argument)
{
    struct ring *const ring = argument;

    pthread_mutex_lock(&mutex);
    ring->taken = false;
    pthread_mutex_unlock(&mutex);
}

static void make_key(void)
{
    if (pthread_key_create(&ends, let_go) != 0)
        abort();
}

void trace_start(size_t spans_per_thread)
{
    assert(!trace_on && spans_per_thread > 0);
    pthread_once(&once, make_key);
    capacity = spans_per_thread;
    trace_on = true;
}

void trace_stop(void)
{
    trace_on = false;
}

void trace_release(void)
{
    trace_on = false;
    if (own != NULL)
        pthread_setspecific(ends, NULL);
    own = NULL;
    while (rings != NULL) {
        struct ring *const ring = rings;

        rings = ring->next;
        free(ring->spans);
        free(ring);
    }
}

/* Under the mutex. */
static struct ring *make_ring(const char *name, int number)
{
    struct ring *const ring = calloc(1, sizeof *ring), **end = &rings;

    if (ring == NULL)
        abort();
    snprintf(ring->given, sizeof ring->given, "%.*s", TRACE_THREAD_CHARS - 8, name);
    if (number == 1)
        snprintf(ring->name, sizeof ring->name, "%s", ring->given);
    else
        snprintf(ring->name, sizeof ring->name, "%.*s %d", TRACE_THREAD_CHARS - 8, name,
                 number % 100000);
    ring->capacity = capacity;
    ring->spans = malloc(capacity * sizeof *ring->spans);
    while (*end != NULL)
        end = &(*end)->next;
    *end = ring;
    return ring;
}

void trace_thread(const char *name)
{
    struct ring *ring;
    int number = 1;

    if (!trace_on)
        return;
    pthread_mutex_lock(&mutex);
    if (own != NULL)
        own->taken = false;
    for (ring = rings; ring != NULL; ring = ring->next) {
        const bool alike = strncmp(ring->given, name, TRACE_THREAD_CHARS - 8) == 0;

        if (alike && !ring->taken)
            break;
        number += alike;
    }
    if (ring == NULL)
        ring = make_ring(name, number);
    ring->taken = true;
    pthread_mutex_unlock(&mutex);
    own = ring;
    if (pthread_setspecific(ends, ring) != 0)
        abort();
}

const char *trace_intern(const char *text)
{
    struct word *word;

    pthread_mutex_lock(&mutex);
    for (word = words; word != NULL && strcmp(word->text, text) != 0;)
        word = word->next;
    if (word == NULL) {
        const size_t bytes = strlen(text) + 1;

        word = malloc(sizeof *word + bytes);
        if (word == NULL)
            abort();
        memcpy(word->text, text, bytes);
        word->next = words;
        words = word;
    }
    pthread_mutex_unlock(&mutex);
    return word->text;
}

void trace_put(const struct trace_span *span)
{
    struct trace_span *at;

    if (!trace_on)
        return;
    if (own == NULL)
        trace_thread("thread");
    if (own->spans != NULL) {
        at = &own->spans[own->written % own->capacity];
        *at = *span;
        if (at->ended_s <= 0)
            at->ended_s = clock_now_s();
    }
    own->written++;
}

double trace_begin(void)
{
    return trace_on ? clock_now_s() : 0;
}

void trace_end(const char *category, const char *name, double begun_s)
{
    if (trace_on)
        trace_put(&(struct trace_span){.category = category, .name = name, .begun_s = begun_s});
}

static uint64_t kept(const struct ring *ring)
{
    if (ring->spans == NULL)
        return 0;
    return ring->written < ring->capacity ? ring->written : ring->capacity;
}

int trace_take(struct buf *out, struct err *err)
{
    struct trace_packer packer = {.out = out};
    size_t threads = 0, spans = 0;
    int rc;

    pthread_mutex_lock(&mutex);
    for (const struct ring *ring = rings; ring != NULL; ring = ring->next) {
        threads++;
        spans += kept(ring);
    }
    rc = trace_packer_begin(&packer, threads, spans, err);
    for (const struct ring *ring = rings; ring != NULL && rc == 0; ring = ring->next) {
        const uint64_t count = kept(ring);

        trace_packer_thread(&packer, ring->name, ring->written - count, count);
        for (uint64_t i = ring->written - count; i < ring->written; i++)
            trace_packer_span(&packer, &ring->spans[i % ring->capacity]);
    }
    pthread_mutex_unlock(&mutex);
    if (rc == 0)
        trace_packer_end(&packer);
    return rc;
}
