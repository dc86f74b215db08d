#include "s3io/credentials.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "s3io/chain.h"
#include "s3io/config.h"
#include "s3io/keys.h"
#include "s3io/metadata.h"

/* While keys at hand are still valid a new fetch is tried at most so often: a source may hand out
 * the same ones until shortly before they end (instance metadata does until 5 minutes before). */
#define PAUSE_MIN_S 0.5
#define PAUSE_MAX_S 60.0
#define SLICE_NS    100000000 /* between two looks at whether who waits is cancelled */

struct s3_credentials {
    const struct s3_config *config;
    struct s3_metadata *metadata;   /* made and used by the thread that fetches */
    char *sources[S3_CHAIN_PLACES]; /* their names */
    volatile sig_atomic_t ending;   /* ends a fetch */

    pthread_mutex_t mutex; /* guards all that follows */
    pthread_cond_t fetched;
    pthread_t thread;
    bool started;              /* it is to be joined */
    bool fetching;             /* it is at it */
    unsigned long fetch_count; /* that ended */
    int rc;                    /* of the last one, with err */
    struct err err;

    enum s3_chain_place place; /* S3_CHAIN_NOWHERE: no keys at hand */
    struct s3_keys keys;
    bool refused;      /* by the server */
    bool came_expired; /* by this host's clock, which may be wrong: the server judges */
    double ahead_s;    /* so long before they end new ones are fetched */
    double ahead_at_s; /* (clock_now_s) when the next fetch ahead of time is due */
};

struct s3_credentials *s3_credentials_new(const struct s3_config *config)
{
    struct s3_credentials *c = calloc(1, sizeof *c);
    pthread_condattr_t monotonic;

    if (c == NULL)
        abort();
    c->config = config;
    for (int place = 0; place < S3_CHAIN_PLACES; place++)
        c->sources[place] = s3_chain_name((enum s3_chain_place)place, config->profile);
    pthread_mutex_init(&c->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&c->fetched, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return c;
}

void s3_credentials_free(struct s3_credentials *credentials)
{
    if (credentials == NULL)
        return;
    __atomic_store_n(&credentials->ending, 1, __ATOMIC_RELAXED);
    if (credentials->started)
        pthread_join(credentials->thread, NULL);
    s3_metadata_free(credentials->metadata);
    s3_keys_release(&credentials->keys);
    pthread_mutex_destroy(&credentials->mutex);
    pthread_cond_destroy(&credentials->fetched);
    for (int place = 0; place < S3_CHAIN_PLACES; place++)
        free(credentials->sources[place]);
    free(credentials);
}

static bool is_usable(const struct s3_credentials *c)
{
    return c->place != S3_CHAIN_NOWHERE && !c->refused &&
           (c->keys.expires_s == 0 || c->came_expired || clock_wall_s() < c->keys.expires_s);
}

/* Of usable ones: whether new ones are to be fetched meanwhile. */
static bool is_renewal_due(const struct s3_credentials *c)
{
    return c->keys.expires_s != 0 && clock_wall_s() >= c->keys.expires_s - c->ahead_s &&
           clock_now_s() >= c->ahead_at_s;
}

/* Not in a row, and more often towards the end. */
static void set_pause(struct s3_credentials *c)
{
    const double left_s = c->keys.expires_s - clock_wall_s();
    double pause_s = left_s > 0 ? left_s / 10 : PAUSE_MAX_S;

    pause_s = pause_s < PAUSE_MIN_S ? PAUSE_MIN_S : pause_s;
    c->ahead_at_s = clock_now_s() + (pause_s > PAUSE_MAX_S ? PAUSE_MAX_S : pause_s);
}

/* STS makes a new session at each call: from one that lives less than an hour, no four calls. Other
 * sources may hand out the same keys until shortly before they end. */
static void set_ahead(struct s3_credentials *c)
{
    const double share_s = (c->keys.expires_s - clock_wall_s()) / 4;
    const bool is_new = c->place == S3_CHAIN_ROLE || c->place == S3_CHAIN_WEB_IDENTITY;

    c->ahead_s =
        is_new && share_s > 0 && share_s < S3_REFRESH_AHEAD_S ? share_s : S3_REFRESH_AHEAD_S;
}

static void install(struct s3_credentials *c, struct s3_keys *keys, enum s3_chain_place place)
{
    s3_keys_release(&c->keys);
    c->keys = *keys;
    c->place = place;
    c->refused = false;
    c->came_expired = keys->expires_s != 0 && keys->expires_s <= clock_wall_s();
    if (c->came_expired)
        log_warn("the keys from %s have expired already, or this host's clock is ahead",
                 c->sources[place]);
    set_ahead(c);
    set_pause(c);
}

static void *fetch(void *context)
{
    struct s3_credentials *const c = context;
    struct s3_chain_ask ask = {.config = c->config, .cancel = &c->ending};
    enum s3_chain_place place = S3_CHAIN_NOWHERE;
    struct s3_keys keys = {0};
    struct err err = {0};
    int rc;

    pthread_mutex_lock(&c->mutex);
    if (c->metadata == NULL)
        c->metadata = s3_metadata_new(&c->ending);
    ask.metadata = c->metadata;
    ask.before = c->place;
    ask.ahead = is_usable(c);
    pthread_mutex_unlock(&c->mutex);
    rc = s3_chain_fetch(&ask, &keys, &place, &err);
    pthread_mutex_lock(&c->mutex);
    c->fetching = false;
    c->fetch_count++;
    c->rc = rc;
    c->err = err;
    if (rc == 0) {
        install(c, &keys, place);
    } else if (is_usable(c)) {
        set_pause(c);
        if (err.code != ERR_STOPPED)
            log_warn("cannot fetch new credentials, going on with those at hand: %s", err.msg);
    }
    pthread_cond_broadcast(&c->fetched);
    pthread_mutex_unlock(&c->mutex);
    return NULL;
}

/* Called with the mutex held, which the thread before has let go of for good. Who asks need not
 * wait for it, and may be cancelled while others go on waiting. Where no thread can be had, here.
 */
static void fetch_begin(struct s3_credentials *c)
{
    sigset_t all, before;

    if (c->started)
        pthread_join(c->thread, NULL);
    c->fetching = true;
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    c->started = pthread_create(&c->thread, NULL, fetch, c) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (c->started)
        return;
    pthread_mutex_unlock(&c->mutex);
    fetch(c);
    pthread_mutex_lock(&c->mutex);
}

/* Who waits, and for how long. */
struct patience {
    const volatile sig_atomic_t *cancel; /* may be NULL */
    double until_s;                      /* (clock_now_s); 0: for ever */
};

static bool is_over(const struct patience *patience)
{
    return (patience->cancel != NULL && __atomic_load_n(patience->cancel, __ATOMIC_RELAXED)) ||
           (patience->until_s > 0 && clock_now_s() >= patience->until_s);
}

/* Called with the mutex held: the end of the fetch that is under way, if one is. False: that is too
 * long. */
static bool wait_for_fetch(struct s3_credentials *c, unsigned long count,
                           const struct patience *patience)
{
    while (c->fetching && c->fetch_count == count) {
        struct timespec until;

        if (is_over(patience))
            return false;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += SLICE_NS;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&c->fetched, &c->mutex, &until);
    }
    return true;
}

static int get(struct s3_credentials *c, const struct patience *patience, struct s3_keys *keys,
               struct err *err)
{
    int rc = 1;

    pthread_mutex_lock(&c->mutex);
    while (rc == 1) {
        /* Those who find a fetch under way share its end, be it a failure: a hundred threads do not
         * ask a source that is down one after the other. */
        const unsigned long count = c->fetch_count;
        const bool usable = is_usable(c); /* once: they may end between two looks at the clock */

        if (!c->fetching && (!usable || is_renewal_due(c)))
            fetch_begin(c);
        if (!usable && !wait_for_fetch(c, count, patience)) {
            rc = err_set(err, ERR_STOPPED, "stopped while waiting for credentials");
        } else if (usable || is_usable(c)) {
            s3_keys_copy(keys, &c->keys);
            rc = 0;
        } else if (c->rc < 0) {
            if (err != NULL)
                *err = c->err;
            rc = -1;
        } /* else fetched, and refused before this thread woke up: once more */
    }
    pthread_mutex_unlock(&c->mutex);
    return rc;
}

int s3_credentials_get(struct s3_credentials *credentials, const volatile sig_atomic_t *cancel,
                       struct s3_keys *keys, struct err *err)
{
    return get(credentials, &(struct patience){.cancel = cancel}, keys, err);
}

int s3_credentials_get_within(struct s3_credentials *credentials, double limit_s,
                              struct s3_keys *keys, struct err *err)
{
    return get(credentials, &(struct patience){.until_s = clock_now_s() + limit_s}, keys, err);
}

void s3_credentials_refused(struct s3_credentials *credentials, const struct s3_keys *keys)
{
    struct s3_credentials *c = credentials;

    pthread_mutex_lock(&c->mutex);
    if (c->place != S3_CHAIN_NOWHERE && s3_keys_equal(&c->keys, keys))
        c->refused = true;
    pthread_mutex_unlock(&c->mutex);
}

const char *s3_credentials_source(struct s3_credentials *credentials)
{
    struct s3_credentials *c = credentials;
    const char *source;

    pthread_mutex_lock(&c->mutex);
    source = c->sources[c->place];
    pthread_mutex_unlock(&c->mutex);
    return source;
}
