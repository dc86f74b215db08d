#include "s3io/client.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/text.h"
#include "s3io/credentials.h"
#include "s3io/metadata.h"
#include "s3io/request.h"

#define STALL_S        20.0
#define LAST_KEYS_S    5.0
#define REGION_DEFAULT "us-east-1"

struct s3_bucket {
    struct s3_bucket *next;
    char *name;
    char *region; /* NULL: the client's */
    char *origin; /* "https://HOST[:PORT]"; NULL: the client's */
    bool seen;
};

int s3_client_open(struct s3_client **client, const struct s3_client_options *options,
                   struct err *err)
{
    struct s3_client *new = calloc(1, sizeof *new);
    struct s3_http_options http = {0};

    if (new == NULL)
        abort();
    if (s3_config_read(&new->config, options, err) < 0) {
        s3_config_release(&new->config);
        free(new);
        return -1;
    }
    http.ca_bundle = new->config.ca_bundle;
    new->http = s3_http_new(&http);
    new->credentials = s3_credentials_new(&new->config);
    new->cancel = options == NULL ? NULL : options->cancel;
    new->backoff_s = S3_BACKOFF_S;
    new->backoff_max_s = S3_BACKOFF_MAX_S;
    new->patience_s =
        options != NULL && options->patience_s > 0 ? options->patience_s : S3_PATIENCE_S;
    new->stall_s = STALL_S;
    new->last_keys_s = LAST_KEYS_S;
    new->region = text_copy(new->config.region);
    s3_hedge_init(&new->hedge);
    s3_sign_cache_init(&new->signing);
    pthread_mutex_init(&new->mutex, NULL);
    *client = new;
    return 0;
}

void s3_client_close(struct s3_client *client)
{
    if (client == NULL)
        return;
    while (client->buckets != NULL) {
        struct s3_bucket *bucket = client->buckets;

        client->buckets = bucket->next;
        free(bucket->name);
        free(bucket->region);
        free(bucket->origin);
        free(bucket);
    }
    free(client->region);
    s3_http_free(client->http);
    s3_credentials_free(client->credentials);
    s3_config_release(&client->config);
    s3_hedge_release(&client->hedge);
    s3_sign_cache_release(&client->signing);
    pthread_mutex_destroy(&client->mutex);
    free(client);
}

/* With the mutex held. */
static struct s3_bucket *bucket_find(struct s3_client *client, const char *name)
{
    struct s3_bucket *bucket = client->buckets;

    while (bucket != NULL && strcmp(bucket->name, name) != 0)
        bucket = bucket->next;
    return bucket;
}

static struct s3_bucket *bucket_make(struct s3_client *client, const char *name)
{
    struct s3_bucket *bucket = bucket_find(client, name);

    if (bucket == NULL) {
        bucket = calloc(1, sizeof *bucket);
        if (bucket == NULL)
            abort();
        bucket->name = text_copy(name);
        bucket->next = client->buckets;
        client->buckets = bucket;
    }
    return bucket;
}

/* Where nothing names a region: the one that this host is in. An endpoint of somebody's own knows
 * no regions. */
static char *region_find(const struct s3_client *client)
{
    struct s3_metadata *metadata = NULL;
    char *region = NULL;

    if (client->config.endpoint == NULL) {
        metadata = s3_metadata_new(client->cancel);
        region = s3_metadata_region(metadata);
    }
    s3_metadata_free(metadata);
    return region != NULL ? region : text_copy(REGION_DEFAULT);
}

char *s3_client_region(struct s3_client *client, const char *name)
{
    struct s3_bucket *bucket;
    char *region = NULL;
    bool known;

    pthread_mutex_lock(&client->mutex);
    known = client->region != NULL;
    pthread_mutex_unlock(&client->mutex);
    if (!known) /* which may take seconds; two who ask at the same time hear the same */
        region = region_find(client);
    pthread_mutex_lock(&client->mutex);
    bucket = bucket_find(client, name);
    if (client->region == NULL)
        client->region = region;
    else
        free(region);
    region = text_copy(bucket != NULL && bucket->region != NULL ? bucket->region : client->region);
    pthread_mutex_unlock(&client->mutex);
    return region;
}

char *s3_client_origin(struct s3_client *client, const char *name)
{
    struct s3_bucket *bucket;
    char *origin;

    pthread_mutex_lock(&client->mutex);
    bucket = bucket_find(client, name);
    origin = text_copy(bucket != NULL ? bucket->origin : NULL);
    pthread_mutex_unlock(&client->mutex);
    return origin;
}

void s3_client_learn_place(struct s3_client *client, const char *name, const char *region,
                           const char *origin)
{
    struct s3_bucket *bucket;

    pthread_mutex_lock(&client->mutex);
    bucket = bucket_make(client, name);
    free(bucket->region);
    bucket->region = text_copy(region);
    if (origin != NULL) {
        free(bucket->origin);
        bucket->origin = text_copy(origin);
    }
    pthread_mutex_unlock(&client->mutex);
}

bool s3_client_bucket_seen(struct s3_client *client, const char *name)
{
    struct s3_bucket *bucket;
    bool seen;

    pthread_mutex_lock(&client->mutex);
    bucket = bucket_find(client, name);
    seen = bucket != NULL && bucket->seen;
    pthread_mutex_unlock(&client->mutex);
    return seen;
}

void s3_client_see_bucket(struct s3_client *client, const char *name)
{
    pthread_mutex_lock(&client->mutex);
    bucket_make(client, name)->seen = true;
    pthread_mutex_unlock(&client->mutex);
}

void s3_client_stats(struct s3_client *client, struct s3_client_stats *stats)
{
    pthread_mutex_lock(&client->mutex);
    *stats = client->stats;
    pthread_mutex_unlock(&client->mutex);
}

/* The process's own client. */
static struct {
    pthread_mutex_t mutex; /* guards the rest */
    struct s3_client *client;
    struct s3_client_options options;
    char *texts[5]; /* the options' own copies */
} shared = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void shared_texts_free(void)
{
    for (size_t i = 0; i < sizeof shared.texts / sizeof *shared.texts; i++) {
        free(shared.texts[i]);
        shared.texts[i] = NULL;
    }
}

void s3_client_configure(const struct s3_client_options *options)
{
    pthread_mutex_lock(&shared.mutex);
    shared_texts_free();
    shared.options =
        (struct s3_client_options){.cancel = options->cancel, .patience_s = options->patience_s};
    shared.options.profile = shared.texts[0] = text_copy(options->profile);
    shared.options.region = shared.texts[1] = text_copy(options->region);
    shared.options.endpoint = shared.texts[2] = text_copy(options->endpoint);
    shared.options.sse = shared.texts[3] = text_copy(options->sse);
    shared.options.sse_key_id = shared.texts[4] = text_copy(options->sse_key_id);
    pthread_mutex_unlock(&shared.mutex);
}

struct s3_client *s3_client_shared(struct err *err)
{
    struct s3_client *client;

    pthread_mutex_lock(&shared.mutex);
    if (shared.client == NULL && s3_client_open(&shared.client, &shared.options, err) < 0)
        shared.client = NULL;
    client = shared.client;
    pthread_mutex_unlock(&shared.mutex);
    return client;
}

void s3_client_shared_close(void)
{
    pthread_mutex_lock(&shared.mutex);
    s3_client_close(shared.client);
    shared.client = NULL;
    shared_texts_free();
    shared.options = (struct s3_client_options){0};
    pthread_mutex_unlock(&shared.mutex);
}
