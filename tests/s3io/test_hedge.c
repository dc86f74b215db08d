/* tests/s3io/test_hedge.c -- ranges that are slow, and what asking for them twice brings. */
#include "s3io/hedge.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/err.h"
#include "faults.h"
#include "place.h"
#include "s3io/object.h"
#include "s3io/request.h"

#define KNOWN 20 /* quick ranges first: as many as a hedge needs */
#define ANSWER(etag, body)                                                                         \
    "HTTP/1.1 206 Partial Content\r\nETag: \"" etag "\"\r\nContent-Range: bytes 0-4/10\r\n"        \
    "Content-Length: 5\r\n\r\n" body
#define HELLO ANSWER("e", "hello")
#define SLOW                                                                                       \
    {                                                                                              \
        .text = ANSWER("e", "hel"), .then = FAULT_HOLD                                             \
    }

static struct faults *faults;
static struct fault_step steps[KNOWN + 16];
static struct s3_client *client;
static struct err err;

static int read_hello(void)
{
    uint32_t crc32c = 1;
    const struct s3_get get = {.bucket = "imgs", .key = "k", .bytes = 5, .crc32c = &crc32c};
    char out[6] = "";
    const int rc = s3_object_read(client, &get, out, NULL, &err);

    if (rc == S3_YES) {
        assert_string_equal(out, "hello");
        assert_int_equal(crc32c, digest_crc32c(0, "hello", 5));
    }
    return rc;
}

/* A server that answers KNOWN requests at once and then as `then` says, and a client that has seen
 * the former. */
static void begin_with(const struct fault_step *then, size_t count)
{
    struct s3_client_options options = {0};

    for (size_t i = 0; i < KNOWN; i++)
        steps[i] = (struct fault_step){.text = HELLO};
    memcpy(steps + KNOWN, then, count * sizeof *then);
    err = (struct err){0};
    faults = faults_start(steps, KNOWN + count);
    options.endpoint = faults_url(faults);
    assert_int_equal(s3_client_open(&client, &options, &err), 0);
    client->backoff_s = 0.001;
    client->stall_s = 0.6;
    client->hedge.min_s = 0.1;
    for (int i = 0; i < KNOWN; i++)
        assert_int_equal(read_hello(), S3_YES);
}
#define BEGIN(...)                                                                                 \
    begin_with((const struct fault_step[]){__VA_ARGS__},                                           \
               sizeof(const struct fault_step[]){__VA_ARGS__} / sizeof(struct fault_step))

static void end(unsigned requests, unsigned hedged, unsigned retries)
{
    struct s3_client_stats stats;

    s3_client_stats(client, &stats);
    assert_int_equal(stats.requests, KNOWN + requests);
    assert_int_equal(stats.hedged, hedged);
    assert_int_equal(stats.retries, retries);
    s3_client_close(client);
    faults_stop(faults);
}

static void hedge_asks_again_on_another_connection_and_takes_that_answer(void **state)
{
    double begun;

    (void)state;
    BEGIN(SLOW, {.text = HELLO});
    begun = clock_now_s();
    assert_int_equal(read_hello(), S3_YES);
    assert_true(clock_now_s() - begun < client->stall_s);
    assert_int_equal(faults_requests(faults), KNOWN + 2);
    assert_int_equal(faults_connections(faults), 2);
    assert_int_equal(read_hello(), S3_YES); /* and the connections that are left serve */
    end(3, 1, 0);
}

static void hello_once_there_is_a_second(struct faults *server, struct buf *out)
{
    faults_await_second(server);
    buf_printf(out, "%s", HELLO);
}

static void hedge_takes_the_first_answer_where_that_is_sooner(void **state)
{
    (void)state;
    BEGIN({.make = hello_once_there_is_a_second}, {.text = NULL, .then = FAULT_HOLD});
    assert_int_equal(read_hello(), S3_YES);
    end(2, 1, 0);
}

static void hedge_waits_for_the_other_when_one_fails(void **state)
{
    (void)state;
    BEGIN({.make = hello_once_there_is_a_second},
          {.text = "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n"});
    assert_int_equal(read_hello(), S3_YES);
    assert_true(client->hedge.quiet_until_s > clock_now_s()); /* the server has too much to do */
    end(2, 1, 0);
}

static void hedge_is_tried_again_when_both_fail(void **state)
{
    (void)state;
    BEGIN(SLOW, {.text = "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n"},
          {.text = "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes 3-4/10\r\n"
                   "Content-Length: 2\r\n\r\nlo"});
    assert_int_equal(read_hello(), S3_YES);
    assert_non_null(strcasestr(faults_request(faults, KNOWN + 2), "\r\nrange: bytes=3-4\r\n"));
    end(3, 1, 1);
}

/* --- two answers at the same time --- */

/* A server for one range that is asked for twice: what each of the two is sent, and when. */
struct duet {
    int listener;
    const struct line {
        int who; /* 0: the first request, 1: the second */
        const char *text;
    } * lines;
    size_t count;
};

static int take_request(const struct duet *duet)
{
    const int fd = accept(duet->listener, NULL, NULL);
    char text[4096];
    size_t used = 0;

    while (used < 4 || memcmp(text + used - 4, "\r\n\r\n", 4) != 0) {
        const ssize_t n = recv(fd, text + used, sizeof text - used, 0);

        if (n <= 0)
            abort();
        used += (size_t)n;
    }
    return fd;
}

static void *sing(void *context)
{
    const struct duet *const duet = context;
    int fds[2];

    for (int i = 0; i < 2; i++)
        fds[i] = take_request(duet);
    for (size_t i = 0; i < duet->count; i++) {
        const char *const text = duet->lines[i].text;

        (void)!send(fds[duet->lines[i].who], text, strlen(text), MSG_NOSIGNAL);
        clock_sleep_s(0.03); /* it has been read by then, most likely */
    }
    close(fds[0]);
    close(fds[1]);
    return NULL;
}

static void hedge_keeps_each_byte_of_the_answer_that_had_it_first(void **state)
{
    static const struct line lines[] = {{0, ANSWER("e", "h")},
                                        {1, ANSWER("e", "hell")},
                                        {0, "e"},
                                        {0, "x"}, /* flipped, and late */
                                        {1, "o"}};
    struct duet duet = {.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
                        .lines = lines,
                        .count = sizeof lines / sizeof *lines};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t bytes = sizeof address;
    struct s3_client_options options = {0};
    char url[64];
    pthread_t thread;

    (void)state;
    assert_int_equal(bind(duet.listener, (struct sockaddr *)&address, bytes), 0);
    assert_int_equal(listen(duet.listener, 4), 0);
    assert_int_equal(getsockname(duet.listener, (struct sockaddr *)&address, &bytes), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%d", ntohs(address.sin_port));
    options.endpoint = url;
    assert_int_equal(s3_client_open(&client, &options, &err), 0);
    client->hedge.min_s = 0.05;
    for (int i = 0; i < KNOWN; i++)
        s3_hedge_note(&client->hedge, 5, 0.001);
    assert_int_equal(pthread_create(&thread, NULL, sing, &duet), 0);
    assert_int_equal(read_hello(), S3_YES); /* bytes and checksum */
    pthread_join(thread, NULL);
    s3_client_close(client);
    close(duet.listener);
}

static void hedge_never_mixes_two_versions(void **state)
{
    (void)state;
    BEGIN(SLOW, {.text = ANSWER("f", "other")});
    assert_int_equal(read_hello(), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, "replaced while it was read"));
    end(2, 1, 0);
}

static void hedge_is_one_request_in_twenty_at_most(void **state)
{
    (void)state;
    BEGIN(SLOW, {.text = HELLO}, SLOW,
          {.text = "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes 3-4/10\r\n"
                   "Content-Length: 2\r\n\r\nlo"});
    assert_int_equal(read_hello(), S3_YES);
    assert_int_equal(read_hello(), S3_YES); /* by a stall and a retry */
    end(4, 1, 1);
}

/* What a request asks for: the first bytes, or the rest of them. */
static void hello_or_its_rest(struct faults *server, struct buf *out)
{
    const char *const request = faults_request(server, faults_requests(server) - 1);

    if (strcasestr(request, "bytes=3-4") != NULL)
        buf_printf(out, "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes 3-4/10\r\n"
                        "Content-Length: 2\r\n\r\nlo");
    else
        buf_printf(out, "%s", HELLO);
}

static void *read_in_thread(void *context)
{
    struct err why = {0};
    const struct s3_get get = {.bucket = "imgs", .key = "k", .bytes = 5};
    char out[6] = "";

    *(int *)context = s3_object_read(client, &get, out, NULL, &why);
    return NULL;
}

/* All are slow at the same time, as in a server that has too much to do. */
static void hedge_is_for_one_in_twenty_also_of_those_in_flight_together(void **state)
{
    pthread_t threads[8];
    int rcs[8];
    struct s3_client_stats stats;

    (void)state;
    BEGIN(SLOW, SLOW, SLOW, SLOW, SLOW, SLOW, SLOW, SLOW, {.make = hello_or_its_rest});
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_in_thread, &rcs[i]), 0);
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(rcs[i], S3_YES);
    }
    s3_client_stats(client, &stats);
    assert_int_equal(stats.hedged, 1);
    s3_client_close(client);
    faults_stop(faults);
}

static void hedge_is_none_while_the_server_has_too_much_to_do(void **state)
{
    (void)state;
    BEGIN({.text = "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n"}, {.text = HELLO}, SLOW,
          {.make = hello_or_its_rest});
    assert_int_equal(read_hello(), S3_YES);
    assert_int_equal(read_hello(), S3_YES); /* by a stall and a retry */
    end(4, 0, 2);
}

static void hedge_credit_is_saved_up_for_two_at_most(void **state)
{
    struct s3_hedge hedge;

    (void)state;
    s3_hedge_init(&hedge);
    assert_false(s3_hedge_take(&hedge));
    for (int i = 0; i < 1000; i++)
        s3_hedge_note(&hedge, 1, 0.001);
    assert_true(s3_hedge_take(&hedge));
    assert_true(s3_hedge_take(&hedge));
    assert_false(s3_hedge_take(&hedge));
    for (int i = 0; i < S3_HEDGE_SHARE; i++)
        s3_hedge_note(&hedge, 1, 0.001);
    hedge.quiet_s = 0.05;
    s3_hedge_quiet(&hedge);
    assert_false(s3_hedge_take(&hedge));
    clock_sleep_s(0.06);
    assert_true(s3_hedge_take(&hedge));
    s3_hedge_release(&hedge);
}

static void hedge_waits_for_twice_what_ranges_of_that_size_take(void **state)
{
    struct s3_hedge hedge;

    (void)state;
    s3_hedge_init(&hedge);
    for (int i = 0; i < S3_HEDGE_SAMPLES - 1; i++)
        s3_hedge_note(&hedge, 1 << 20, 0.1);
    for (int i = 0; i < 100; i++)
        s3_hedge_note(&hedge, 1 << 10, 0.001);
    assert_true(s3_hedge_after_s(&hedge, 1 << 20) == 0); /* too few of them are known */
    s3_hedge_note(&hedge, 1 << 20, 9.0);                 /* one in 16 says nothing yet */
    assert_float_equal(s3_hedge_after_s(&hedge, (1 << 20) + 5), 0.2, 1e-6);
    assert_float_equal(s3_hedge_after_s(&hedge, 1 << 10), S3_HEDGE_MIN_S, 1e-6);
    assert_true(s3_hedge_after_s(&hedge, 1 << 25) == 0);
    for (int i = 0; i < S3_HEDGE_MEMORY; i++)
        s3_hedge_note(&hedge, 1 << 20, 0.5); /* slower now, all of them */
    assert_float_equal(s3_hedge_after_s(&hedge, 1 << 20), 1.0, 1e-6);
    s3_hedge_release(&hedge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hedge_asks_again_on_another_connection_and_takes_that_answer),
        cmocka_unit_test(hedge_takes_the_first_answer_where_that_is_sooner),
        cmocka_unit_test(hedge_waits_for_the_other_when_one_fails),
        cmocka_unit_test(hedge_is_tried_again_when_both_fail),
        cmocka_unit_test(hedge_keeps_each_byte_of_the_answer_that_had_it_first),
        cmocka_unit_test(hedge_never_mixes_two_versions),
        cmocka_unit_test(hedge_is_one_request_in_twenty_at_most),
        cmocka_unit_test(hedge_is_for_one_in_twenty_also_of_those_in_flight_together),
        cmocka_unit_test(hedge_is_none_while_the_server_has_too_much_to_do),
        cmocka_unit_test(hedge_credit_is_saved_up_for_two_at_most),
        cmocka_unit_test(hedge_waits_for_twice_what_ranges_of_that_size_take),
    };

    return cmocka_run_group_tests_name("s3io/hedge", tests, place_setup, place_teardown);
}
