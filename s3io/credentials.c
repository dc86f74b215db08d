#include "s3io/credentials.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

struct s3_credentials {
    const struct s3_config *config;
    struct s3_metadata *metadata; /* made and used by the thread that fetches */
    char *file_source, *config_source;

    pthread_mutex_t mutex; /* guards all that follows */
    pthread_cond_t fetched;
    bool fetching;             /* one thread is at it */
    unsigned long fetch_count; /* that ended */
    int rc;                    /* of the last one, with err */
    struct err err;

    enum s3_chain_place place; /* S3_CHAIN_NOWHERE: no keys at hand */
    struct s3_keys keys;
    bool refused;      /* by the server */
    bool came_expired; /* by this host's clock, which may be wrong: the server judges */
    double ahead_at_s; /* (clock_now_s) when the next fetch ahead of time is due */
};

static char *join(const char *head, const char *profile, const char *tail)
{
    const size_t chars = strlen(head) + strlen(profile) + strlen(tail) + 1;
    char *out = malloc(chars);

    if (out == NULL)
        abort();
    snprintf(out, chars, "%s%s%s", head, profile, tail);
    return out;
}

struct s3_credentials *s3_credentials_new(const struct s3_config *config)
{
    struct s3_credentials *c = calloc(1, sizeof *c);

    if (c == NULL)
        abort();
    c->config = config;
    c->file_source = join("profile '", config->profile, "' in the credentials file");
    c->config_source = join("profile '", config->profile, "' in the config file");
    pthread_mutex_init(&c->mutex, NULL);
    pthread_cond_init(&c->fetched, NULL);
    return c;
}

void s3_credentials_free(struct s3_credentials *credentials)
{
    if (credentials == NULL)
        return;
    s3_metadata_free(credentials->metadata);
    s3_keys_release(&credentials->keys);
    pthread_mutex_destroy(&credentials->mutex);
    pthread_cond_destroy(&credentials->fetched);
    free(credentials->file_source);
    free(credentials->config_source);
    free(credentials);
}

static bool is_usable(const struct s3_credentials *c)
{
    return c->place != S3_CHAIN_NOWHERE && !c->refused &&
           (c->keys.expires_s == 0 || c->came_expired || clock_wall_s() < c->keys.expires_s);
}

static bool is_fetch_due(const struct s3_credentials *c)
{
    if (!is_usable(c))
        return true;
    return c->keys.expires_s != 0 && clock_wall_s() >= c->keys.expires_s - S3_REFRESH_AHEAD_S &&
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

static void install(struct s3_credentials *c, struct s3_keys *keys, enum s3_chain_place place)
{
    s3_keys_release(&c->keys);
    c->keys = *keys;
    c->place = place;
    c->refused = false;
    c->came_expired = keys->expires_s != 0 && keys->expires_s <= clock_wall_s();
    if (c->came_expired)
        log_warn("the keys from %s have expired already, or this host's clock is ahead",
                 place == S3_CHAIN_CONTAINER ? "the container endpoint" : "instance metadata");
    set_pause(c);
}

/* Called with the mutex held; lets go of it while it fetches. */
static void fetch(struct s3_credentials *c)
{
    const enum s3_chain_place before = c->place;
    enum s3_chain_place place = S3_CHAIN_NOWHERE;
    struct s3_keys keys = {0};
    struct err err = {0};
    int rc;

    c->fetching = true;
    pthread_mutex_unlock(&c->mutex);
    if (c->metadata == NULL)
        c->metadata = s3_metadata_new();
    rc = s3_chain_fetch(c->config, c->metadata, before, &keys, &place, &err);
    pthread_mutex_lock(&c->mutex);
    c->fetching = false;
    c->fetch_count++;
    c->rc = rc;
    c->err = err;
    if (rc == 0) {
        install(c, &keys, place);
    } else if (is_usable(c)) {
        set_pause(c);
        log_warn("cannot fetch new credentials, going on with those at hand: %s", err.msg);
    }
    pthread_cond_broadcast(&c->fetched);
}

/* Called with the mutex held: the end of the fetch that another thread is at. */
static void wait_for_fetch(struct s3_credentials *c)
{
    const unsigned long count = c->fetch_count;

    while (c->fetch_count == count)
        pthread_cond_wait(&c->fetched, &c->mutex);
}

int s3_credentials_get(struct s3_credentials *credentials, struct s3_keys *keys, struct err *err)
{
    struct s3_credentials *c = credentials;
    int rc = 1;

    pthread_mutex_lock(&c->mutex);
    while (rc == 1) {
        /* Those who find a fetch under way share its end, be it a failure: a hundred threads do not
         * ask a source that is down one after the other. */
        if (!c->fetching && is_fetch_due(c))
            fetch(c);
        else if (!is_usable(c))
            wait_for_fetch(c);
        if (is_usable(c)) {
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
    const char *source = "nowhere";

    pthread_mutex_lock(&c->mutex);
    switch (c->place) {
    case S3_CHAIN_NOWHERE:
        break;
    case S3_CHAIN_ENVIRONMENT:
        source = "the environment";
        break;
    case S3_CHAIN_CREDENTIALS_FILE:
        source = c->file_source;
        break;
    case S3_CHAIN_CONFIG_FILE:
        source = c->config_source;
        break;
    case S3_CHAIN_CONTAINER:
        source = "the container endpoint";
        break;
    case S3_CHAIN_METADATA:
        source = "instance metadata";
        break;
    }
    pthread_mutex_unlock(&c->mutex);
    return source;
}
