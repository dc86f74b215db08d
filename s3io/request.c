#include "s3io/request.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "s3io/address.h"
#include "s3io/backoff.h"
#include "s3io/credentials.h"
#include "s3io/xml.h"

#define HOPS_MAX         2 /* redirects followed */
#define OWN_HEADERS      7 /* host, date, payload, token, authorization, user agent; a probe's range */
#define KEY_BYTES_MAX    1024
#define BUCKET_CHARS_MAX 255
#define EMPTY_SHA256     "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* What one try sends. */
struct shot {
    const char *method;
    struct s3_keys keys;
    struct s3_address address;
    struct buf url, authorization;
    char time[S3_SIGN_TIME_CHARS];
    struct s3_pair headers[S3_REQUEST_HEADERS_MAX + OWN_HEADERS];
    size_t header_count;
};

/* Where the body of an answer goes, counted on its way. */
struct tap {
    const struct s3_request *request;
    void *context; /* of the request's sink */
    unsigned long long bytes;
};

void s3_tries_release(struct s3_tries *tries)
{
    s3_http_answer_release(&tries->answer);
    free(tries->payload_sha256);
    free(tries->origin);
    free(tries->region);
    *tries = (struct s3_tries){0};
}

static void shot_release(struct shot *shot)
{
    s3_keys_release(&shot->keys);
    s3_address_release(&shot->address);
    buf_release(&shot->url);
    buf_release(&shot->authorization);
}

static void shot_header(struct shot *shot, const char *name, const char *value)
{
    assert(shot->header_count < sizeof shot->headers / sizeof *shot->headers);
    shot->headers[shot->header_count++] = (struct s3_pair){.name = name, .value = value};
}

/* What holds for all tries: the hash of the body is computed once. */
static void tries_begin(struct s3_client *client, const struct s3_request *request,
                        struct s3_tries *tries)
{
    unsigned char sha[DIGEST_SHA256_BYTES];
    char hex[DIGEST_HEX_CHARS] = EMPTY_SHA256;

    if (tries->payload_sha256 == NULL) {
        if (request->unsigned_body) {
            snprintf(hex, sizeof hex, "UNSIGNED-PAYLOAD");
        } else if (request->body_bytes > 0) {
            digest_sha256(request->body, request->body_bytes, sha);
            digest_hex(sha, hex);
        }
        tries->payload_sha256 = text_copy(hex);
    }
    if (tries->region == NULL) {
        tries->region = s3_client_region(client, request->bucket);
        tries->origin = s3_client_origin(client, request->bucket);
        tries->origin_stays = tries->origin != NULL;
    }
}

static int names_check(const struct s3_request *request, struct err *err)
{
    const size_t bucket = strlen(request->bucket);
    const size_t key = request->key == NULL ? 1 : strlen(request->key);

    if (bucket == 0 || bucket > BUCKET_CHARS_MAX || strchr(request->bucket, '/') != NULL)
        return err_set(err, ERR_INPUT, "'%.64s' cannot be the name of a bucket", request->bucket);
    if (key == 0 || key > KEY_BYTES_MAX)
        return err_set(err, ERR_INPUT, "a key has 1 to %d bytes, this one %zu", KEY_BYTES_MAX, key);
    return 0;
}

static const volatile sig_atomic_t *cancel_of(const struct s3_client *client,
                                              const struct s3_request *request)
{
    if (request->ignore_cancel)
        return NULL;
    return request->cancel != NULL ? request->cancel : client->cancel;
}

/* Who is to stop does not wait for a process or for STS until these are through. */
static int keys_get(struct s3_client *client, const struct s3_request *request,
                    struct s3_keys *keys, struct err *err)
{
    if (request->ignore_cancel)
        return s3_credentials_get_within(client->credentials, client->last_keys_s, keys, err);
    return s3_credentials_get(client->credentials, cancel_of(client, request), keys, err);
}

/* Address, headers and signature of one try. */
static int shot_load(struct shot *shot, struct s3_client *client, const struct s3_request *request,
                     struct s3_tries *tries, struct err *err)
{
    struct s3_sign sign;

    if (keys_get(client, request, &shot->keys, err) < 0)
        return -1;
    pthread_mutex_lock(&client->mutex);
    tries->signed_s = clock_wall_s() + client->clock_ahead_s;
    pthread_mutex_unlock(&client->mutex);
    s3_sign_time((time_t)tries->signed_s, shot->time);
    s3_address_make(&shot->address, &client->config, tries->region, request->bucket, request->key,
                    tries->origin);
    shot->method = tries->probe ? "GET" : request->method;

    assert(request->header_count <= S3_REQUEST_HEADERS_MAX);
    for (size_t i = 0; i < request->header_count; i++)
        shot_header(shot, request->headers[i].name, request->headers[i].value);
    if (tries->probe)
        shot_header(shot, "range", "bytes=0-0");
    shot_header(shot, "host", buf_text(&shot->address.host));
    shot_header(shot, "x-amz-date", shot->time);
    shot_header(shot, "x-amz-content-sha256", tries->payload_sha256);
    if (shot->keys.token != NULL)
        shot_header(shot, "x-amz-security-token", shot->keys.token);
    sign = (struct s3_sign){.method = shot->method,
                            .path = buf_text(&shot->address.path),
                            .query = request->query,
                            .query_count = request->query_count,
                            .headers = shot->headers,
                            .header_count = shot->header_count,
                            .payload_sha256 = tries->payload_sha256,
                            .region = tries->region,
                            .service = "s3",
                            .cache = &client->signing,
                            .time = (time_t)tries->signed_s};
    s3_sign_request(&sign, &shot->keys, NULL, NULL, &shot->authorization);
    shot_header(shot, "authorization", buf_text(&shot->authorization));
    if (client->config.user_agent != NULL) /* not signed: proxies may change it */
        shot_header(shot, "user-agent", client->config.user_agent);

    buf_printf(&shot->url, "%s%s", buf_text(&shot->address.origin), sign.path);
    if (request->query_count > 0) {
        buf_append(&shot->url, "?", 1);
        s3_sign_query(&shot->url, request->query, request->query_count);
    }
    return 0;
}

static int tap_body(void *context, const struct s3_http_answer *answer, const void *data,
                    size_t bytes)
{
    struct tap *tap = context;

    tap->bytes += bytes;
    return tap->request->sink(tap->context, answer, data, bytes);
}

static void count(struct s3_client *client, const struct s3_request *request,
                  const struct s3_http_answer *answer, unsigned long long bytes_in, bool sent)
{
    pthread_mutex_lock(&client->mutex);
    client->answered |= answer->status != 0;
    client->stats.requests += answer->hedged ? 2 : 1;
    client->stats.hedged += answer->hedged;
    client->stats.bytes_in += bytes_in + answer->body.bytes;
    client->stats.bytes_out += sent ? request->body_bytes : 0;
    pthread_mutex_unlock(&client->mutex);
}

static bool hedge_may(void *context)
{
    return s3_hedge_take(context);
}

static int shot_fire(struct shot *shot, struct s3_client *client, const struct s3_request *request,
                     struct s3_tries *tries, struct err *err)
{
    struct tap tap = {.request = request, .context = request->context};
    struct tap hedge_tap = {.request = request, .context = request->hedge_context};
    const bool may_hedge = request->hedge_context != NULL && !tries->probe;
    const struct s3_http_call call = {
        .method = shot->method,
        .url = buf_text(&shot->url),
        .headers = shot->headers,
        .header_count = shot->header_count,
        .body = request->body,
        .body_bytes = request->body_bytes,
        .stall_s = request->stall_s > 0 ? request->stall_s : client->stall_s,
        .sink = request->sink != NULL && !tries->probe ? tap_body : NULL,
        .context = &tap,
        .hedge_s = may_hedge ? s3_hedge_after_s(&client->hedge, request->bytes) : 0,
        .hedge_may = hedge_may,
        .hedge_may_context = &client->hedge,
        .hedge_context = &hedge_tap,
        .cancel = cancel_of(client, request),
        .stop = request->stop,
    };
    const double begun = clock_now_s();
    const int rc = s3_http_send(client->http, &call, &tries->answer, err);

    if (may_hedge)
        s3_hedge_note(&client->hedge, request->bytes,
                      rc == 0 && tries->answer.status / 100 == 2 ? clock_now_s() - begun : 0);
    if (s3_fault_remedy(&(struct s3_fault){.status = tries->answer.other_status}) == S3_REMEDY_WAIT)
        s3_hedge_quiet(&client->hedge); /* the loser's, which nobody judges */
    count(client, request, &tries->answer, tap.bytes + hedge_tap.bytes, rc == 0);
    return rc;
}

/* Tries in all; 0: nobody set a number. */
static int attempts_of(const struct s3_client *client, const struct s3_request *request)
{
    return request->attempts > 0 ? request->attempts : client->config.attempts;
}

/* By number where somebody set it; else by time, but for who never had an answer from there. */
static bool is_over(struct s3_client *client, const struct s3_request *request,
                    const struct s3_tries *tries)
{
    const int attempts = attempts_of(client, request);
    bool answered;

    if (attempts > 0)
        return tries->count >= attempts;
    pthread_mutex_lock(&client->mutex);
    answered = client->answered;
    pthread_mutex_unlock(&client->mutex);
    return tries->count >= S3_ATTEMPTS &&
           !(answered && clock_now_s() - tries->failing_s < client->patience_s);
}

/* One line for all requests that wait for the same. */
static void say_waiting(struct s3_client *client, const struct s3_request *request,
                        const struct s3_tries *tries, const struct err *err)
{
    const int attempts = attempts_of(client, request);
    const double now = clock_now_s();
    char limit[32];
    bool say = false;

    pthread_mutex_lock(&client->mutex);
    if (tries->count >= S3_ATTEMPTS &&
        (client->patience_said_s == 0 || now - client->patience_said_s >= client->patience_s)) {
        client->patience_said_s = now;
        say = true;
    }
    pthread_mutex_unlock(&client->mutex);
    if (!say)
        return;
    if (attempts > 0)
        snprintf(limit, sizeof limit, "%d times in all", attempts);
    else
        snprintf(limit, sizeof limit, "for up to %g s", client->patience_s);
    log_warn("'%s' is asked for again and again, %s: %s",
             s3_address_name(request->bucket, request->key == NULL ? "" : request->key).text, limit,
             err != NULL ? err->msg : "");
}

int s3_request_again(struct s3_client *client, const struct s3_request *request,
                     struct s3_tries *tries, struct err *err)
{
    double wait_s;

    tries->count++;
    if (tries->failing_s == 0)
        tries->failing_s = clock_now_s();
    if (is_over(client, request, tries))
        return err_wrap(err, "gave up after %d %s", tries->count,
                        tries->count == 1 ? "try" : "tries");
    say_waiting(client, request, tries, err);
    wait_s = fmax(s3_backoff_s(tries->count, client->backoff_s, client->backoff_max_s),
                  tries->fault.retry_after_s);
    log_debug("s3: try %d in %.2f s: %s", tries->count + 1, wait_s, err != NULL ? err->msg : "");
    if (!s3_backoff_wait(wait_s, cancel_of(client, request), request->stop))
        return err_set(err, ERR_STOPPED, "stopped while waiting to try again");
    pthread_mutex_lock(&client->mutex);
    client->stats.retries++;
    pthread_mutex_unlock(&client->mutex);
    return 0;
}

int s3_request_fail(struct s3_client *client, const struct s3_request *request,
                    const struct s3_tries *tries, struct err *err)
{
    struct s3_address address = {0};
    struct s3_fault_place place = {
        .bucket = request->bucket,
        .region = tries->region,
        .permission = request->permission,
        .source = s3_credentials_source(client->credentials),
        .clock_s = clock_wall_s(), /* ours as it is, without what was corrected */
    };

    s3_address_make(&address, &client->config, tries->region, request->bucket, NULL, tries->origin);
    place.host = buf_text(&address.host);
    s3_fault_line(&tries->fault, &place, err);
    s3_address_release(&address);
    return -1;
}

/* No answer came. 0: try again. */
static int judge_failure(struct s3_client *client, const struct s3_request *request,
                         struct s3_tries *tries, struct err *err)
{
    tries->fault = (struct s3_fault){0};
    switch (tries->answer.failure) {
    case S3_HTTP_STALE:
        tries->lost = true;
        if (!tries->stale) { /* a kept connection had been closed: no attempt was made yet */
            tries->stale = true;
            return 0;
        }
        break;
    case S3_HTTP_BROKEN:
        tries->lost = true;
        break;
    case S3_HTTP_CONNECT:
        break;
    case S3_HTTP_ANSWERED:
    case S3_HTTP_CERTIFICATE:
    case S3_HTTP_ABORTED:
    case S3_HTTP_OTHER:
        return -1;
    }
    return s3_request_again(client, request, tries, err);
}

static bool has_scheme(const char *origin, const char *scheme)
{
    return strncmp(origin, scheme, strlen(scheme)) == 0;
}

/* The bucket is in another region or at another host. At AWS the region makes the host, but a 307
 * names a host to use meanwhile; elsewhere the Location is all there is. Never from https to http.
 */
static int follow(struct s3_client *client, const struct s3_request *request,
                  struct s3_tries *tries, const struct shot *shot, struct err *err)
{
    const struct s3_fault *fault = &tries->fault;
    const char *endpoint = client->config.endpoint;
    const bool secure = endpoint == NULL || has_scheme(endpoint, "https:");
    const bool region = fault->region[0] != '\0' && strcmp(fault->region, tries->region) != 0;
    const bool origin = fault->origin[0] != '\0' &&
                        (!secure || has_scheme(fault->origin, "https:")) &&
                        (!region || endpoint != NULL || fault->status == 307);

    if (tries->hops == HOPS_MAX || (!region && !origin))
        return s3_request_fail(client, request, tries, err);
    if (origin && shot->keys.token != NULL && !s3_address_related(fault->origin, endpoint))
        return err_set(err, ERR_INPUT,
                       "the bucket '%s' is said to be at %s, which is no host of %s: the session "
                       "token of the credentials from %s is not sent there; set "
                       "AWS_ENDPOINT_URL_S3=%s if it may be",
                       request->bucket, fault->origin, endpoint != NULL ? endpoint : "AWS",
                       s3_credentials_source(client->credentials), fault->origin);
    tries->hops++;
    if (region) {
        free(tries->region);
        tries->region = text_copy(fault->region);
    }
    if (origin) {
        free(tries->origin);
        tries->origin = text_copy(fault->origin);
        tries->origin_stays = fault->status == 301 || fault->status == 308;
    }
    return 0;
}

/* It was found there. */
static void arrive(struct s3_client *client, const struct s3_request *request,
                   const struct s3_tries *tries)
{
    s3_client_see_bucket(client, request->bucket);
    if (tries->hops > 0)
        s3_client_learn_place(client, request->bucket, tries->region,
                              tries->origin_stays ? tries->origin : NULL);
}

static int set_clock(struct s3_client *client, const struct s3_request *request,
                     struct s3_tries *tries, struct err *err)
{
    if (tries->clock_set || tries->fault.server_s <= 0)
        return s3_request_fail(client, request, tries, err);
    tries->clock_set = true;
    pthread_mutex_lock(&client->mutex);
    client->clock_ahead_s = tries->fault.server_s - clock_wall_s();
    pthread_mutex_unlock(&client->mutex);
    return 0;
}

/* tries->fault says what is wrong. The status, 0 to try again, or -1. */
static int judge_fault(struct s3_client *client, const struct s3_request *request,
                       struct s3_tries *tries, const struct shot *shot, struct err *err)
{
    switch (s3_fault_remedy(&tries->fault)) {
    case S3_REMEDY_WAIT:
        tries->lost = true;
        s3_hedge_quiet(&client->hedge);
        s3_request_fail(client, request, tries, err);
        return s3_request_again(client, request, tries, err);
    case S3_REMEDY_KEYS:
        if (tries->renewed)
            return s3_request_fail(client, request, tries, err);
        tries->renewed = true;
        s3_credentials_refused(client->credentials, &shot->keys);
        return 0;
    case S3_REMEDY_CLOCK:
        return set_clock(client, request, tries, err);
    case S3_REMEDY_ELSEWHERE:
        return follow(client, request, tries, shot, err);
    case S3_REMEDY_CALLER:
        arrive(client, request, tries);
        /* In a 200 it is NoSuchKey or NoSuchUpload that leads here: no success to anybody. */
        return tries->fault.status / 100 == 2 ? 404 : tries->fault.status;
    case S3_REMEDY_NONE:
        break;
    }
    return s3_request_fail(client, request, tries, err);
}

static int root_take(void *context, const char *path, const char *text, struct err *err)
{
    (void)text, (void)err;
    if (strchr(path, '/') == NULL)
        snprintf(context, 64, "%s", path);
    return 0;
}

/* A success with a document: some begin their 200 before they know the end, and an <Error> follows.
 */
static int judge_document(struct s3_client *client, const struct s3_request *request,
                          struct s3_tries *tries, const struct shot *shot, struct err *err)
{
    const struct s3_http_answer *answer = &tries->answer;
    char root[64] = "";

    if (s3_xml_read(answer->body.data, answer->body.bytes, root_take, root, err) < 0) {
        tries->lost = true;
        return s3_request_again(client, request, tries, err);
    }
    if (strcmp(root, request->root) == 0)
        return answer->status;
    s3_fault_read(&tries->fault, answer);
    if (tries->fault.document)
        return judge_fault(client, request, tries, shot, err);
    return err_set(err, ERR_INPUT,
                   "the answer is a document <%s> in the place of <%s>: is this an "
                   "S3 endpoint?",
                   root, request->root);
}

/* The answer to HEAD has no document, so most of what is wrong can only be guessed at: the same by
 * GET, for which the same permission is needed, says it. A missing key in a bucket that is known
 * to be there needs no second question. */
static int judge_head(struct s3_client *client, const struct s3_request *request,
                      struct s3_tries *tries)
{
    if (tries->answer.status == 404 && s3_client_bucket_seen(client, request->bucket))
        return 404;
    tries->probe = true;
    return 0;
}

/* S3 names the bucket's region with any error: where that is the one we asked it is not what is
 * wrong, unless the answer says so. */
static void fault_read(struct s3_tries *tries)
{
    struct s3_fault *const fault = &tries->fault;

    s3_fault_read(fault, &tries->answer);
    if (fault->status == 400 && strcmp(fault->region, tries->region) == 0 &&
        strcmp(fault->code, "AuthorizationHeaderMalformed") != 0)
        fault->region[0] = '\0';
}

/* A 200 that somebody on the way made up, or began and did not go on with. */
static int judge_etag(struct s3_client *client, const struct s3_request *request,
                      struct s3_tries *tries, struct err *err)
{
    char etag[2];

    if (s3_http_header(&tries->answer, "etag", etag, sizeof etag) && etag[0] != '\0')
        return tries->answer.status;
    tries->lost = true;
    err_set(err, ERR_NET, "the answer (HTTP %d) has no ETag, as S3's has", tries->answer.status);
    return s3_request_again(client, request, tries, err);
}

static int judge_answer(struct s3_client *client, const struct s3_request *request,
                        struct s3_tries *tries, const struct shot *shot, struct err *err)
{
    const int status = tries->answer.status;

    if (tries->probe) {
        tries->probe = false;
        fault_read(tries);
        if (status / 100 == 2 || status == 416) { /* it has come to be there meanwhile */
            err_set(err, ERR_NET, "HEAD and GET do not agree");
            return s3_request_again(client, request, tries, err);
        }
        return judge_fault(client, request, tries, shot, err);
    }
    if (status / 100 == 2) {
        arrive(client, request, tries);
        tries->fault = (struct s3_fault){.status = status};
        if (request->etag)
            return judge_etag(client, request, tries, err);
        return request->root == NULL ? status : judge_document(client, request, tries, shot, err);
    }
    if (strcmp(request->method, "HEAD") == 0 && status < 500)
        return judge_head(client, request, tries);
    fault_read(tries);
    return judge_fault(client, request, tries, shot, err);
}

int s3_request_try(struct s3_client *client, const struct s3_request *request,
                   struct s3_tries *tries, struct err *err)
{
    struct shot shot = {0};
    int rc;

    if (names_check(request, err) < 0)
        return -1;
    tries_begin(client, request, tries);
    rc = shot_load(&shot, client, request, tries, err);
    if (rc == 0) {
        if (shot_fire(&shot, client, request, tries, err) < 0)
            rc = judge_failure(client, request, tries, err);
        else
            rc = judge_answer(client, request, tries, &shot, err);
    }
    shot_release(&shot);
    return rc < 0 ? -1 : rc;
}

int s3_request_send(struct s3_client *client, const struct s3_request *request,
                    struct s3_tries *tries, struct err *err)
{
    int status;

    while ((status = s3_request_try(client, request, tries, err)) == 0)
        ;
    return status;
}
