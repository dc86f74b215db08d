#include "s3io/http.h"

#include <assert.h>
#include <ctype.h>
#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"

#define CONNECT_S                 10.0
#define STALL_S                   20.0
#define POLL_MS                   150 /* how often cancel and the stall are looked at while nothing moves */
#define HEADER_BYTES_MAX          ((size_t)256 << 10)
#define RECEIVE_BYTES             (256L << 10) /* curl's default of 16 KiB costs a system call for each */
#define SEND_BYTES                (256L << 10)
#define IDLE_MAX                  4L /* kept connections of one slot: it may have talked to several hosts */
#define STATUS_EXPECTATION_FAILED 417

/* One call at a time: an easy handle and the multi handle that owns its kept connections. Curl's
 * easy interface would do the same with a multi handle of its own, but sleeps for a second between
 * two looks at anything else. */
struct slot {
    CURLM *multi;
    CURL *easy;
    struct slot *next;
};

struct s3_http {
    char *ca_bundle;
    bool no_proxy;
    pthread_mutex_t mutex; /* guards idle */
    struct slot *idle;     /* last in, first out: the connection used last is the likeliest alive */
};

/* What the callbacks of one call know. */
struct transfer {
    const struct s3_http_call *call;
    struct s3_http_answer *answer;
    struct slot *slot;
    int sent;             /* how often curl was about to send the request */
    size_t header_bytes;  /* of the answer, interim ones too */
    size_t body_bytes;    /* that arrived */
    const char *refusal;  /* why a callback of ours ended the call; NULL: it did not */
    bool refused_by_sink; /* or by cancel: not the network's fault */
    bool cancelled, resent;
    bool headers_whole; /* the empty line behind them came */
    char place[300];    /* "HOST:PORT" */
    char reason[CURL_ERROR_SIZE];
};

static void global_init(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
        fprintf(stderr, "libcurl cannot be set up\n");
        abort();
    }
}

static void *must(void *pointer)
{
    if (pointer == NULL) {
        fprintf(stderr, "out of memory for an HTTP request\n");
        abort();
    }
    return pointer;
}

/* Every option here is known to the libcurl that we ask for; a refusal is our mistake. */
#define SET(easy, option, value)                                                                   \
    do {                                                                                           \
        const CURLcode set_ = curl_easy_setopt(easy, option, value);                               \
        assert(set_ == CURLE_OK);                                                                  \
        (void)set_;                                                                                \
    } while (0)

struct s3_http *s3_http_new(const struct s3_http_options *options)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct s3_http *http = must(calloc(1, sizeof *http));

    pthread_once(&once, global_init);
    if (options != NULL && options->ca_bundle != NULL)
        http->ca_bundle = must(strdup(options->ca_bundle));
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

static struct slot *slot_take(struct s3_http *http)
{
    struct slot *slot;

    pthread_mutex_lock(&http->mutex);
    slot = http->idle;
    if (slot != NULL)
        http->idle = slot->next;
    pthread_mutex_unlock(&http->mutex);
    if (slot == NULL) {
        slot = must(calloc(1, sizeof *slot));
        slot->multi = must(curl_multi_init());
        slot->easy = must(curl_easy_init());
        curl_multi_setopt(slot->multi, CURLMOPT_MAXCONNECTS, IDLE_MAX);
    }
    slot->next = NULL;
    return slot;
}

static void slot_give(struct s3_http *http, struct slot *slot)
{
    curl_easy_reset(slot->easy); /* options only: connections belong to the multi handle */
    pthread_mutex_lock(&http->mutex);
    slot->next = http->idle;
    http->idle = slot;
    pthread_mutex_unlock(&http->mutex);
}

/* "HTTP/1.1 200 OK": the number. An interim answer or a proxy's may have come before: start over.
 */
static void status_take(struct transfer *t, const char *line, size_t bytes)
{
    const char *blank = memchr(line, ' ', bytes);
    int status = 0;

    for (const char *p = blank; p != NULL && ++p < line + bytes && isdigit((unsigned char)*p);)
        status = status < 1000 ? status * 10 + (*p - '0') : status;
    t->headers_whole = false;
    t->answer->status = status;
    t->answer->headers.bytes = 0;
    t->answer->body.bytes = 0;
}

static size_t on_header(char *line, size_t one, size_t bytes, void *context)
{
    struct transfer *t = context;
    const char *colon;
    size_t name_bytes, end = bytes * one;
    char *name;

    t->header_bytes += end;
    if (t->header_bytes > HEADER_BYTES_MAX) {
        t->refusal = "more than 256 KiB of headers";
        return 0;
    }
    if (end > 5 && memcmp(line, "HTTP/", 5) == 0) {
        status_take(t, line, end);
        return bytes;
    }
    while (end > 0 && strchr("\r\n \t", line[end - 1]) != NULL)
        end--;
    t->headers_whole |= end == 0;
    colon = memchr(line, ':', end);
    if (colon == NULL)
        return bytes;
    name_bytes = (size_t)(colon - line);
    for (colon++; colon < line + end && (*colon == ' ' || *colon == '\t');)
        colon++;
    buf_append(&t->answer->headers, line, name_bytes);
    name = (char *)t->answer->headers.data + t->answer->headers.bytes - name_bytes;
    for (size_t i = 0; i < name_bytes; i++)
        name[i] = (char)tolower((unsigned char)name[i]);
    buf_append(&t->answer->headers, ": ", 2);
    buf_append(&t->answer->headers, colon, (size_t)(line + end - colon));
    buf_append(&t->answer->headers, "\n", 1);
    return bytes;
}

static size_t on_body(char *data, size_t one, size_t bytes, void *context)
{
    struct transfer *t = context;

    t->body_bytes += bytes * one;
    if (t->call->sink != NULL && t->answer->status / 100 == 2) {
        if (bytes == 0 || t->call->sink(t->call->context, data, bytes) == 0)
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

/* The connection to the other side as messages name it. */
static void place_set(struct transfer *t)
{
    CURLU *url = must(curl_url());
    char *host = NULL, *port = NULL;

    snprintf(t->place, sizeof t->place, "the server");
    if (curl_url_set(url, CURLUPART_URL, t->call->url, CURLU_PATH_AS_IS) == CURLUE_OK &&
        curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
        curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK)
        snprintf(t->place, sizeof t->place, "%s:%s", host, port);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(url);
}

/* A line break inside a header would be a header of its own. */
static bool headers_clean(const struct s3_http_call *call)
{
    for (size_t i = 0; i < call->header_count; i++)
        if (strpbrk(call->headers[i].name, "\r\n: ") != NULL ||
            strpbrk(call->headers[i].value, "\r\n") != NULL)
            return false;
    return true;
}

static struct curl_slist *list_add(struct curl_slist *list, const char *line)
{
    return must(curl_slist_append(list, line));
}

static bool call_has(const struct s3_http_call *call, const char *name)
{
    for (size_t i = 0; i < call->header_count; i++)
        if (strcasecmp(call->headers[i].name, name) == 0)
            return true;
    return false;
}

static struct curl_slist *header_list(const struct s3_http_call *call)
{
    struct curl_slist *list = NULL;
    struct buf line = {0};

    for (size_t i = 0; i < call->header_count; i++) {
        const struct s3_pair *header = &call->headers[i];

        line.bytes = 0; /* curl's way to send a header without a value is a ';' in the ':'s place */
        if (header->value[0] == '\0')
            buf_printf(&line, "%s;", header->name);
        else
            buf_printf(&line, "%s: %s", header->name, header->value);
        list = list_add(list, buf_text(&line));
    }
    /* What curl would add by itself. */
    if (!call_has(call, "accept"))
        list = list_add(list, "Accept:");
    if (!call_has(call, "content-type"))
        list = list_add(list, "Content-Type:");
    if (!call_has(call, "user-agent"))
        list = list_add(list, "User-Agent: convoy/" CONVOY_VERSION);
    buf_release(&line);
    return list;
}

/* Curl takes https_proxy in both cases but http_proxy in lower case only (in a CGI program the
 * other one is set by the client); we are no CGI program, and other S3 clients take both. */
static void proxy_set(const struct s3_http *http, CURL *easy, const char *url)
{
    const char *upper = getenv("HTTP_PROXY");

    if (http->no_proxy)
        SET(easy, CURLOPT_PROXY, "");
    else if (strncmp(url, "http:", 5) == 0 && getenv("http_proxy") == NULL && upper != NULL)
        SET(easy, CURLOPT_PROXY, upper);
    SET(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
}

static void method_set(CURL *easy, const struct s3_http_call *call)
{
    const bool body =
        call->body != NULL || strcmp(call->method, "PUT") == 0 || strcmp(call->method, "POST") == 0;

    if (strcmp(call->method, "HEAD") == 0) {
        SET(easy, CURLOPT_NOBODY, 1L);
    } else if (body) { /* an empty one too, for its Content-Length: 0 */
        SET(easy, CURLOPT_POSTFIELDSIZE_LARGE,
            (curl_off_t)(call->body == NULL ? 0 : call->body_bytes));
        SET(easy, CURLOPT_POSTFIELDS, call->body == NULL ? "" : (const char *)call->body);
        SET(easy, CURLOPT_CUSTOMREQUEST, call->method);
    } else {
        SET(easy, CURLOPT_HTTPGET, 1L);
        SET(easy, CURLOPT_CUSTOMREQUEST, call->method);
    }
}

static long milliseconds(double seconds)
{
    return seconds <= 0 ? 0 : seconds * 1000 < 1 ? 1 : (long)(seconds * 1000);
}

static CURLcode options_set(const struct s3_http *http, struct transfer *t,
                            struct curl_slist *headers)
{
    const struct s3_http_call *call = t->call;
    CURL *easy = t->slot->easy;

    SET(easy, CURLOPT_NOSIGNAL, 1L);
    SET(easy, CURLOPT_ERRORBUFFER, t->reason);
    SET(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    SET(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(easy, CURLOPT_PATH_AS_IS, 1L); /* "a/../b" is a key */
    SET(easy, CURLOPT_FOLLOWLOCATION, 0L);
    SET(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    SET(easy, CURLOPT_DNS_SHUFFLE_ADDRESSES, 1L); /* else all connections go to the first one */
    SET(easy, CURLOPT_BUFFERSIZE, RECEIVE_BYTES);
    SET(easy, CURLOPT_UPLOAD_BUFFERSIZE, SEND_BYTES);
    SET(easy, CURLOPT_CONNECTTIMEOUT_MS,
        milliseconds(call->connect_s > 0 ? call->connect_s : CONNECT_S));
    SET(easy, CURLOPT_TIMEOUT_MS, milliseconds(call->total_s));
    SET(easy, CURLOPT_HTTPHEADER, headers);
    SET(easy, CURLOPT_HEADERFUNCTION, on_header);
    SET(easy, CURLOPT_HEADERDATA, t);
    SET(easy, CURLOPT_WRITEFUNCTION, on_body);
    SET(easy, CURLOPT_WRITEDATA, t);
    SET(easy, CURLOPT_PREREQFUNCTION, on_send);
    SET(easy, CURLOPT_PREREQDATA, t);
    if (http->ca_bundle != NULL) { /* in the system's place, not beside it */
        SET(easy, CURLOPT_CAINFO, http->ca_bundle);
        SET(easy, CURLOPT_CAPATH, NULL);
    }
    proxy_set(http, easy, call->url);
    method_set(easy, call);
    return curl_easy_setopt(easy, CURLOPT_URL, call->url);
}

/* Less than a byte per second on average since `since`, for the whole stall time. */
struct pace {
    double since;
    double bytes;
};

static double bytes_moved(const struct transfer *t)
{
    curl_off_t up = 0;

    curl_easy_getinfo(t->slot->easy, CURLINFO_SIZE_UPLOAD_T, &up);
    return (double)up + (double)t->header_bytes + (double)t->body_bytes;
}

static bool stalled(const struct transfer *t, struct pace *pace)
{
    const double limit = t->call->stall_s > 0 ? t->call->stall_s : STALL_S;
    const double now = clock_now_s();
    double moved;

    if (t->sent == 0) { /* not connected yet: the connection has its own limit */
        pace->since = now;
        return false;
    }
    moved = bytes_moved(t);
    if (moved > pace->bytes && moved - pace->bytes >= now - pace->since)
        *pace = (struct pace){.since = now, .bytes = moved};
    return now - pace->since > limit;
}

/* Run the call to its end. Whatever ends it early leaves the connection closed, not kept. */
static CURLcode drive(struct transfer *t)
{
    CURLM *multi = t->slot->multi;
    struct pace pace = {.since = clock_now_s()};
    CURLcode code = CURLE_ABORTED_BY_CALLBACK;
    int running = 1, left;
    CURLMsg *msg;

    if (curl_multi_add_handle(multi, t->slot->easy) != CURLM_OK)
        return CURLE_FAILED_INIT;
    while (curl_multi_perform(multi, &running) == CURLM_OK && running > 0) {
        if (t->call->cancel != NULL && __atomic_load_n(t->call->cancel, __ATOMIC_RELAXED)) {
            t->cancelled = true;
            break;
        }
        if (stalled(t, &pace)) {
            t->refusal = "stalled";
            break;
        }
        if (curl_multi_poll(multi, NULL, 0, POLL_MS, NULL) != CURLM_OK)
            break;
    }
    while ((msg = curl_multi_info_read(multi, &left)) != NULL)
        if (msg->msg == CURLMSG_DONE)
            code = msg->data.result;
    return code;
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
    curl_easy_getinfo(t->slot->easy, CURLINFO_NUM_CONNECTS, &connects);
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

static int failure_set(const struct s3_http *http, struct transfer *t, CURLcode code,
                       struct err *err)
{
    const char *reason = reason_of(t, code);
    long number = 0;

    t->answer->failure = failure_of(t, code);
    switch (t->answer->failure) {
    case S3_HTTP_ABORTED:
        return err_set(err, ERR_STOPPED, "the request to %s was stopped", t->place);
    case S3_HTTP_STALE:
        return err_set(err, ERR_NET, "%s closed the connection before it answered", t->place);
    case S3_HTTP_CONNECT:
        /* Curl's words would name the host once more and leave out the reason. */
        curl_easy_getinfo(t->slot->easy, CURLINFO_OS_ERRNO, &number);
        if (code == CURLE_COULDNT_CONNECT && number != 0)
            return err_set_errno(err, ERR_NET, (int)number, "cannot connect to %s", t->place);
        return err_set(err, ERR_NET, "cannot connect to %s: %s", t->place, reason);
    case S3_HTTP_CERTIFICATE:
        if (code == CURLE_SSL_CACERT_BADFILE && http->ca_bundle != NULL)
            return err_set(err, ERR_INPUT,
                           "cannot read certificates from '%s' (AWS_CA_BUNDLE or ca_bundle)",
                           http->ca_bundle);
        return err_set(err, ERR_INPUT,
                       "the certificate of %s is not accepted: %s; AWS_CA_BUNDLE may name a PEM "
                       "file with the authority to trust%s%s%s",
                       t->place, reason, http->ca_bundle == NULL ? "" : " (it is '",
                       http->ca_bundle == NULL ? "" : http->ca_bundle,
                       http->ca_bundle == NULL ? "" : "')");
    case S3_HTTP_OTHER:
        return err_set(err, ERR_INPUT, "cannot send a request to %s: %s", t->place, reason);
    case S3_HTTP_BROKEN:
    case S3_HTTP_ANSWERED:
        break;
    }
    if (t->refusal != NULL && strcmp(t->refusal, "stalled") == 0)
        return err_set(err, ERR_NET, "nothing came from %s for %g s", t->place,
                       t->call->stall_s > 0 ? t->call->stall_s : STALL_S);
    return err_set(err, ERR_NET, "the answer of %s broke off: %s", t->place, reason);
}

int s3_http_send(struct s3_http *http, const struct s3_http_call *call,
                 struct s3_http_answer *answer, struct err *err)
{
    struct transfer t = {.call = call, .answer = answer};
    struct curl_slist *headers;
    CURLcode code;
    int rc = 0;

    assert(call->method != NULL && call->url != NULL);
    place_set(&t);
    answer->status = 0;
    answer->headers.bytes = answer->body.bytes = 0;
    answer->failure = S3_HTTP_OTHER;
    if (!headers_clean(call))
        return err_set(err, ERR_INPUT, "cannot send to %s: a header's value has a line break",
                       t.place);
    if (call->cancel != NULL && __atomic_load_n(call->cancel, __ATOMIC_RELAXED)) {
        t.cancelled = true;
        return failure_set(http, &t, CURLE_OK, err);
    }
    t.slot = slot_take(http);
    headers = header_list(call);
    code = options_set(http, &t, headers);
    if (code == CURLE_OK)
        code = drive(&t);
    /* Curl takes headers that end in the middle for all of them. */
    if (code == CURLE_OK && !t.headers_whole)
        t.refusal = "its headers are cut short";
    if (code == CURLE_OK && t.headers_whole)
        answer->failure = S3_HTTP_ANSWERED;
    else
        rc = failure_set(http, &t, code, err);
    curl_multi_remove_handle(t.slot->multi, t.slot->easy);
    /* After some failures (a host without address) curl 7.88 refuses settings on the handle. */
    if (rc == 0)
        slot_give(http, t.slot);
    else
        slot_free(t.slot);
    if (answer->failure == S3_HTTP_STALE)
        idle_drop(http); /* the others are as old: the next try shall have a new connection */
    curl_slist_free_all(headers);
    return rc;
}

void s3_http_answer_release(struct s3_http_answer *answer)
{
    buf_release(&answer->headers);
    buf_release(&answer->body);
    *answer = (struct s3_http_answer){0};
}

bool s3_http_header(const struct s3_http_answer *answer, const char *name, char *value,
                    size_t bytes)
{
    const char *line = (const char *)answer->headers.data;
    const char *end = line == NULL ? NULL : line + answer->headers.bytes;
    const size_t name_bytes = strlen(name);

    while (line != end) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));

        if ((size_t)(stop - line) >= name_bytes + 2 && memcmp(line, name, name_bytes) == 0 &&
            memcmp(line + name_bytes, ": ", 2) == 0) {
            const char *from = line + name_bytes + 2;

            snprintf(value, bytes, "%.*s", (int)(stop - from), from);
            return true;
        }
        line = stop + 1;
    }
    return false;
}
