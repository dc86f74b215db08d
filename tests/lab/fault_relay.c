/*
 * tests/lab/fault_relay.c -- one thread carries one client's connection: a head, what the plan says
 * about it, the body up, the answer down. The client's Host stays as it is, for it is signed.
 * "Expect: 100-continue" is answered here and not passed on.
 */
#include "tests/lab/fault_relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "tests/lab/fault_http.h"
#include "tests/lab/fault_plan.h"

#define STALL_S        600
#define UNKNOWN_LENGTH 4096 /* a place in a body without a length is drawn in as many bytes */
#define TUNNEL_LENGTH  65536

/* What was done; a fault that was chosen but found no body to act on is in `missed`. */
struct counts {
    unsigned long long connections, requests, kinds[FAULT_KINDS], missed, bytes_up, bytes_down;
};

struct fault_relay {
    struct fault_relay_options options;
    pthread_mutex_t mutex; /* guards what follows and the log */
    struct counts counts;
    float *delays_ms;
    size_t delay_count, delay_capacity;
};

struct connection {
    struct fault_relay *relay;
    unsigned long long number, requests;
    struct fault_side client, server;
    struct buf head, answer;
    struct fault fault;
    bool head_only; /* HEAD: the answer has no body */
};

/* How a body's bytes are changed or ended on their way. */
struct damage {
    enum fault_kind kind; /* FAULT_PASS, _FLIP, _CUT, _RESET, _STALL */
    uint64_t at, reached;
    bool done;
};

struct fault_relay *fault_relay_new(const struct fault_relay_options *options)
{
    struct fault_relay *relay = calloc(1, sizeof *relay);

    if (relay == NULL)
        abort();
    relay->options = *options;
    pthread_mutex_init(&relay->mutex, NULL);
    return relay;
}

/* ---- books ---- */

static void count_bytes(struct fault_relay *relay, bool down, size_t bytes)
{
    pthread_mutex_lock(&relay->mutex);
    if (down)
        relay->counts.bytes_down += bytes;
    else
        relay->counts.bytes_up += bytes;
    pthread_mutex_unlock(&relay->mutex);
}

static void count_missed(struct fault_relay *relay)
{
    pthread_mutex_lock(&relay->mutex);
    relay->counts.missed++;
    pthread_mutex_unlock(&relay->mutex);
}

static void keep_delay(struct fault_relay *relay, double delay_s)
{
    if (relay->delay_count == relay->delay_capacity) {
        relay->delay_capacity = 2 * relay->delay_capacity + 1024;
        relay->delays_ms =
            reallocarray(relay->delays_ms, relay->delay_capacity, sizeof *relay->delays_ms);
        if (relay->delays_ms == NULL)
            abort();
    }
    relay->delays_ms[relay->delay_count++] = (float)(delay_s * 1000);
}

/* "AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/s3/aws4_request, ...": the id and region. */
static void take_scope(const struct buf *head, char id[128], char region[64])
{
    char value[512];

    id[0] = region[0] = '\0';
    if (fault_head_value(head, "authorization", value, sizeof value) &&
        sscanf(value, "AWS4-HMAC-SHA256 Credential=%127[^/]/%*[^/]/%63[^/]/", id, region) != 2)
        region[0] = '\0';
}

/* The address of ours that the client chose. */
static void take_address(int fd, char address[INET6_ADDRSTRLEN])
{
    struct sockaddr_in here = {0};
    socklen_t bytes = sizeof here;

    getsockname(fd, (struct sockaddr *)&here, &bytes);
    inet_ntop(AF_INET, &here.sin_addr, address, INET6_ADDRSTRLEN);
}

/* With the mutex. */
static void write_log(const struct connection *c, const struct fault_request *request)
{
    static const char *const headers[] = {"x-amz-date", "expect", "if-match", "content-length"};
    json_t *line = json_pack("{s:I,s:I,s:s,s:o,s:s,s:f,s:s,s:i}", "connection",
                             (json_int_t)c->number, "on_connection", (json_int_t)c->requests,
                             "method", request->method, "path", json_new_text(request->target),
                             "range", request->range, "delay_s", c->fault.delay_s, "fault",
                             fault_kind_name(c->fault.kind), "status", c->fault.status);
    char value[256];

    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        fault_head_value(&c->head, headers[i], value, sizeof value);
        json_object_set_new(line, headers[i], json_new_text(value));
    }
    take_address(c->client.fd, value);
    json_object_set_new(line, "address", json_string(value));
    json_object_set_new(line, "key_id", json_new_text(request->key_id));
    json_object_set_new(line, "region", json_new_text(request->region));
    json_dumpf(line, c->relay->options.log, JSON_COMPACT);
    fputc('\n', c->relay->options.log);
    fflush(c->relay->options.log);
    json_decref(line);
}

/* Ask the plan, and enter the request. */
static void choose(struct connection *c, const struct fault_request *request)
{
    struct fault_relay *relay = c->relay;

    fault_plan_choose(relay->options.plan, request, &c->fault);
    c->requests++;
    if (c->fault.kind == FAULT_STALE && c->requests == 1)
        c->fault.kind = FAULT_PASS;
    pthread_mutex_lock(&relay->mutex);
    relay->counts.requests++;
    relay->counts.kinds[c->fault.kind]++;
    keep_delay(relay, c->fault.delay_s);
    if (relay->options.log != NULL)
        write_log(c, request);
    pthread_mutex_unlock(&relay->mutex);
}

static int by_size(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

void fault_relay_report(struct fault_relay *relay, FILE *out)
{
    const struct counts *counts = &relay->counts;
    size_t n;

    pthread_mutex_lock(&relay->mutex);
    n = relay->delay_count;
    if (n > 0)
        qsort(relay->delays_ms, n, sizeof *relay->delays_ms, by_size);
    fprintf(out, "{\"connections\":%llu,\"requests\":%llu", counts->connections, counts->requests);
    for (int kind = 0; kind < FAULT_KINDS; kind++)
        if (counts->kinds[kind] > 0)
            fprintf(out, ",\"%s\":%llu", fault_kind_name((enum fault_kind)kind),
                    counts->kinds[kind]);
    fprintf(out, ",\"missed\":%llu,\"bytes_up\":%llu,\"bytes_down\":%llu", counts->missed,
            counts->bytes_up, counts->bytes_down);
    if (n > 0)
        fprintf(out, ",\"delay_ms\":{\"median\":%.1f,\"p99\":%.1f,\"max\":%.1f}",
                (double)relay->delays_ms[n / 2], (double)relay->delays_ms[n * 99 / 100],
                (double)relay->delays_ms[n - 1]);
    fprintf(out, "}\n");
    fflush(out);
    pthread_mutex_unlock(&relay->mutex);
}

/* ---- bytes on their way ---- */

/* Until the other side closes. */
static void hold(const struct connection *c)
{
    poll(&(struct pollfd){.fd = c->client.fd, .events = POLLRDHUP}, 1, STALL_S * 1000);
}

/* false if the client goes away meanwhile. */
static bool wait_s(const struct connection *c, double seconds)
{
    struct pollfd end = {.fd = c->client.fd, .events = POLLRDHUP};

    return seconds <= 0 || poll(&end, 1, (int)(seconds * 1000 + 0.5)) == 0;
}

/* The end of the connection that a fault asks for. Always false. */
static bool end(struct connection *c, enum fault_kind kind)
{
    if (kind == FAULT_STALL)
        hold(c);
    fault_side_close(&c->client, kind == FAULT_RESET || kind == FAULT_LOSE);
    return false;
}

/* One run of data; false: the connection is over. */
static bool carry_data(struct connection *c, struct damage *damage, int to, unsigned char *data,
                       size_t bytes)
{
    const uint64_t begin = damage->reached;
    const bool here = damage->kind != FAULT_PASS && !damage->done && damage->at >= begin &&
                      damage->at - begin < bytes;

    damage->reached += bytes;
    if (here) {
        damage->done = true;
        if (damage->kind != FAULT_FLIP) {
            fault_send(to, data, (size_t)(damage->at - begin));
            /* A reset throws away what the other side has not read yet. */
            if (damage->kind == FAULT_RESET)
                clock_sleep_s(0.002);
            return end(c, damage->kind);
        }
        data[damage->at - begin] ^= (unsigned char)(1u << (damage->at % 8));
    }
    return fault_send(to, data, bytes);
}

/* A whole body. to -1: nowhere. */
static bool carry_body(struct connection *c, struct fault_side *from, int to,
                       struct fault_body *body, struct damage *damage)
{
    while (!body->done) {
        bool is_data;
        size_t n;

        if (from->begin == from->end && !fault_side_fill(from)) {
            body->done = body->framing == FAULT_BODY_TO_END;
            return body->done;
        }
        n = fault_body_run(body, from->data + from->begin, from->end - from->begin, &is_data);
        count_bytes(c->relay, to == c->client.fd, n);
        if (to >= 0 && !(is_data ? carry_data(c, damage, to, from->data + from->begin, n)
                                 : fault_send(to, from->data + from->begin, n)))
            return false;
        from->begin += n;
    }
    return true;
}

static uint64_t place_of(const struct fault *fault, uint64_t length)
{
    return fault->at_given ? fault->at : (uint64_t)(fault->place * (double)length);
}

/* ---- the server's side ---- */

static bool connect_up(struct connection *c)
{
    const struct fault_relay_options *o = &c->relay->options;
    const int on = 1;

    if (c->server.fd >= 0)
        return true;
    c->server.fd = socket(o->upstream.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->server.fd < 0)
        return false;
    setsockopt(c->server.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->server.fd, (const struct sockaddr *)&o->upstream, o->upstream_bytes) == 0)
        return true;
    fault_side_close(&c->server, false);
    return false;
}

/* A kept connection that the server has closed meanwhile is no fault of the plan's. */
static void check_kept(struct connection *c)
{
    char byte;

    if (c->server.fd >= 0 &&
        (c->server.begin != c->server.end ||
         recv(c->server.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN))
        fault_side_close(&c->server, false);
}

/* The request up, and the head of its answer into c->answer. */
static bool ask_server(struct connection *c, struct fault_body *body)
{
    struct damage damage = {.kind = c->fault.kind == FAULT_SPOIL ? FAULT_FLIP : FAULT_PASS};
    int status;

    check_kept(c);
    damage.at = place_of(&c->fault, body->length);
    if (!connect_up(c) || !fault_send(c->server.fd, c->head.data, c->head.bytes) ||
        !carry_body(c, &c->client, c->server.fd, body, &damage))
        return false;
    do {
        if (!fault_head_read(&c->server, &c->answer))
            return false;
        status = fault_head_status(&c->answer);
    } while (status / 100 == 1);
    return true;
}

/* ---- the client's side ---- */

static void error_document(const struct connection *c, struct buf *body)
{
    const struct fault *fault = &c->fault;

    buf_printf(body,
               "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
               "<Error><Code>%s</Code><Message>%s</Message>",
               fault->code, fault->message);
    if (fault->region[0] != '\0')
        buf_printf(body, "<Region>%s</Region>", fault->region);
    buf_printf(body, "<RequestId>FAULT%llu</RequestId></Error>", c->number);
}

static bool answer_here(struct connection *c)
{
    const struct fault *fault = &c->fault;
    const time_t now = time(NULL) + (time_t)fault->date_off_s;
    struct buf text = {0}, body = {0};
    char date[64];
    struct tm tm;
    bool sent;

    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    if (fault->kind == FAULT_STATUS && !fault->bare)
        error_document(c, &body);
    buf_printf(&text, "HTTP/1.1 %d Fault\r\nDate: %s\r\nContent-Length: %zu\r\n",
               fault->kind == FAULT_EMPTY ? 200 : fault->status, date, body.bytes);
    buf_printf(&text, "x-amz-request-id: FAULT%llu\r\n", c->number);
    if (fault->region[0] != '\0')
        buf_printf(&text, "x-amz-bucket-region: %s\r\n", fault->region);
    if (fault->location[0] != '\0')
        buf_printf(&text, "Location: %s\r\n", fault->location);
    if (fault->retry_after_s > 0)
        buf_printf(&text, "Retry-After: %g\r\n", fault->retry_after_s);
    buf_append(&text, "\r\n", 2);
    if (!c->head_only)
        buf_append(&text, body.data, body.bytes);
    sent = fault_send(c->client.fd, text.data, text.bytes);
    buf_release(&body);
    buf_release(&text);
    return sent;
}

/* The server's answer down, damaged as the fault asks. */
static bool pass_answer(struct connection *c)
{
    const int status = fault_head_status(&c->answer);
    struct damage damage = {.kind = FAULT_PASS};
    struct fault_body body;
    char value[64];
    bool closes;

    fault_body_init(&body, &c->answer, true);
    if (c->head_only || status == 204 || status == 304)
        body = (struct fault_body){.done = true};
    if (c->fault.kind == FAULT_RESET || c->fault.kind == FAULT_CUT ||
        c->fault.kind == FAULT_STALL || c->fault.kind == FAULT_FLIP)
        damage.kind = c->fault.kind;
    damage.at =
        place_of(&c->fault, body.framing == FAULT_BODY_LENGTH ? body.length : UNKNOWN_LENGTH);
    if (body.done && damage.kind != FAULT_PASS && damage.kind != FAULT_FLIP)
        return end(c, damage.kind);
    if (!fault_send(c->client.fd, c->answer.data, c->answer.bytes) ||
        !carry_body(c, &c->server, c->client.fd, &body, &damage))
        return false;
    if (damage.kind != FAULT_PASS && !damage.done)
        count_missed(c->relay);
    closes = body.framing == FAULT_BODY_TO_END ||
             (fault_head_value(&c->answer, "connection", value, sizeof value) &&
              strcasecmp(value, "close") == 0);
    return !closes && c->fault.kind != FAULT_DROP;
}

/* The answer is nobody's; but the server has to come to its end. */
static void swallow_answer(struct connection *c)
{
    struct damage none = {.kind = FAULT_PASS};
    struct fault_body body;

    fault_body_init(&body, &c->answer, true);
    if (!c->head_only)
        carry_body(c, &c->server, -1, &body, &none);
}

/* "GET /bucket/key HTTP/1.1": its words, cut out of a copy. */
static bool take_line(const struct buf *head, char **line, struct fault_request *request)
{
    const char *end_of_line = memchr(head->data, '\r', head->bytes);
    char *rest = NULL;

    *line = strndup((const char *)head->data, (size_t)(end_of_line - (const char *)head->data));
    if (*line == NULL)
        abort();
    request->method = strtok_r(*line, " ", &rest);
    request->target = strtok_r(NULL, " ", &rest);
    return request->target != NULL;
}

/* What the plan says about the request in c->head. */
static bool decide(struct connection *c)
{
    char range[128], key_id[128], region[64], *line;
    struct fault_request request = {.range = range, .key_id = key_id, .region = region};
    bool sound;

    fault_head_value(&c->head, "range", range, sizeof range);
    take_scope(&c->head, key_id, region);
    sound = take_line(&c->head, &line, &request);
    if (sound) {
        c->head_only = strcmp(request.method, "HEAD") == 0;
        choose(c, &request);
    }
    free(line);
    return sound;
}

/* One request; false when the connection is over. */
static bool serve_one(struct connection *c)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct damage none = {.kind = FAULT_PASS};
    struct fault_body body;
    char expect[32];
    enum fault_kind kind;
    bool answers, asks;

    if (!fault_head_read(&c->client, &c->head) || !decide(c))
        return false;
    kind = c->fault.kind;
    fault_body_init(&body, &c->head, false);
    if (fault_head_value(&c->head, "expect", expect, sizeof expect)) {
        fault_head_remove(&c->head, "expect");
        if (!fault_send(c->client.fd, go_on, sizeof go_on - 1))
            return false;
    }
    if (!wait_s(c, c->fault.delay_s))
        return false;
    answers = kind == FAULT_STATUS || kind == FAULT_EMPTY;
    asks = !(answers && !c->fault.after) && kind != FAULT_CLOSE && kind != FAULT_STALE;
    if (asks && !ask_server(c, &body))
        return false;
    if (!asks && !carry_body(c, &c->client, -1, &body, &none))
        return false;
    if (kind == FAULT_CLOSE || kind == FAULT_STALE)
        return end(c, kind);
    if (kind == FAULT_LOSE || answers) {
        if (asks)
            swallow_answer(c);
        return answers ? answer_here(c) : end(c, kind);
    }
    return pass_answer(c);
}

/* ---- bytes as they are ---- */

struct upward {
    struct connection *c;
    int from, to;
};

static void *carry_up(void *context)
{
    const struct upward *up = context;
    unsigned char data[65536];
    ssize_t n;

    while ((n = recv(up->from, data, sizeof data, 0)) > 0 && fault_send(up->to, data, (size_t)n))
        count_bytes(up->c->relay, false, (size_t)n);
    shutdown(up->to, SHUT_WR);
    return NULL;
}

static void tunnel(struct connection *c)
{
    const struct fault_request request = {
        .method = "CONNECTION", .target = "-", .range = "", .key_id = "", .region = ""};
    struct fault_body body = {.framing = FAULT_BODY_TO_END};
    struct damage damage = {.kind = FAULT_PASS};
    struct upward up = {.c = c};
    pthread_t thread;

    choose(c, &request);
    if (!wait_s(c, c->fault.delay_s) || c->fault.kind == FAULT_CLOSE || !connect_up(c))
        return;
    if (c->fault.kind == FAULT_RESET || c->fault.kind == FAULT_CUT ||
        c->fault.kind == FAULT_STALL || c->fault.kind == FAULT_FLIP)
        damage.kind = c->fault.kind;
    damage.at = place_of(&c->fault, TUNNEL_LENGTH);
    up.from = dup(c->client.fd); /* the other thread closes its own */
    up.to = dup(c->server.fd);
    if (up.from < 0 || up.to < 0 || pthread_create(&thread, NULL, carry_up, &up) != 0)
        abort();
    carry_body(c, &c->server, c->client.fd, &body, &damage);
    shutdown(up.from, SHUT_RDWR);
    shutdown(up.to, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(up.from);
    close(up.to);
}

static void *serve(void *context)
{
    struct connection *c = context;

    if (c->relay->options.tunnel)
        tunnel(c);
    else
        while (serve_one(c))
            ;
    fault_side_close(&c->client, false);
    fault_side_close(&c->server, false);
    buf_release(&c->head);
    buf_release(&c->answer);
    free(c);
    return NULL;
}

void fault_relay_serve(struct fault_relay *relay, int fd)
{
    struct connection *c = malloc(sizeof *c);
    pthread_attr_t detached;
    pthread_t thread;
    const int on = 1;

    if (c == NULL)
        abort();
    memset(c, 0, offsetof(struct connection, client));
    c->relay = relay;
    c->client.fd = fd;
    c->server.fd = -1;
    c->client.begin = c->client.end = c->server.begin = c->server.end = 0;
    c->head = c->answer = (struct buf){0};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    pthread_mutex_lock(&relay->mutex);
    c->number = ++relay->counts.connections;
    pthread_mutex_unlock(&relay->mutex);
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &detached, serve, c) != 0)
        abort();
    pthread_attr_destroy(&detached);
}
