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

/* A whole conversation whose caller's bytes are changed at one place: the greeting, or what came
 * before that place, counts; nothing behind it does. */
static void channel_takes_nothing_behind_a_changed_byte(void **state)
{
    (void)state;
    random_state = 20;
    for (int round = 0; round < ROUNDS; round++) {
        unsigned char stream[2 * STREAM_BYTES], before[STREAM_BYTES], answer[256];
        size_t whole[MESSAGES + 1] = {0}, bytes, at, changed;
        struct launch_channel *caller, *called;
        int far, near, ends[2], came, expected = 0;
        ssize_t got;

        called = open_called(&far);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
        near = ends[0];
        caller = launch_channel_new(ends[1], LAUNCH_CALLER, key);

        /* the greeting, unchanged: what differs per connection is known only now */
        launch_channel_pump(caller, NULL);
        got = recv(near, stream, sizeof stream, MSG_DONTWAIT);
        assert_true(got > 0);
        assert_int_equal(send(far, stream, (size_t)got, 0), got);
        launch_channel_pump(called, NULL);
        got = recv(far, answer, sizeof answer, MSG_DONTWAIT);
        assert_int_equal(got, NONCE_BYTES + TAG_BYTES);
        assert_int_equal(send(near, answer, (size_t)got, 0), got);

        /* the proof and the messages, one after the other to know where each ends */
        launch_channel_pump(caller, NULL);
        bytes = (size_t)recv(near, stream, STREAM_BYTES, MSG_DONTWAIT);
        assert_int_equal(bytes, TAG_BYTES);
        for (int i = 0; i < MESSAGES; i++) {
            whole[i] = bytes;
            launch_channel_send(caller, json_pack("{s:i}", "number", i), NULL);
            launch_channel_pump(caller, NULL);
            bytes += (size_t)recv(near, stream + bytes, STREAM_BYTES - bytes, MSG_DONTWAIT);
        }
        whole[MESSAGES] = bytes;
        memcpy(before, stream, bytes);
        at = below((uint32_t)bytes);
        bytes = mangle(stream, bytes, at);
        for (changed = 0;
             changed < bytes && changed < whole[MESSAGES] && stream[changed] == before[changed];)
            changed++;
        while (expected < MESSAGES && whole[expected + 1] <= changed)
            expected++;

        deliver(called, far, stream, bytes);
        came = count_messages(called);
        assert_int_equal(came, expected);
        launch_channel_free(caller);
        launch_channel_free(called);
        close(near);
        close(far);
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

/* Somebody who knows the key, and says anything: an object or an error comes out, never both. */
static void channel_reads_any_payload_of_who_knows_the_key(void **state)
{
    static const char *const pieces[] = {"{",    "}",     "\"a\"", ":",     "1",
                                         ",",    "[",     "]",     "null",  " ",
                                         "\xff", "1e999", "\"\\",  "\\u00", "{\"a\":1}"};
    unsigned char greeting[8 + NONCE_BYTES] = "CONVOY1\n", bound[32 + 2 * NONCE_BYTES],
                               answer[NONCE_BYTES + TAG_BYTES], proof[TAG_BYTES],
                               own_key[TAG_BYTES];

    (void)state;
    random_state = 22;
    for (int round = 0; round < ROUNDS; round++) {
        unsigned char text[12 + 256] = {0};
        struct launch_channel *called;
        struct err err = {0};
        json_t *message;
        size_t bytes = 12; /* counter, length */
        int far;

        called = open_called(&far);
        send(far, greeting, sizeof greeting, 0);
        launch_channel_pump(called, NULL);
        assert_int_equal(recv(far, answer, sizeof answer, MSG_DONTWAIT), sizeof answer);
        memset(bound, 0, sizeof bound);
        memcpy(bound + 32, greeting + 8, NONCE_BYTES);
        memcpy(bound + 32 + NONCE_BYTES, answer, NONCE_BYTES);
        memcpy(bound, "convoy caller", 13);
        digest_hmac_sha256(key, sizeof key, bound, sizeof bound, proof);
        send(far, proof, sizeof proof, 0);
        memcpy(bound, "convoy to the called", 20);
        digest_hmac_sha256(key, sizeof key, bound, sizeof bound, own_key);

        for (uint32_t left = below(12); left > 0; left--) {
            const char *piece = pieces[below(sizeof pieces / sizeof pieces[0])];

            memcpy(text + bytes, piece, strlen(piece));
            bytes += strlen(piece);
        }
        text[11] = (unsigned char)(bytes - 12);
        digest_hmac_sha256(own_key, sizeof own_key, text, bytes, proof);
        send(far, text + 8, bytes - 8, 0);
        send(far, proof, sizeof proof, 0);
        launch_channel_pump(called, NULL);
        launch_channel_pump(called, NULL);
        assert_true(launch_channel_authentic(called));
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
