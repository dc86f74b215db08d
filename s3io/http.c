#include "s3io/http.h"

#include <assert.h>
#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "s3io/http_answer.h"
#include "s3io/http_easy.h"

#define CONNECT_S                 10.0
#define STALL_S                   20.0
#define BODY_BYTES_S              2048.0 /* an object's part of 8 MiB would take more than an hour */
#define POLL_MS                   150 /* how often cancel and the stall are looked at while nothing moves */
#define HEADER_BYTES_MAX          ((size_t)256 << 10)
/* Curl's default of 16 KiB costs a system call for each. Those of all requests in flight have to
 * fit into a core's second cache (2 MiB), since each byte is written there and read again. */
#define RECEIVE_BYTES             (128L << 10)
#define SEND_BYTES                (256L << 10)
#define IDLE_MAX                  4L /* kept connections of one slot: it may have talked to several hosts */
#define STATUS_EXPECTATION_FAILED 417

/* One call at a time: an easy handle and the multi handle that owns its kept connections. Curl's
 * easy interface would do the same with a multi handle of its own, but sleeps for a second between
 * two looks at anything else, and cannot have a second request beside the first. */
struct slot {
    CURLM *multi;
    CURL *easy; /* with the options that hold for all calls */
    struct slot *next;
};

struct s3_http {
    char *ca_bundle;
    bool no_proxy;
    pthread_mutex_t mutex; /* guards idle */
    struct slot *idle;     /* last in, first out: the connection used last is the likeliest alive */
};

/* Since `since` it has been slower than it may be, on average. */
struct pace {
    double since;
    double bytes;
};

/* What the callbacks of one request know. */
struct transfer {
    const struct s3_http_call *call;
    struct s3_http_answer *answer;
    void *context; /* of the sink */
    CURL *easy;    /* NULL: not begun */
    CURLcode code; /* once it is done */
    bool done;
    struct pace pace;
    double slow_bytes_s;  /* once it has stalled; 0: nothing came at all */
    int sent;             /* how often curl was about to send the request */
    size_t header_bytes;  /* of the answer, interim ones too */
    size_t body_bytes;    /* that arrived */
    const char *refusal;  /* why a callback of ours ended the call; NULL: it did not */
    bool refused_by_sink; /* not the network's fault */
    bool cancelled, resent;
    bool headers_whole; /* the empty line behind them came */
    char reason[CURL_ERROR_SIZE];
};

static void global_init(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
        fprintf(stderr, "libcurl cannot be set up\n");
        abort();
    }
}

struct s3_http *s3_http_new(const struct s3_http_options *options)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct s3_http *http = s3_http_must(calloc(1, sizeof *http));

    pthread_once(&once, global_init);
    if (options != NULL && options->ca_bundle != NULL)
        http->ca_bundle = s3_http_must(strdup(options->ca_bundle));
    http->no_proxy = options != NULL && options->no_proxy;
    pthread_mutex_init(&http->mutex, NULL);
    return http;
}

static void slot_free(struct slot *slot)
{
    curl_easy_cleanup(slot->easy);
    curl_multi_cleanup(slot->multi);
    free(slot);
}

static void idle_drop(struct s3_http *http)
{
    struct slot *slot, *next;

    pthread_mutex_lock(&http->mutex);
    slot = http->idle;
    http->idle = NULL;
    pthread_mutex_unlock(&http->mutex);
    for (; slot != NULL; slot = next) {
        next = slot->next;
        slot_free(slot);
    }
}

void s3_http_free(struct s3_http *http)
{
    if (http == NULL)
        return;
    idle_drop(http);
    pthread_mutex_destroy(&http->mutex);
    free(http->ca_bundle);
    free(http);
}

static size_t on_header(char *line, size_t one, size_t bytes, void *context)
{
    struct transfer *t = context;

    t->header_bytes += bytes * one;
    if (t->header_bytes > HEADER_BYTES_MAX) {
        t->refusal = "more than 256 KiB of headers";
        return 0;
    }
    switch (s3_http_answer_line(t->answer, line, bytes * one)) {
    case S3_HTTP_LINE_STATUS:
        t->headers_whole = false;
        break;
    case S3_HTTP_LINE_END:
        t->headers_whole = true;
        break;
    case S3_HTTP_LINE_HEADER:
        break;
    }
    return bytes;
}

static size_t on_body(char *data, size_t one, size_t bytes, void *context)
{
    struct transfer *t = context;

    t->body_bytes += bytes * one;
    if (t->call->sink != NULL && t->answer->status / 100 == 2) {
        if (bytes == 0 || t->call->sink(t->context, t->answer, data, bytes) == 0)
            return bytes;
        t->refusal = "the body was not wanted";
        t->refused_by_sink = true;
        return 0;
    }
    if (t->answer->body.bytes + bytes > S3_HTTP_BODY_MAX) {
        t->refusal = "more than 64 MiB of body";
        return 0;
    }
    buf_append(&t->answer->body, data, bytes);
    return bytes;
}

/* Called when a connection is there and the request goes out next. On a kept connection that dies
 * without an answer curl would send the request again by itself; but the server may have acted on
 * the first one, and that is for our caller to weigh. */
static int on_send(void *context, char *ip, char *local_ip, int port, int local_port)
{
    struct transfer *t = context;

    (void)ip, (void)local_ip, (void)port, (void)local_port;
    if (t->sent > 0 && t->answer->status != STATUS_EXPECTATION_FAILED) {
        t->resent = true;
        return CURL_PREREQFUNC_ABORT;
    }
    t->sent++;
    return CURL_PREREQFUNC_OK;
}

/* With the options that hold for all calls. */
static CURL *easy_new(const struct s3_http *http)
{
    CURL *easy = s3_http_must(curl_easy_init());

    S3_HTTP_SET(easy, CURLOPT_NOSIGNAL, 1L);
    S3_HTTP_SET(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    S3_HTTP_SET(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    S3_HTTP_SET(easy, CURLOPT_PATH_AS_IS, 1L); /* "a/../b" is a key */
    S3_HTTP_SET(easy, CURLOPT_FOLLOWLOCATION, 0L);
    S3_HTTP_SET(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    S3_HTTP_SET(easy, CURLOPT_DNS_SHUFFLE_ADDRESSES,
                1L); /* else all connections go to the first one */
#if LIBCURL_VERSION_NUM >= 0x075700
    S3_HTTP_SET(easy, CURLOPT_QUICK_EXIT, 1L); /* else it waits for a resolver that hangs */
#endif
    S3_HTTP_SET(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    S3_HTTP_SET(easy, CURLOPT_BUFFERSIZE, RECEIVE_BYTES);
    S3_HTTP_SET(easy, CURLOPT_UPLOAD_BUFFERSIZE, SEND_BYTES);
    S3_HTTP_SET(easy, CURLOPT_HEADERFUNCTION, on_header);
    S3_HTTP_SET(easy, CURLOPT_WRITEFUNCTION, on_body);
    S3_HTTP_SET(easy, CURLOPT_PREREQFUNCTION, on_send);
    if (http->ca_bundle != NULL) { /* in the system's place, not beside it */
        S3_HTTP_SET(easy, CURLOPT_CAINFO, http->ca_bundle);
        S3_HTTP_SET(easy, CURLOPT_CAPATH, NULL);
    }
    return easy;
}

/* The name is looked up once more, and its addresses shuffled anew: from the cache they would come
 * in the order that led to the slow one. */
static CURL *hedge_new(const struct s3_http *http)
{
    CURL *easy = easy_new(http);

    S3_HTTP_SET(easy, CURLOPT_DNS_CACHE_TIMEOUT, 0L);
    return easy;
}

static struct slot *slot_take(struct s3_http *http)
{
    struct slot *slot;

    pthread_mutex_lock(&http->mutex);
    slot = http->idle;
    if (slot != NULL)
        http->idle = slot->next;
    pthread_mutex_unlock(&http->mutex);
    if (slot == NULL) {
        slot = s3_http_must(calloc(1, sizeof *slot));
        slot->multi = s3_http_must(curl_multi_init());
        slot->easy = easy_new(http);
        curl_multi_setopt(slot->multi, CURLMOPT_MAXCONNECTS, IDLE_MAX);
    }
    slot->next = NULL;
    return slot;
}

static void slot_give(struct s3_http *http, struct slot *slot)
{
    S3_HTTP_SET(slot->easy, CURLOPT_ERRORBUFFER, NULL); /* the call's */
    S3_HTTP_SET(slot->easy, CURLOPT_HTTPHEADER, NULL);
    pthread_mutex_lock(&http->mutex);
    slot->next = http->idle;
    http->idle = slot;
    pthread_mutex_unlock(&http->mutex);
}

/* The other side as messages name it. */
struct place {
    char text[300]; /* "HOST:PORT" */
};

static struct place place_of(const struct s3_http_call *call)
{
    struct place place = {.text = "the server"};
    CURLU *url = s3_http_must(curl_url());
    char *host = NULL, *port = NULL;

    if (curl_url_set(url, CURLUPART_URL, call->url, CURLU_PATH_AS_IS) == CURLUE_OK &&
        curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
        curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK)
        snprintf(place.text, sizeof place.text, "%s:%s", host, port);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(url);
    return place;
}

static long milliseconds(double seconds)
{
    return seconds <= 0 ? 0 : seconds * 1000 < 1 ? 1 : (long)(seconds * 1000);
}

static CURLcode options_set(const struct s3_http *http, struct transfer *t,
                            struct curl_slist *headers)
{
    const struct s3_http_call *call = t->call;
    CURL *easy = t->easy;

    S3_HTTP_SET(easy, CURLOPT_ERRORBUFFER, t->reason);
    S3_HTTP_SET(easy, CURLOPT_CONNECTTIMEOUT_MS,
                milliseconds(call->connect_s > 0 ? call->connect_s : CONNECT_S));
    S3_HTTP_SET(easy, CURLOPT_TIMEOUT_MS, milliseconds(call->total_s));
    S3_HTTP_SET(easy, CURLOPT_HTTPHEADER, headers);
    S3_HTTP_SET(easy, CURLOPT_HEADERDATA, t);
    S3_HTTP_SET(easy, CURLOPT_WRITEDATA, t);
    S3_HTTP_SET(easy, CURLOPT_PREREQDATA, t);
    S3_HTTP_SET(easy, CURLOPT_PRIVATE, t);
    s3_http_proxy_set(easy, call->url, http->no_proxy);
    s3_http_method_set(easy, call);
    return curl_easy_setopt(easy, CURLOPT_URL, call->url);
}

static double bytes_moved(const struct transfer *t)
{
    curl_off_t up = 0;

    curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &up);
    return (double)up + (double)t->header_bytes + (double)t->body_bytes;
}

static double stall_limit_s(const struct transfer *t)
{
    return t->call->stall_s > 0 ? t->call->stall_s : STALL_S;
}

/* Bytes a second that it has to have. */
static double floor_of(const struct transfer *t)
{
    return t->call->sink != NULL && t->answer->status / 100 == 2 ? BODY_BYTES_S : 1;
}

static bool stalled(struct transfer *t)
{
    const double now = clock_now_s();
    double moved;

    if (t->sent == 0) { /* not connected yet: the connection has its own limit */
        t->pace.since = now;
        return false;
    }
    moved = bytes_moved(t);
    if (moved > t->pace.bytes && moved - t->pace.bytes >= floor_of(t) * (now - t->pace.since))
        t->pace = (struct pace){.since = now, .bytes = moved};
    if (now - t->pace.since <= stall_limit_s(t))
        return false;
    t->slow_bytes_s = (moved - t->pace.bytes) / (now - t->pace.since);
    return true;
}

static bool whole(const struct transfer *t)
{
    return t->done && t->code == CURLE_OK && t->headers_whole;
}

/* A request, and maybe the same beside it, until one is answered. */
struct race {
    struct s3_http *http;
    struct slot *slot;
    struct curl_slist *headers;
    struct transfer runners[2]; /* the second one: the hedge */
    struct s3_http_answer hedge_answer;
    double hedge_at_s; /* 0: no (more) hedge */
};

static CURLcode runner_begin(struct race *race, struct transfer *t, CURL *easy)
{
    CURLcode code;

    t->easy = easy;
    t->pace.since = clock_now_s();
    code = options_set(race->http, t, race->headers);
    if (code == CURLE_OK && curl_multi_add_handle(race->slot->multi, easy) != CURLM_OK)
        code = CURLE_FAILED_INIT;
    t->done = code != CURLE_OK;
    t->code = code;
    return code;
}

static void runner_drop(struct race *race, struct transfer *t)
{
    if (t->easy != NULL)
        curl_multi_remove_handle(race->slot->multi, t->easy);
    if (t->easy != race->slot->easy)
        curl_easy_cleanup(t->easy);
    t->easy = NULL;
}

/* Which one's end is the call's; NULL: go on. A failure is none while the other may do better. */
static struct transfer *winner(struct race *race)
{
    struct transfer *const first = &race->runners[0], *const second = &race->runners[1];
    const bool running = !first->done || (second->easy != NULL && !second->done);

    for (int i = 0; i < 2; i++) {
        struct transfer *const t = &race->runners[i];

        if (t->cancelled || t->refused_by_sink || (whole(t) && t->answer->status / 100 == 2))
            return t;
    }
    if (running)
        return NULL;
    return second->easy != NULL && whole(second) && !whole(first) ? second : first;
}

static void take_ends(struct race *race)
{
    CURLMsg *msg;
    int left;

    while ((msg = curl_multi_info_read(race->slot->multi, &left)) != NULL) {
        char *private = NULL;
        struct transfer *t;

        if (msg->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &private);
        t = (struct transfer *)(void *)private;
        t->done = true;
        t->code = msg->data.result;
        /* Curl takes headers that end in the middle for all of them. */
        if (t->code == CURLE_OK && !t->headers_whole)
            t->refusal = "its headers are cut short";
    }
}

static bool is_set(const volatile sig_atomic_t *flag)
{
    return flag != NULL && __atomic_load_n(flag, __ATOMIC_RELAXED);
}

/* The looks at everything but the sockets. */
static void watch(struct race *race)
{
    struct transfer *const first = &race->runners[0], *const second = &race->runners[1];

    if (is_set(first->call->cancel) || is_set(first->call->stop))
        first->cancelled = true;
    for (int i = 0; i < 2; i++) {
        struct transfer *const t = &race->runners[i];

        if (t->easy != NULL && !t->done && stalled(t)) {
            t->refusal = "stalled";
            t->done = true;
            t->code = CURLE_ABORTED_BY_CALLBACK;
        }
    }
    if (race->hedge_at_s > 0 && !first->done && clock_now_s() >= race->hedge_at_s) {
        race->hedge_at_s = 0;
        if (first->call->hedge_may(first->call->hedge_may_context)) {
            first->answer->hedged = true;
            runner_begin(race, second, hedge_new(race->http));
        }
    }
}

static int wait_ms(const struct race *race)
{
    const double left = race->hedge_at_s > 0 ? 1e3 * (race->hedge_at_s - clock_now_s()) : POLL_MS;

    return left > POLL_MS ? POLL_MS : left < 1 ? 1 : (int)left;
}

/* Run the call to its end. Whatever ends it early leaves the connection closed, not kept. */
static struct transfer *drive(struct race *race)
{
    CURLM *const multi = race->slot->multi;
    struct transfer *won = NULL;
    int running;

    runner_begin(race, &race->runners[0], race->slot->easy);
    for (;;) {
        if (curl_multi_perform(multi, &running) != CURLM_OK)
            break;
        take_ends(race);
        if ((won = winner(race)) != NULL)
            break;
        watch(race);
        if ((won = winner(race)) != NULL)
            break;
        if (curl_multi_poll(multi, NULL, 0, wait_ms(race), NULL) != CURLM_OK)
            break;
    }
    if (won == NULL) {
        won = &race->runners[0];
        won->code = CURLE_FAILED_INIT;
    }
    return won;
}

static enum s3_http_failure failure_of(const struct transfer *t, CURLcode code)
{
    const bool no_byte = t->header_bytes == 0;
    long connects = 0;

    if (t->cancelled || t->refused_by_sink)
        return S3_HTTP_ABORTED;
    if (t->resent)
        return S3_HTTP_STALE;
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_CERTPROBLEM:
        return S3_HTTP_CERTIFICATE;
    case CURLE_URL_MALFORMAT:
    case CURLE_FAILED_INIT:
    case CURLE_NOT_BUILT_IN:
    case CURLE_BAD_FUNCTION_ARGUMENT:
        return S3_HTTP_OTHER;
    case CURLE_UNSUPPORTED_PROTOCOL: /* the URL's; or an answer that is no HTTP */
        return t->sent == 0 ? S3_HTTP_OTHER : S3_HTTP_BROKEN;
    default:
        break;
    }
    if (t->sent == 0)
        return S3_HTTP_CONNECT;
    curl_easy_getinfo(t->easy, CURLINFO_NUM_CONNECTS, &connects);
    if (connects == 0 && no_byte && t->refusal == NULL &&
        (code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING))
        return S3_HTTP_STALE;
    return S3_HTTP_BROKEN;
}

/* Curl's own words for it, on one line. */
static const char *reason_of(struct transfer *t, CURLcode code)
{
    if (t->refusal != NULL)
        return t->refusal;
    for (char *p = t->reason; *p != '\0'; p++)
        if (*p == '\n' || *p == '\r')
            *p = ' ';
    return t->reason[0] != '\0' ? t->reason : curl_easy_strerror(code);
}

static int stall_set(const struct transfer *t, const struct place *place, struct err *err)
{
    if (t->slow_bytes_s <= 0)
        return err_set(err, ERR_NET, "nothing came from %s for %g s", place->text,
                       stall_limit_s(t));
    return err_set(err, ERR_NET,
                   "%.3g bytes/s went to and from %s for %g s, and it takes %g at least",
                   t->slow_bytes_s, place->text, stall_limit_s(t), floor_of(t));
}

static int failure_set(const struct s3_http *http, struct transfer *t, CURLcode code,
                       struct err *err)
{
    const char *reason = reason_of(t, code);
    const struct place place = place_of(t->call);
    long number = 0;

    t->answer->failure = failure_of(t, code);
    switch (t->answer->failure) {
    case S3_HTTP_ABORTED:
        return err_set(err, ERR_STOPPED, "the request to %s was stopped", place.text);
    case S3_HTTP_STALE:
        return err_set(err, ERR_NET, "%s closed the connection before it answered", place.text);
    case S3_HTTP_CONNECT:
        /* Curl's words would name the host once more and leave out the reason. */
        curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &number);
        if (code == CURLE_COULDNT_CONNECT && number != 0)
            return err_set_errno(err, ERR_NET, (int)number, "cannot connect to %s", place.text);
        return err_set(err, ERR_NET, "cannot connect to %s: %s", place.text, reason);
    case S3_HTTP_CERTIFICATE:
        if (code == CURLE_SSL_CACERT_BADFILE && http->ca_bundle != NULL)
            return err_set(err, ERR_INPUT,
                           "cannot read certificates from '%s' (AWS_CA_BUNDLE or ca_bundle)",
                           http->ca_bundle);
        return err_set(err, ERR_INPUT,
                       "the certificate of %s is not accepted: %s; AWS_CA_BUNDLE may name a PEM "
                       "file with the authority to trust%s%s%s",
                       place.text, reason, http->ca_bundle == NULL ? "" : " (it is '",
                       http->ca_bundle == NULL ? "" : http->ca_bundle,
                       http->ca_bundle == NULL ? "" : "')");
    case S3_HTTP_OTHER:
        return err_set(err, ERR_INPUT, "cannot send a request to %s: %s", place.text, reason);
    case S3_HTTP_BROKEN:
    case S3_HTTP_ANSWERED:
        break;
    }
    if (t->refusal != NULL && strcmp(t->refusal, "stalled") == 0)
        return stall_set(t, &place, err);
    return err_set(err, ERR_NET, "the answer of %s broke off: %s", place.text, reason);
}

static int refuse(const struct s3_http_call *call, struct s3_http_answer *answer, struct err *err)
{
    if (!s3_http_headers_clean(call))
        return err_set(err, ERR_INPUT, "cannot send to %s: a header's value has a line break",
                       place_of(call).text);
    if (!is_set(call->cancel) && !is_set(call->stop))
        return 0;
    answer->failure = S3_HTTP_ABORTED;
    return err_set(err, ERR_STOPPED, "the request to %s was stopped", place_of(call).text);
}

/* What the one that is dropped had answered, if anything. */
static int loser_status(const struct race *race, const struct transfer *won)
{
    const struct transfer *const other = &race->runners[won == &race->runners[0] ? 1 : 0];

    return whole(other) ? other->answer->status : 0;
}

/* The second answer in the place of the first. */
static void take_second(struct race *race, struct s3_http_answer *answer)
{
    const struct s3_http_answer first = *answer;

    *answer = race->hedge_answer;
    answer->hedged = answer->second = true;
    race->hedge_answer = first;
}

int s3_http_send(struct s3_http *http, const struct s3_http_call *call,
                 struct s3_http_answer *answer, struct err *err)
{
    struct race race = {.http = http};
    struct transfer *won;
    int rc = 0, other_status;

    assert(call->method != NULL && call->url != NULL);
    answer->status = 0;
    answer->headers.bytes = answer->body.bytes = 0;
    answer->failure = S3_HTTP_OTHER;
    answer->hedged = answer->second = false;
    answer->other_status = 0;
    if (refuse(call, answer, err) < 0)
        return -1;
    race.runners[0] = (struct transfer){.call = call, .answer = answer, .context = call->context};
    race.runners[1] = (struct transfer){
        .call = call, .answer = &race.hedge_answer, .context = call->hedge_context};
    race.hedge_at_s = call->hedge_s > 0 ? clock_now_s() + call->hedge_s : 0;
    race.slot = slot_take(http);
    race.headers = s3_http_headers(call);
    won = drive(&race);
    if (whole(won))
        won->answer->failure = S3_HTTP_ANSWERED;
    else
        rc = failure_set(http, won, won->code, err);
    other_status = loser_status(&race, won);
    if (won == &race.runners[1])
        take_second(&race, answer);
    answer->other_status = other_status;
    runner_drop(&race, &race.runners[1]);
    runner_drop(&race, &race.runners[0]);
    s3_http_answer_release(&race.hedge_answer);
    /* After some failures (a host without address) curl 7.88 refuses settings on the handle. */
    if (rc == 0 && !answer->hedged)
        slot_give(http, race.slot);
    else
        slot_free(race.slot);
    if (answer->failure == S3_HTTP_STALE)
        idle_drop(http); /* the others are as old: the next try shall have a new connection */
    curl_slist_free_all(race.headers);
    return rc;
}
