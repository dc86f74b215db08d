/* tests/lab/test_fault_http.c -- heads, and where bodies end, however the bytes arrive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "tests/lab/fault_http.h"

static void head_of(struct buf *head, const char *text)
{
    head->bytes = 0;
    buf_append(head, text, strlen(text));
}

/* The data of a body whose bytes come in pieces; what is behind it stays. */
static void expect_body(const char *head_text, const char *text, size_t piece, const char *data,
                        const char *behind)
{
    struct buf head = {0}, got = {0};
    struct fault_body body;
    const char *at = text;

    head_of(&head, head_text);
    fault_body_init(&body, &head, true);
    while (!body.done && *at != '\0') {
        const size_t left = strlen(at);
        bool is_data;
        const size_t n =
            fault_body_run(&body, (const unsigned char *)at, left < piece ? left : piece, &is_data);

        assert_true(n > 0);
        if (is_data)
            buf_append(&got, at, n);
        at += n;
    }
    assert_true(body.done || body.framing == FAULT_BODY_TO_END);
    assert_string_equal(buf_text(&got), data);
    assert_string_equal(at, behind);
    buf_release(&got);
    buf_release(&head);
}

static void body_ends_where_its_framing_says(void **state)
{
    (void)state;
    for (size_t piece = 1; piece < 40; piece++) {
        expect_body("HTTP/1.1 200 OK\r\ncontent-LENGTH:  5\r\n\r\n", "helloHTTP/1.1", piece,
                    "hello", "HTTP/1.1");
        expect_body("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1", piece, "",
                    "HTTP/1.1");
        expect_body("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                    "5\r\nhello\r\n0A;x=abc\r\n, 0\r\nworld\r\n0\r\nTrailer: a\r\n\r\nHTTP/1.1",
                    piece, "hello, 0\r\nworld", "HTTP/1.1");
        expect_body("HTTP/1.1 200 OK\r\n\r\n", "all of it", piece, "all of it", "");
    }
}

static void head_gives_its_values_and_loses_a_line(void **state)
{
    struct buf head = {0};
    char value[16];

    (void)state;
    head_of(&head, "PUT /b/k HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nX-Expect: no\r\n\r\n");
    assert_true(fault_head_value(&head, "expect", value, sizeof value));
    assert_string_equal(value, "100-continue");
    fault_head_remove(&head, "expect");
    assert_string_equal(buf_text(&head), "PUT /b/k HTTP/1.1\r\nHost: h\r\nX-Expect: no\r\n\r\n");
    assert_false(fault_head_value(&head, "expect", value, sizeof value));
    assert_string_equal(value, "");
    head_of(&head, "HTTP/1.1 206 Partial Content\r\nDate: a time that is too long\r\n\r\n");
    assert_int_equal(fault_head_status(&head), 206);
    assert_true(fault_head_value(&head, "date", value, sizeof value));
    assert_string_equal(value, "a time that is ");
    buf_release(&head);
}

static void heads_are_read_one_after_the_other(void **state)
{
    static const char text[] = "GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\nA: b\r\n\r\nGET /3";
    static struct fault_side side;
    struct buf head = {0};
    int ends[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_true(fault_send(ends[1], text, strlen(text)));
    close(ends[1]);
    side.fd = ends[0];
    assert_true(fault_head_read(&side, &head));
    assert_string_equal(buf_text(&head), "GET /1 HTTP/1.1\r\n\r\n");
    assert_true(fault_head_read(&side, &head));
    assert_string_equal(buf_text(&head), "GET /2 HTTP/1.1\r\nA: b\r\n\r\n");
    assert_false(fault_head_read(&side, &head));
    fault_side_close(&side, true);
    buf_release(&head);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(body_ends_where_its_framing_says),
        cmocka_unit_test(head_gives_its_values_and_loses_a_line),
        cmocka_unit_test(heads_are_read_one_after_the_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
