/* tests/launcher/test_channel_fuzz.c -- what a channel makes of bytes that nobody meant: the same
 * bytes at every run. Under ASan and UBSan (preset asan) every access of it is checked too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/err.h"
#include "launcher/channel.h"

#define ROUNDS       1500
#define MESSAGES     4
#define STREAM_BYTES 2048
#define NONCE_BYTES  32
#define TAG_BYTES    32

static const unsigned char key[LAUNCH_KEY_BYTES] = "the key of this job, 32 bytes..";

/* Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8(14), 2003. */
static uint64_t random_state;

static uint32_t below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 32) % n);
}

static struct launch_channel *open_called(int *other_end)
{
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    *other_end = ends[0];
    return launch_channel_new(ends[1], LAUNCH_CALLED, key);
}

/* The messages that came whole and in order; -1: one that was not sent at this place. */
static int count_messages(struct launch_channel *channel)
{
    struct err err = {0};
    json_t *message;
    int count = 0;

    while ((message = launch_channel_next(channel, &err)) != NULL) {
        const bool right = json_integer_value(json_object_get(message, "number")) == count;

        json_decref(message);
        if (!right)
            return -1;
        count++;
    }
    return count;
}

/* Change the stream from `at` on; returns its new length. */
static size_t mangle(unsigned char *stream, size_t bytes, size_t at)
{
    const size_t some = 1 + below(16), left = bytes - at, cut = some < left ? some : left;

    switch (below(5)) {
    case 0: /* one bit */
        stream[at] ^= (unsigned char)(1 << below(8));
        return bytes;
    case 1: /* bytes lost */
        memmove(stream + at, stream + at + cut, left - cut);
        return bytes - cut;
    case 2: /* bytes twice */
        memmove(stream + at + cut, stream + at, left);
        return bytes + cut;
    case 3: /* others from here on */
        for (size_t i = at; i < bytes; i++)
            stream[i] = (unsigned char)below(256);
        return bytes;
    default: /* the end */
        return at;
    }
}

static void deliver(struct launch_channel *channel, int fd, const unsigned char *data, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        const size_t some = 1 + below(200), left = bytes - at, piece = some < left ? some : left;

        if (send(fd, data + at, piece, MSG_NOSIGNAL) < 0)
            return;
        at += piece;
        if (launch_channel_pump(channel, NULL) < 0)
            return;
    }
}

/* Both ends of a channel, the proof and messages that its caller sends, and where each message
 * ends. */
struct conversation {
    struct launch_channel *caller, *called;
    int near, far; /* where what the caller sends comes out; where it goes in */
    unsigned char sent[2 * STREAM_BYTES];
    size_t bytes, ends[MESSAGES];
};

static void carry(int from, int to, size_t expected)
{
    unsigned char bytes[256];

    assert_int_equal(recv(from, bytes, sizeof bytes, MSG_DONTWAIT), expected);
    assert_int_equal(send(to, bytes, expected, 0), expected);
}

static void keep_what_is_sent(struct conversation *talk)
{
    ssize_t got;

    launch_channel_pump(talk->caller, NULL);
    got = recv(talk->near, talk->sent + talk->bytes, STREAM_BYTES - talk->bytes, MSG_DONTWAIT);
    assert_true(got > 0);
    talk->bytes += (size_t)got;
}

static void converse(struct conversation *talk)
{
    int ends[2];

    talk->bytes = 0;
    talk->called = open_called(&talk->far);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    talk->near = ends[0];
    talk->caller = launch_channel_new(ends[1], LAUNCH_CALLER, key);
    launch_channel_pump(talk->caller, NULL);
    carry(talk->near, talk->far, 8 + NONCE_BYTES);
    launch_channel_pump(talk->called, NULL);
    carry(talk->far, talk->near, NONCE_BYTES + TAG_BYTES);
    keep_what_is_sent(talk); /* the proof */
    for (int i = 0; i < MESSAGES; i++) {
        launch_channel_send(talk->caller, json_pack("{s:i}", "number", i), NULL);
        keep_what_is_sent(talk);
        talk->ends[i] = talk->bytes;
    }
}

/* What the caller sends is changed at one place: what came before it counts, and nothing behind. */
static void channel_takes_nothing_behind_a_changed_byte(void **state)
{
    (void)state;
    random_state = 20;
    for (int round = 0; round < ROUNDS; round++) {
        unsigned char meant[STREAM_BYTES];
        struct conversation talk;
        size_t bytes, same = 0;
        int expected = 0;

        converse(&talk);
        memcpy(meant, talk.sent, talk.bytes);
        bytes = mangle(talk.sent, talk.bytes, below((uint32_t)talk.bytes));
        while (same < bytes && same < talk.bytes && talk.sent[same] == meant[same])
            same++;
        while (expected < MESSAGES && talk.ends[expected] <= same)
            expected++;
        deliver(talk.called, talk.far, talk.sent, bytes);
        assert_int_equal(count_messages(talk.called), expected);
        launch_channel_free(talk.caller);
        launch_channel_free(talk.called);
        close(talk.near);
        close(talk.far);
    }
}

static void channel_refuses_random_greetings(void **state)
{
    (void)state;
    random_state = 21;
    for (int round = 0; round < ROUNDS; round++) {
        unsigned char bytes[512] = "CONVOY1\n";
        const size_t begin = below(2) * below(9), count = 72 + below(440);
        struct launch_channel *called;
        int far;

        for (size_t i = begin; i < count; i++)
            bytes[i] = (unsigned char)below(256);
        called = open_called(&far);
        deliver(called, far, bytes, count);
        assert_false(launch_channel_authentic(called));
        assert_int_equal(count_messages(called), 0);
        launch_channel_free(called);
        close(far);
    }
}

/* The greeting of somebody who knows the key; own_key: of the caller's frames. */
static void greet(struct launch_channel *called, int fd, unsigned char own_key[TAG_BYTES])
{
    unsigned char hello[8 + NONCE_BYTES] = "CONVOY1\n", answer[NONCE_BYTES + TAG_BYTES],
                            bound[32 + 2 * NONCE_BYTES] = "convoy caller", proof[TAG_BYTES];

    assert_int_equal(send(fd, hello, sizeof hello, 0), sizeof hello);
    launch_channel_pump(called, NULL);
    assert_int_equal(recv(fd, answer, sizeof answer, MSG_DONTWAIT), sizeof answer);
    memcpy(bound + 32, hello + 8, NONCE_BYTES);
    memcpy(bound + 32 + NONCE_BYTES, answer, NONCE_BYTES);
    digest_hmac_sha256(key, sizeof key, bound, sizeof bound, proof);
    assert_int_equal(send(fd, proof, sizeof proof, 0), sizeof proof);
    launch_channel_pump(called, NULL);
    assert_true(launch_channel_authentic(called));
    memcpy(bound, "convoy to the called", 20);
    digest_hmac_sha256(key, sizeof key, bound, sizeof bound, own_key);
}

/* A text out of JSON's pieces; returns its length. */
static size_t write_text(unsigned char text[256])
{
    static const char *const pieces[] = {"{",    "}",     "\"a\"", ":",     "1",
                                         ",",    "[",     "]",     "null",  " ",
                                         "\xff", "1e999", "\"\\",  "\\u00", "{\"a\":1}"};
    size_t bytes = 0;

    for (uint32_t left = below(12); left > 0; left--) {
        const char *piece = pieces[below(sizeof pieces / sizeof pieces[0])];

        memcpy(text + bytes, piece, strlen(piece));
        bytes += strlen(piece);
    }
    return bytes;
}

/* An object or an error comes out of whatever such a caller says, and never both. */
static void channel_reads_any_payload_of_who_knows_the_key(void **state)
{
    (void)state;
    random_state = 22;
    for (int round = 0; round < ROUNDS; round++) {
        unsigned char frame[12 + 256 + TAG_BYTES] = {0},
                                       own_key[TAG_BYTES]; /* counter, length, text */
        struct launch_channel *called;
        struct err err = {0};
        json_t *message;
        size_t bytes;
        int far;

        called = open_called(&far);
        greet(called, far, own_key);
        bytes = write_text(frame + 12);
        frame[11] = (unsigned char)bytes;
        digest_hmac_sha256(own_key, sizeof own_key, frame, 12 + bytes, frame + 12 + bytes);
        assert_true(send(far, frame + 8, 4 + bytes + TAG_BYTES, 0) > 0);
        launch_channel_pump(called, NULL);
        message = launch_channel_next(called, &err);
        assert_true((message != NULL) == (err.code == ERR_NONE));
        assert_true(message == NULL || json_is_object(message));
        json_decref(message);
        launch_channel_free(called);
        close(far);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(channel_takes_nothing_behind_a_changed_byte),
        cmocka_unit_test(channel_refuses_random_greetings),
        cmocka_unit_test(channel_reads_any_payload_of_who_knows_the_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
