/* tests/launcher/test_channel.c -- both ends of a channel, and whoever stands between them. */
#include "launcher/channel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"

#define PUMPS 20

static const unsigned char key[LAUNCH_KEY_BYTES] = "the key of this job, 32 bytes..",
                           other_key[LAUNCH_KEY_BYTES] = "another job's key, 32 bytes....";

/* Two channels and what goes between them: (caller)-a1  a0-(we)-b0  b1-(called). */
struct wire {
    struct launch_channel *caller, *called;
    int at_caller, at_called;
};

static void wire_open(struct wire *wire, const unsigned char *caller_key)
{
    int a[2], b[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, a), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, b), 0);
    wire->caller = launch_channel_new(a[1], LAUNCH_CALLER, caller_key);
    wire->called = launch_channel_new(b[1], LAUNCH_CALLED, key);
    wire->at_caller = a[0];
    wire->at_called = b[0];
}

static void wire_close(struct wire *wire)
{
    launch_channel_free(wire->caller);
    launch_channel_free(wire->called);
    close(wire->at_caller);
    close(wire->at_called);
}

/* Carry what there is from one socket to the other; returns how much, and where it is kept. */
static size_t carry(int from, int to, unsigned char *bytes, size_t room)
{
    const ssize_t got = recv(from, bytes, room, MSG_DONTWAIT);

    if (got <= 0)
        return 0;
    assert_int_equal(send(to, bytes, (size_t)got, MSG_NOSIGNAL), got);
    return (size_t)got;
}

static void pump(struct wire *wire)
{
    unsigned char bytes[4096];

    for (int i = 0; i < PUMPS; i++) {
        launch_channel_pump(wire->caller, NULL);
        carry(wire->at_caller, wire->at_called, bytes, sizeof bytes);
        launch_channel_pump(wire->called, NULL);
        carry(wire->at_called, wire->at_caller, bytes, sizeof bytes);
    }
}

static json_t *numbered(int number)
{
    return json_pack("{s:i}", "number", number);
}

static int next_number(struct launch_channel *channel, struct err *err)
{
    json_t *message = launch_channel_next(channel, err);
    const int number =
        message == NULL ? -1 : (int)json_integer_value(json_object_get(message, "number"));

    json_decref(message);
    return number;
}

static void channel_carries_messages_both_ways_in_order(void **state)
{
    struct wire wire;
    struct err err = {0};

    (void)state;
    wire_open(&wire, key);
    launch_channel_send(wire.caller, numbered(1), &err); /* before the greeting: it waits */
    pump(&wire);
    assert_true(launch_channel_authentic(wire.caller));
    assert_true(launch_channel_authentic(wire.called));
    launch_channel_send(wire.caller, numbered(2), &err);
    launch_channel_send(wire.called, numbered(3), &err);
    launch_channel_send(wire.called, numbered(4), &err);
    pump(&wire);
    assert_int_equal(next_number(wire.called, &err), 1);
    assert_int_equal(next_number(wire.called, &err), 2);
    assert_int_equal(next_number(wire.called, &err), -1);
    assert_int_equal(next_number(wire.caller, &err), 3);
    assert_int_equal(next_number(wire.caller, &err), 4);
    assert_int_equal(err.code, ERR_NONE);
    assert_true(launch_channel_flushed(wire.caller));
    wire_close(&wire);
}

/* Many small pieces, as a slow network or an attacker sends them. */
static void channel_takes_bytes_one_by_one(void **state)
{
    struct wire wire;
    struct err err = {0};
    unsigned char byte[1];

    (void)state;
    wire_open(&wire, key);
    launch_channel_send(wire.caller, numbered(7), &err);
    for (int i = 0; i < 600; i++) {
        assert_int_equal(launch_channel_pump(wire.caller, &err), 0);
        carry(wire.at_caller, wire.at_called, byte, 1);
        assert_int_equal(launch_channel_pump(wire.called, &err), 0);
        carry(wire.at_called, wire.at_caller, byte, 1);
    }
    assert_int_equal(next_number(wire.called, &err), 7);
    wire_close(&wire);
}

static void channel_refuses_another_key_at_both_ends(void **state)
{
    unsigned char bytes[4096];
    struct wire wire;
    struct err err = {0};

    (void)state;
    wire_open(&wire, other_key);
    launch_channel_pump(wire.caller, &err);
    carry(wire.at_caller, wire.at_called, bytes, sizeof bytes);
    launch_channel_pump(wire.called, &err);
    carry(wire.at_called, wire.at_caller, bytes, sizeof bytes);
    assert_int_equal(launch_channel_pump(wire.caller, &err), -1);
    assert_non_null(strstr(err.msg, "key"));
    assert_false(launch_channel_authentic(wire.caller));
    /* A caller that goes on all the same, with a proof of its own making. */
    memset(bytes, 7, 32);
    assert_int_equal(send(wire.at_called, bytes, 32, 0), 32);
    assert_int_equal(launch_channel_pump(wire.called, &err), -1);
    assert_non_null(strstr(err.msg, "key"));
    assert_false(launch_channel_authentic(wire.called));
    wire_close(&wire);
}

/* The called one's proof sent back to it must not pass for the caller's. */
static void channel_refuses_its_own_proof_sent_back(void **state)
{
    unsigned char hello[40] = "CONVOY1\n", answer[64];
    struct wire wire;
    struct err err = {0};

    (void)state;
    wire_open(&wire, key);
    assert_int_equal(send(wire.at_called, hello, sizeof hello, 0), sizeof hello);
    assert_int_equal(launch_channel_pump(wire.called, &err), 0);
    assert_int_equal(recv(wire.at_called, answer, sizeof answer, MSG_DONTWAIT), sizeof answer);
    assert_int_equal(send(wire.at_called, answer + 32, 32, 0), 32);
    assert_int_equal(launch_channel_pump(wire.called, &err), -1);
    assert_false(launch_channel_authentic(wire.called));
    wire_close(&wire);
}

static void channel_refuses_garbage_at_its_first_byte(void **state)
{
    static const char *const garbage[] = {"GET / HTTP/1.1\r\n", "C0NVOY", "\x16\x03\x01",
                                          "CONVOY2\n"};

    (void)state;
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        struct wire wire;
        struct err err = {0};

        wire_open(&wire, key);
        assert_true(send(wire.at_called, garbage[i], strlen(garbage[i]), 0) > 0);
        assert_int_equal(launch_channel_pump(wire.called, &err), -1);
        assert_int_equal(err.code, ERR_PEER);
        wire_close(&wire);
    }
}

/* All that a caller once sent, sent again to a new channel: its nonce is another. */
static void channel_refuses_a_recorded_connection(void **state)
{
    unsigned char record[4096], bytes[4096];
    struct wire wire;
    struct err err = {0};
    size_t recorded = 0;

    (void)state;
    wire_open(&wire, key);
    launch_channel_send(wire.caller, numbered(1), &err);
    for (int i = 0; i < PUMPS; i++) {
        launch_channel_pump(wire.caller, NULL);
        recorded +=
            carry(wire.at_caller, wire.at_called, record + recorded, sizeof record - recorded);
        launch_channel_pump(wire.called, NULL);
        carry(wire.at_called, wire.at_caller, bytes, sizeof bytes);
    }
    assert_int_equal(next_number(wire.called, &err), 1);
    wire_close(&wire);

    wire_open(&wire, key);
    assert_int_equal(send(wire.at_called, record, recorded, 0), recorded);
    while (launch_channel_pump(wire.called, &err) == 0)
        ;
    assert_non_null(strstr(err.msg, "key"));
    assert_int_equal(next_number(wire.called, &err), -1);
    wire_close(&wire);
}

/* Carry one frame from the caller, change it or not, and see what the called one makes of it. */
static void channel_refuses_a_frame_that_comes_twice_or_changed(void **state)
{
    (void)state;
    for (size_t flip = 0; flip < 60; flip++) {
        unsigned char frame[4096];
        struct wire wire;
        struct err err = {0};
        ssize_t bytes;

        wire_open(&wire, key);
        pump(&wire);
        launch_channel_send(wire.caller, numbered(5), &err);
        launch_channel_pump(wire.caller, &err);
        bytes = recv(wire.at_caller, frame, sizeof frame, MSG_DONTWAIT);
        assert_true(bytes > 36);
        if (flip == 0) { /* as it is, but twice */
            assert_int_equal(send(wire.at_called, frame, (size_t)bytes, 0), bytes);
            launch_channel_pump(wire.called, &err);
            assert_int_equal(next_number(wire.called, &err), 5);
        } else if (flip < (size_t)bytes) {
            frame[flip] ^= 1; /* payload or tag, or the length's last bytes */
        }
        assert_int_equal(send(wire.at_called, frame, (size_t)bytes, 0), bytes);
        launch_channel_pump(wire.called, &err);
        assert_int_equal(next_number(wire.called, &err), flip >= (size_t)bytes ? 5 : -1);
        if (flip == 0 || (flip > 3 && flip < (size_t)bytes))
            assert_int_equal(err.code, ERR_PEER);
        wire_close(&wire);
    }
}

/* Frames of one direction are worth nothing in the other. */
static void channel_refuses_its_own_frame_sent_back(void **state)
{
    unsigned char frame[4096];
    struct wire wire;
    struct err err = {0};
    ssize_t bytes;

    (void)state;
    wire_open(&wire, key);
    pump(&wire);
    launch_channel_send(wire.called, numbered(5), &err);
    launch_channel_pump(wire.called, &err);
    bytes = recv(wire.at_called, frame, sizeof frame, MSG_DONTWAIT);
    assert_true(bytes > 0);
    assert_int_equal(send(wire.at_called, frame, (size_t)bytes, 0), bytes);
    launch_channel_pump(wire.called, &err);
    assert_int_equal(next_number(wire.called, &err), -1);
    assert_int_equal(err.code, ERR_PEER);
    wire_close(&wire);
}

static void channel_refuses_a_frame_larger_than_the_limit(void **state)
{
    static const unsigned char heads[][4] = {
        {0, 1, 0, 1}, {0xff, 0xff, 0xff, 0xff}, {0x80, 0, 0, 0}};

    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        struct wire wire;
        struct err err = {0};

        wire_open(&wire, key);
        pump(&wire);
        assert_int_equal(send(wire.at_called, heads[i], 4, 0), 4);
        launch_channel_pump(wire.called, &err);
        assert_null(launch_channel_next(wire.called, &err));
        assert_int_equal(err.code, ERR_PEER);
        assert_non_null(strstr(err.msg, "larger"));
        wire_close(&wire);
    }
}

static void channel_carries_a_frame_of_the_limit_and_refuses_to_send_more(void **state)
{
    char *text = malloc(LAUNCH_FRAME_BYTES_MAX + 1);
    const size_t around = strlen("{\"t\":\"\"}");
    struct wire wire;
    struct err err = {0};
    json_t *message = NULL;

    (void)state;
    memset(text, 'x', LAUNCH_FRAME_BYTES_MAX);
    text[LAUNCH_FRAME_BYTES_MAX - around] = '\0';
    wire_open(&wire, key);
    pump(&wire);
    assert_int_equal(launch_channel_send(wire.caller, json_pack("{s:s}", "t", text), &err), 0);
    for (int i = 0; i < PUMPS && message == NULL; i++) {
        pump(&wire);
        message = launch_channel_next(wire.called, &err);
    }
    assert_non_null(message);
    assert_string_equal(json_string_value(json_object_get(message, "t")), text);
    json_decref(message);
    text[LAUNCH_FRAME_BYTES_MAX - around] = 'x';
    text[LAUNCH_FRAME_BYTES_MAX - around + 1] = '\0';
    assert_int_equal(launch_channel_send(wire.caller, json_pack("{s:s}", "t", text), &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_int_equal(launch_channel_send(wire.caller, json_pack("{s:s}", "t", "\xff"), &err), -1);
    wire_close(&wire);
    free(text);
}

static void channel_says_that_the_other_end_is_gone(void **state)
{
    struct wire wire;
    struct err err = {0};
    unsigned char bytes[4096];

    (void)state;
    wire_open(&wire, key);
    pump(&wire);
    launch_channel_send(wire.caller, numbered(9), &err);
    launch_channel_pump(wire.caller, &err);
    carry(wire.at_caller, wire.at_called, bytes, sizeof bytes);
    shutdown(wire.at_called, SHUT_WR);
    assert_int_equal(launch_channel_pump(wire.called, &err), -1);
    assert_non_null(strstr(err.msg, "closed"));
    assert_int_equal(next_number(wire.called, NULL), 9); /* what came before counts */
    wire_close(&wire);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(channel_carries_messages_both_ways_in_order),
        cmocka_unit_test(channel_takes_bytes_one_by_one),
        cmocka_unit_test(channel_refuses_another_key_at_both_ends),
        cmocka_unit_test(channel_refuses_its_own_proof_sent_back),
        cmocka_unit_test(channel_refuses_garbage_at_its_first_byte),
        cmocka_unit_test(channel_refuses_a_recorded_connection),
        cmocka_unit_test(channel_refuses_a_frame_that_comes_twice_or_changed),
        cmocka_unit_test(channel_refuses_its_own_frame_sent_back),
        cmocka_unit_test(channel_refuses_a_frame_larger_than_the_limit),
        cmocka_unit_test(channel_carries_a_frame_of_the_limit_and_refuses_to_send_more),
        cmocka_unit_test(channel_says_that_the_other_end_is_gone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
