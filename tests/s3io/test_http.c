/* tests/s3io/test_http.c -- one exchange, against a server that answers badly. */
#include "s3io/http.h"

#include <dlfcn.h>
#include <netdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "faults.h"

/* What libcurl's resolver asks is asked here first. */
static volatile sig_atomic_t silent_is_over;

static int ask_libc(const char *node, const char *service, const struct addrinfo *hints,
                    struct addrinfo **out)
{
    int (*ask)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

    *(void **)&ask = dlsym(RTLD_NEXT, "getaddrinfo");
    return ask(node, service, hints, out);
}

/* "silent.test" is not answered for; "many.test" has 8 addresses; "moves.test" is at another one
 * each time. */
/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): those are libc's own */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **out)
{
    static int moves;
    struct addrinfo **end = out;
    char moved[16];

    if (node != NULL && strcmp(node, "moves.test") == 0) {
        snprintf(moved, sizeof moved, "127.0.0.%d",
                 1 + __atomic_add_fetch(&moves, 1, __ATOMIC_RELAXED) % 8);
        node = moved;
    }
    if (node == NULL)
        return ask_libc(node, service, hints, out);
    for (int i = 0; i < 50 && strcmp(node, "silent.test") == 0 &&
                    !__atomic_load_n(&silent_is_over, __ATOMIC_RELAXED);
         i++)
        clock_sleep_s(0.1);
    if (strcmp(node, "many.test") != 0)
        return ask_libc(node, service, hints, out);
    for (int i = 1; i <= 8; i++) {
        char address[16];

        snprintf(address, sizeof address, "127.0.0.%d", i);
        if (ask_libc(address, service, hints, end) != 0)
            abort();
        end = &(*end)->ai_next;
    }
    return 0;
}

#define SHORT_S 0.4 /* a limit that a test waits for */

/* What one call brought. */
struct outcome {
    int rc;
    struct s3_http_answer answer;
    struct err err;
};

static void call_end(struct outcome *outcome)
{
    s3_http_answer_release(&outcome->answer);
}

static struct outcome call_with(struct s3_http *http, struct faults *faults,
                                struct s3_http_call call)
{
    struct outcome outcome = {0};
    char url[128];

    snprintf(url, sizeof url, "%s/x", faults_url(faults));
    call.url = url;
    call.method = call.method != NULL ? call.method : "GET";
    outcome.rc = s3_http_send(http, &call, &outcome.answer, &outcome.err);
    return outcome;
}

/* One call on a connection of its own. */
static struct outcome call_once(const struct fault_step *step, struct s3_http_call call)
{
    struct faults *faults = faults_start(step, 1);
    struct s3_http *http = s3_http_new(NULL);
    struct outcome outcome = call_with(http, faults, call);

    s3_http_free(http);
    faults_stop(faults);
    return outcome;
}

static void http_hands_over_status_headers_and_body(void **state)
{
    const struct fault_step step = {.text = "HTTP/1.1 403 Forbidden\r\nX-Amz-Request-ID:  7QX2 \r\n"
                                            "Empty:\r\nContent-Length: 5\r\n\r\nhello"};
    struct outcome o = call_once(&step, (struct s3_http_call){0});
    char value[16] = "", cut[3];

    (void)state;
    assert_int_equal(o.rc, 0);
    assert_int_equal(o.answer.status, 403);
    assert_int_equal(o.answer.failure, S3_HTTP_ANSWERED);
    assert_string_equal(buf_text(&o.answer.body), "hello");
    assert_true(s3_http_header(&o.answer, "x-amz-request-id", value, sizeof value));
    assert_string_equal(value, "7QX2");
    assert_true(s3_http_header(&o.answer, "x-amz-request-id", cut, sizeof cut));
    assert_string_equal(cut, "7Q");
    assert_true(s3_http_header(&o.answer, "empty", value, sizeof value));
    assert_string_equal(value, "");
    assert_false(s3_http_header(&o.answer, "x-amz-request", value, sizeof value));
    call_end(&o);
}

static int sink_append(void *context, const struct s3_http_answer *answer, const void *data,
                       size_t bytes)
{
    (void)answer;
    buf_append(context, data, bytes);
    return 0;
}

static int sink_refuse(void *context, const struct s3_http_answer *answer, const void *data,
                       size_t bytes)
{
    (void)context, (void)answer, (void)data, (void)bytes;
    return -1;
}

static void http_gives_the_sink_bodies_of_successes_only(void **state)
{
    const struct fault_step good = {.text = "HTTP/1.1 206 OK\r\nContent-Length: 5\r\n\r\nhello"};
    const struct fault_step bad = {.text = "HTTP/1.1 503 Slow\r\nContent-Length: 5\r\n\r\nhello"};
    struct buf body = {0};
    struct s3_http_call call = {.sink = sink_append, .context = &body};
    struct outcome o = call_once(&good, call);

    (void)state;
    assert_int_equal(o.rc, 0);
    assert_string_equal(buf_text(&body), "hello");
    assert_int_equal(o.answer.body.bytes, 0);
    call_end(&o);
    o = call_once(&bad, call);
    assert_int_equal(o.rc, 0);
    assert_int_equal(body.bytes, 5);
    assert_string_equal(buf_text(&o.answer.body), "hello");
    call_end(&o);
    call.sink = sink_refuse;
    o = call_once(&good, call);
    assert_int_equal(o.rc, -1);
    assert_int_equal(o.answer.failure, S3_HTTP_ABORTED);
    call_end(&o);
    buf_release(&body);
}

static void http_sends_method_headers_and_body_as_given(void **state)
{
    const struct fault_step step = {.text = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"};
    const struct s3_pair headers[] = {{"x-a", "1"}, {"x-empty", ""}};
    struct faults *faults = faults_start(&step, 1);
    struct s3_http *http = s3_http_new(NULL);
    struct s3_http_call call = {
        .method = "PUT", .headers = headers, .header_count = 2, .body = "body", .body_bytes = 4};
    struct outcome o = call_with(http, faults, call);
    const char *request = faults_request(faults, 0);

    (void)state;
    assert_int_equal(o.rc, 0);
    assert_non_null(strstr(request, "PUT /x HTTP/1.1\r\n"));
    assert_non_null(strstr(request, "\r\nx-a: 1\r\n"));
    assert_non_null(strstr(request, "\r\nx-empty:\r\n"));
    assert_non_null(strstr(request, "\r\nUser-Agent: convoy/"));
    assert_non_null(strstr(request, "\r\nContent-Length: 4\r\n"));
    assert_non_null(strstr(request, "\r\n\r\nbody"));
    assert_null(strcasestr(request, "expect:")); /* it would cost a second where nobody knows it */
    assert_null(strcasestr(request, "content-type:"));
    assert_null(strcasestr(request, "accept"));
    call_end(&o);

    call = (struct s3_http_call){.method =
                                     "POST"}; /* without a body: its length is said all the same */
    o = call_with(http, faults, call);
    assert_non_null(strstr(faults_request(faults, 1), "\r\nContent-Length: 0\r\n"));
    call_end(&o);
    call.method = "DELETE";
    o = call_with(http, faults, call);
    assert_non_null(strstr(faults_request(faults, 2), "DELETE /x HTTP/1.1\r\n"));
    call_end(&o);
    assert_int_equal(faults_connections(faults), 1); /* kept */
    s3_http_free(http);
    faults_stop(faults);
}

static void http_refuses_a_header_with_a_line_break(void **state)
{
    const struct fault_step step = {.text = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"};
    const struct s3_pair header = {"x-a", "1\r\nx-b: 2"};
    struct outcome o =
        call_once(&step, (struct s3_http_call){.headers = &header, .header_count = 1});

    (void)state;
    assert_int_equal(o.rc, -1);
    assert_int_equal(o.answer.failure, S3_HTTP_OTHER);
    call_end(&o);
}

static void http_never_normalises_a_path(void **state)
{
    const struct fault_step step = {.text = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"};
    struct faults *faults = faults_start(&step, 1);
    struct s3_http *http = s3_http_new(NULL);
    struct s3_http_answer answer = {0};
    struct err err;
    char url[128];

    (void)state;
    snprintf(url, sizeof url, "%s/b/a/../b//./%%2E%%2e/c%%20d?x=%%2F", faults_url(faults));
    assert_int_equal(
        s3_http_send(http, &(struct s3_http_call){.method = "GET", .url = url}, &answer, &err), 0);
    assert_non_null(
        strstr(faults_request(faults, 0), "GET /b/a/../b//./%2E%2e/c%20d?x=%2F HTTP/1.1\r\n"));
    s3_http_answer_release(&answer);
    s3_http_free(http);
    faults_stop(faults);
}

/* Every one of them is a failure that may be tried again, and never a success. */
static void http_calls_a_damaged_answer_broken(void **state)
{
    static char many[300 << 10];
    const struct fault_step steps[] = {
        {.text = NULL, .then = FAULT_CLOSE},
        {.text = NULL, .then = FAULT_RESET},
        {.text = "HTTP/1.1 200 OK\r\nContent-Le", .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", .then = FAULT_RESET},
        {.text = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
         .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
         .then = FAULT_CLOSE},
        {.text = "SSH-2.0-OpenSSH_9.2\r\n", .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 100 Continue\r\n\r\n", .then = FAULT_CLOSE},
        {.text = many, .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 200 OK\r\n", .then = FAULT_HOLD},
        {.text = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", .then = FAULT_HOLD},
        {.text = NULL, .then = FAULT_HOLD},
    };
    size_t used = (size_t)sprintf(many, "HTTP/1.1 200 OK\r\n");

    (void)state;
    for (int i = 0; used < sizeof many - 200; i++)
        used += (size_t)sprintf(many + used, "x-header-%d: %0100d\r\n", i, i);
    strcpy(many + used, "\r\n");
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct outcome o = call_once(&steps[i], (struct s3_http_call){.stall_s = 0.1});

        if (o.rc != -1 || o.answer.failure != S3_HTTP_BROKEN || o.err.code != ERR_NET ||
            strstr(o.err.msg, "127.0.0.1:") == NULL)
            fail_msg("step %zu: rc %d, failure %d: %s", i, o.rc, (int)o.answer.failure, o.err.msg);
        call_end(&o);
    }
}

static void http_takes_a_slow_but_steady_answer(void **state)
{
    const struct fault_step step = {.text = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n"
                                            "12345678901234567890",
                                    .drip_s = 0.045}; /* in all more than twice the stall's limit */
    struct outcome o = call_once(&step, (struct s3_http_call){.stall_s = SHORT_S});

    (void)state;
    assert_int_equal(o.rc, 0);
    assert_string_equal(buf_text(&o.answer.body), "12345678901234567890");
    call_end(&o);
}

static void http_ends_an_answer_that_drips_below_a_byte_per_second(void **state)
{
    const struct fault_step step = {.text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
                                    .drip_s = 1.05};
    struct outcome o = call_once(&step, (struct s3_http_call){.stall_s = 1.1});

    (void)state;
    assert_int_equal(o.answer.failure, S3_HTTP_BROKEN);
    call_end(&o);
}

static void http_ends_a_body_for_the_sink_that_trickles(void **state)
{
    const struct fault_step step = {.text = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n"
                                            "12345678901234567890",
                                    .drip_s = 0.045}; /* which is good enough for a document */
    struct buf body = {0};
    struct outcome o = call_once(
        &step, (struct s3_http_call){.stall_s = SHORT_S, .sink = sink_append, .context = &body});

    (void)state;
    assert_int_equal(o.answer.failure, S3_HTTP_BROKEN);
    assert_true(body.bytes > 0 && body.bytes < 20);
    assert_null(strstr(o.err.msg, "nothing came"));
    assert_non_null(strstr(o.err.msg, " bytes/s went to and from 127.0.0.1:"));
    assert_non_null(strstr(o.err.msg, " for 0.4 s, and it takes 2048 at least"));
    call_end(&o);
    buf_release(&body);
}

static void http_keeps_to_the_time_in_all(void **state)
{
    const struct fault_step step = {.text =
                                        "HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n........"
                                        "................................................",
                                    .drip_s = 0.02};
    struct outcome o = call_once(&step, (struct s3_http_call){.total_s = SHORT_S});

    (void)state;
    assert_int_equal(o.answer.failure, S3_HTTP_BROKEN);
    call_end(&o);
}

static void http_tells_a_closed_kept_connection_from_a_broken_answer(void **state)
{
    const struct fault_step steps[] = {
        {.text = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
        {.text = NULL, .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
    };
    const char *methods[] = {"GET", "PUT"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct faults *faults = FAULTS(steps);
        struct s3_http *http = s3_http_new(NULL);
        struct s3_http_call call = {.method = methods[i]};
        struct outcome o = call_with(http, faults, call);

        assert_int_equal(o.rc, 0);
        call_end(&o);
        o = call_with(http, faults, call);
        assert_int_equal(o.rc, -1);
        assert_int_equal(o.answer.failure, S3_HTTP_STALE);
        assert_int_equal(faults_requests(faults), 2); /* not sent again behind our back */
        call_end(&o);
        o = call_with(http, faults, call);
        assert_int_equal(o.rc, 0);
        call_end(&o);
        s3_http_free(http);
        faults_stop(faults);
    }
}

static void http_names_host_and_port_of_a_server_that_is_down(void **state)
{
    const struct fault_step step = {.text = NULL};
    struct faults *faults = faults_start(&step, 1);
    struct s3_http *http = s3_http_new(NULL);
    struct s3_http_answer answer = {0};
    struct err err = {0};
    char url[64], place[64];
    struct s3_http_call call = {.method = "GET", .url = url};

    (void)state;
    snprintf(url, sizeof url, "%s/", faults_url(faults));
    snprintf(place, sizeof place, "127.0.0.1:%d", faults_port(faults));
    faults_stop(faults); /* nobody listens there now */
    assert_int_equal(s3_http_send(http, &call, &answer, &err), -1);
    assert_int_equal(answer.failure, S3_HTTP_CONNECT);
    assert_int_equal(err.code, ERR_NET);
    assert_non_null(strstr(err.msg, place));
    assert_non_null(strstr(err.msg, ": Connection refused"));

    call.url = "http://no-such-host.invalid/";
    assert_int_equal(s3_http_send(http, &call, &answer, &err), -1);
    assert_int_equal(answer.failure, S3_HTTP_CONNECT);
    assert_non_null(strstr(err.msg, "no-such-host.invalid:80"));
    call.url = "file:///etc/passwd";
    assert_int_equal(s3_http_send(http, &call, &answer, &err), -1);
    assert_int_equal(answer.failure, S3_HTTP_OTHER);
    s3_http_answer_release(&answer);
    s3_http_free(http);
}

static volatile sig_atomic_t cancel;

static int sink_cancel(void *context, const struct s3_http_answer *answer, const void *data,
                       size_t bytes)
{
    (void)context, (void)answer, (void)data, (void)bytes;
    cancel = 1;
    return 0;
}

static void http_ends_when_cancelled(void **state)
{
    const struct fault_step step = {.text = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
                                    .then = FAULT_HOLD};
    struct s3_http_call call = {.cancel = &cancel, .sink = sink_cancel};
    struct outcome o;

    (void)state;
    cancel = 0;
    o = call_once(&step, call); /* in the middle of the body */
    assert_int_equal(o.rc, -1);
    assert_int_equal(o.answer.failure, S3_HTTP_ABORTED);
    assert_int_equal(o.err.code, ERR_STOPPED);
    call_end(&o);
    o = call_once(&step, call); /* before */
    assert_int_equal(o.err.code, ERR_STOPPED);
    call_end(&o);
}

static void *cancel_soon(void *context)
{
    (void)context;
    clock_sleep_s(0.2);
    __atomic_store_n(&cancel, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void http_ends_in_time_while_nobody_answers_for_a_name(void **state)
{
    struct s3_http_call call = {.method = "GET", .url = "http://silent.test/", .connect_s = 0.2};
    struct s3_http *http = s3_http_new(NULL);
    struct outcome o = {0};
    double begun = clock_now_s();
    pthread_t thread;

    (void)state;
    __atomic_store_n(&silent_is_over, 0, __ATOMIC_RELAXED);
    assert_int_equal(s3_http_send(http, &call, &o.answer, &o.err), -1);
    assert_int_equal(o.answer.failure, S3_HTTP_CONNECT);
    assert_true(clock_now_s() - begun < 3);
    cancel = 0;
    call.connect_s = 0;
    call.cancel = &cancel;
    begun = clock_now_s();
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, NULL), 0);
    assert_int_equal(s3_http_send(http, &call, &o.answer, &o.err), -1);
    assert_int_equal(o.answer.failure, S3_HTTP_ABORTED);
    assert_true(clock_now_s() - begun < 3);
    pthread_join(thread, NULL);
    call_end(&o);
    s3_http_free(http);
    __atomic_store_n(&silent_is_over, 1, __ATOMIC_RELAXED); /* curl's threads that still ask */
    clock_sleep_s(0.3);
}

static bool always(void *context)
{
    (void)context;
    return true;
}

/* Curl keeps an address for a minute, but not beyond a failure. */
static void http_looks_a_name_up_anew_after_a_failure(void **state)
{
    const struct fault_step steps[] = {
        {.text = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
         .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
         .then = FAULT_CLOSE},
        {.text = NULL, .then = FAULT_CLOSE},
        {.text = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}};
    static const int addresses[] = {1, 1, 1, 2};
    struct faults *faults = FAULTS(steps);
    struct s3_http *http = s3_http_new(NULL);
    char url[64];
    const struct s3_http_call call = {.method = "GET", .url = url};

    (void)state;
    snprintf(url, sizeof url, "http://moves.test:%d/x", faults_port(faults));
    for (int i = 0; i < 4; i++) {
        struct outcome o = {0};

        assert_int_equal(s3_http_send(http, &call, &o.answer, &o.err), i == 2 ? -1 : 0);
        assert_int_equal(faults_addresses(faults), addresses[i]);
        call_end(&o);
    }
    s3_http_free(http);
    faults_stop(faults);
}

static void http_hedges_by_another_address_of_the_name(void **state)
{
    const struct fault_step steps[] = {{.text = NULL, .then = FAULT_HOLD},
                                       {.text = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}};
    int others = 0;

    (void)state;
    for (int i = 0; i < 8; i++) { /* the same one each time: once in 8^8 */
        struct faults *faults = FAULTS(steps);
        struct s3_http *http = s3_http_new(NULL);
        struct outcome o = {0};
        char url[64];
        const struct s3_http_call call = {
            .method = "GET", .url = url, .hedge_s = 0.05, .hedge_may = always};

        snprintf(url, sizeof url, "http://many.test:%d/x", faults_port(faults));
        assert_int_equal(s3_http_send(http, &call, &o.answer, &o.err), 0);
        assert_int_equal(faults_requests(faults), 2);
        others += faults_addresses(faults) == 2;
        call_end(&o);
        s3_http_free(http);
        faults_stop(faults);
    }
    assert_true(others > 0);
}

static void http_goes_through_a_proxy_unless_told_not_to(void **state)
{
    const struct fault_step step = {.text = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"};
    struct faults *proxy = faults_start(&step, 1), *server = faults_start(&step, 1);
    struct s3_http *with = s3_http_new(NULL);
    struct s3_http *without = s3_http_new(&(struct s3_http_options){.no_proxy = true});
    struct outcome o;

    (void)state;
    setenv("HTTP_PROXY", faults_url(proxy), 1);
    o = call_with(with, server, (struct s3_http_call){0});
    call_end(&o);
    assert_int_equal(faults_requests(server), 0);
    assert_non_null(strstr(faults_request(proxy, 0), "GET http://127.0.0.1:"));
    o = call_with(without, server, (struct s3_http_call){0});
    call_end(&o);
    assert_int_equal(faults_requests(server), 1);
    setenv("NO_PROXY", "127.0.0.1", 1);
    o = call_with(with, server, (struct s3_http_call){0});
    call_end(&o);
    assert_int_equal(faults_requests(server), 2);
    unsetenv("HTTP_PROXY");
    unsetenv("NO_PROXY");
    s3_http_free(with);
    s3_http_free(without);
    faults_stop(proxy);
    faults_stop(server);
}

static void http_asks_a_proxy_for_a_tunnel_to_an_https_server(void **state)
{
    const struct fault_step step = {
        .text = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"};
    const struct s3_http_call call = {.method = "GET", .url = "https://s3.example.com/x"};
    struct faults *proxy = faults_start(&step, 1);
    struct s3_http *http = s3_http_new(NULL);
    struct s3_http_answer answer = {0};
    struct err err = {0};

    (void)state;
    setenv("HTTPS_PROXY", faults_url(proxy), 1);
    assert_int_equal(s3_http_send(http, &call, &answer, &err), -1);
    assert_int_equal(answer.failure, S3_HTTP_CONNECT);
    assert_non_null(strstr(err.msg, "s3.example.com:443"));
    assert_non_null(strstr(err.msg, "407"));
    assert_non_null(strstr(faults_request(proxy, 0), "CONNECT s3.example.com:443 HTTP/1.1\r\n"));
    unsetenv("HTTPS_PROXY");
    s3_http_answer_release(&answer);
    s3_http_free(http);
    faults_stop(proxy);
}

static void http_spreads_connections_over_the_addresses_of_a_name(void **state)
{
    const struct fault_step step = {.text = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                                    .then = FAULT_CLOSE};
    struct faults *faults = faults_start(&step, 1);
    char url[64];

    (void)state;
    snprintf(url, sizeof url, "http://many.test:%d/x", faults_port(faults));
    for (int i = 0; i < 24; i++) { /* one address for all: once in 8^23 */
        const struct s3_http_call call = {.method = "GET", .url = url};
        struct s3_http *http = s3_http_new(NULL);
        struct outcome o = {0};

        assert_int_equal(s3_http_send(http, &call, &o.answer, &o.err), 0);
        call_end(&o);
        s3_http_free(http);
    }
    assert_true(faults_addresses(faults) > 1);
    faults_stop(faults);
}

int main(void)
{
    static const char *const unwanted[] = {"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY",
                                           "all_proxy",  "ALL_PROXY",  "no_proxy",    "NO_PROXY"};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(http_hands_over_status_headers_and_body),
        cmocka_unit_test(http_gives_the_sink_bodies_of_successes_only),
        cmocka_unit_test(http_sends_method_headers_and_body_as_given),
        cmocka_unit_test(http_refuses_a_header_with_a_line_break),
        cmocka_unit_test(http_never_normalises_a_path),
        cmocka_unit_test(http_calls_a_damaged_answer_broken),
        cmocka_unit_test(http_takes_a_slow_but_steady_answer),
        cmocka_unit_test(http_ends_an_answer_that_drips_below_a_byte_per_second),
        cmocka_unit_test(http_ends_a_body_for_the_sink_that_trickles),
        cmocka_unit_test(http_keeps_to_the_time_in_all),
        cmocka_unit_test(http_tells_a_closed_kept_connection_from_a_broken_answer),
        cmocka_unit_test(http_names_host_and_port_of_a_server_that_is_down),
        cmocka_unit_test(http_ends_when_cancelled),
        cmocka_unit_test(http_ends_in_time_while_nobody_answers_for_a_name),
        cmocka_unit_test(http_looks_a_name_up_anew_after_a_failure),
        cmocka_unit_test(http_hedges_by_another_address_of_the_name),
        cmocka_unit_test(http_goes_through_a_proxy_unless_told_not_to),
        cmocka_unit_test(http_asks_a_proxy_for_a_tunnel_to_an_https_server),
        cmocka_unit_test(http_spreads_connections_over_the_addresses_of_a_name),
    };

    for (size_t i = 0; i < sizeof unwanted / sizeof *unwanted; i++)
        unsetenv(unwanted[i]);
    return cmocka_run_group_tests_name("s3io/http", tests, NULL, NULL);
}
