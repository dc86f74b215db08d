#include "launcher/channel.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/entropy.h"
#include "base/err.h"
#include "base/json.h"

#define MAGIC       "CONVOY1\n"
#define MAGIC_BYTES 8
#define NONCE_BYTES 32
#define TAG_BYTES   DIGEST_SHA256_BYTES
#define NAME_BYTES  32 /* room for what a proof or key is for */
#define HEAD_BYTES  4  /* a frame's length */

/* A channel reads no more than this before it looks at what came. */
#define READ_BYTES 16384

/* What the next bytes from the other end must be. */
enum phase { PHASE_HELLO, PHASE_ANSWER, PHASE_PROOF, PHASE_FRAMES };

struct direction {
    unsigned char key[TAG_BYTES];
    uint64_t frames;
};

struct launch_channel {
    int fd;
    enum launch_channel_end end;
    enum phase phase;
    unsigned char key[LAUNCH_KEY_BYTES];
    unsigned char nonces[2 * NONCE_BYTES]; /* the caller's, the called one's */
    struct direction to_us, to_them;
    struct buf in, out, waiting; /* waiting: payloads of messages sent before authentication */
    double heard_s;
};

/* HMAC over a name and both nonces: a proof that cannot be turned around, or a direction's key. */
static void bind_key(const struct launch_channel *channel, const char *name,
                     unsigned char out[TAG_BYTES])
{
    unsigned char text[NAME_BYTES + 2 * NONCE_BYTES] = {0};

    assert(strlen(name) < NAME_BYTES);
    memcpy(text, name, strlen(name) + 1);
    memcpy(text + NAME_BYTES, channel->nonces, sizeof channel->nonces);
    digest_hmac_sha256(channel->key, sizeof channel->key, text, sizeof text, out);
}

static void put_nonce(struct launch_channel *channel, unsigned char *nonce)
{
    entropy_fill(nonce, NONCE_BYTES);
    buf_append(&channel->out, nonce, NONCE_BYTES);
}

struct launch_channel *launch_channel_new(int fd, enum launch_channel_end end,
                                          const unsigned char key[LAUNCH_KEY_BYTES])
{
    struct launch_channel *channel = calloc(1, sizeof *channel);
    const int one = 1;

    if (channel == NULL)
        abort();
    channel->fd = fd;
    channel->end = end;
    channel->heard_s = clock_now_s();
    memcpy(channel->key, key, LAUNCH_KEY_BYTES);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* no matter where it is not TCP */
    channel->phase = end == LAUNCH_CALLED ? PHASE_HELLO : PHASE_ANSWER;
    if (end == LAUNCH_CALLER) {
        buf_append(&channel->out, MAGIC, MAGIC_BYTES);
        put_nonce(channel, channel->nonces);
    }
    return channel;
}

void launch_channel_free(struct launch_channel *channel)
{
    if (channel == NULL)
        return;
    close(channel->fd);
    OPENSSL_cleanse(channel->key, sizeof channel->key);
    buf_release(&channel->in);
    buf_release(&channel->out);
    buf_release(&channel->waiting);
    OPENSSL_cleanse(channel, sizeof *channel);
    free(channel);
}

int launch_channel_fd(const struct launch_channel *channel)
{
    return channel->fd;
}

short launch_channel_events(const struct launch_channel *channel)
{
    return (short)(channel->out.bytes > 0 ? POLLIN | POLLOUT : POLLIN);
}

bool launch_channel_authentic(const struct launch_channel *channel)
{
    return channel->phase == PHASE_FRAMES;
}

double launch_channel_heard_s(const struct launch_channel *channel)
{
    return channel->heard_s;
}

bool launch_channel_flushed(const struct launch_channel *channel)
{
    return channel->out.bytes == 0 && channel->waiting.bytes == 0;
}

static void drop_front(struct buf *buf, size_t bytes)
{
    memmove(buf->data, buf->data + bytes, buf->bytes - bytes);
    buf->bytes -= bytes;
}

static void put_u32(unsigned char out[HEAD_BYTES], uint32_t value)
{
    for (int i = 0; i < HEAD_BYTES; i++)
        out[i] = (unsigned char)(value >> (24 - 8 * i));
}

static uint32_t take_u32(const unsigned char in[HEAD_BYTES])
{
    return (uint32_t)in[0] << 24 | (uint32_t)in[1] << 16 | (uint32_t)in[2] << 8 | in[3];
}

/* The tag of the direction's next frame; `frame` is its length and payload. */
static void tag_frame(const struct direction *direction, const unsigned char *frame, size_t bytes,
                      unsigned char tag[TAG_BYTES])
{
    unsigned char counter[8];
    struct buf text = {0};

    put_u32(counter, (uint32_t)(direction->frames >> 32));
    put_u32(counter + 4, (uint32_t)direction->frames);
    buf_append(&text, counter, sizeof counter);
    buf_append(&text, frame, bytes);
    digest_hmac_sha256(direction->key, sizeof direction->key, text.data, text.bytes, tag);
    buf_release(&text);
}

static void put_frame(struct launch_channel *channel, const void *payload, size_t bytes)
{
    const size_t begin = channel->out.bytes;
    unsigned char head[HEAD_BYTES], tag[TAG_BYTES];

    put_u32(head, (uint32_t)bytes);
    buf_append(&channel->out, head, sizeof head);
    buf_append(&channel->out, payload, bytes);
    tag_frame(&channel->to_them, channel->out.data + begin, HEAD_BYTES + bytes, tag);
    buf_append(&channel->out, tag, sizeof tag);
    channel->to_them.frames++;
}

int launch_channel_send(struct launch_channel *channel, json_t *message, struct err *err)
{
    char *text = message == NULL ? NULL : json_dumps(message, JSON_COMPACT);
    const size_t bytes = text == NULL ? 0 : strlen(text);
    int rc = 0;

    json_decref(message);
    if (text == NULL)
        rc = err_set(err, ERR_INPUT, "a message has text that is no UTF-8");
    else if (bytes > LAUNCH_FRAME_BYTES_MAX)
        rc = err_set(err, ERR_INPUT, "a message of %zu bytes is larger than %d", bytes,
                     LAUNCH_FRAME_BYTES_MAX);
    else if (channel->phase == PHASE_FRAMES)
        put_frame(channel, text, bytes);
    else
        buf_append(&channel->waiting, text, bytes + 1);
    free(text);
    return rc;
}

static void begin_frames(struct launch_channel *channel)
{
    const bool caller = channel->end == LAUNCH_CALLER;

    bind_key(channel, "convoy to the called", caller ? channel->to_them.key : channel->to_us.key);
    bind_key(channel, "convoy to the caller", caller ? channel->to_us.key : channel->to_them.key);
    channel->phase = PHASE_FRAMES;
    channel->heard_s = clock_now_s();
    for (size_t at = 0; at < channel->waiting.bytes;) {
        const char *text = (const char *)channel->waiting.data + at;

        put_frame(channel, text, strlen(text));
        at += strlen(text) + 1;
    }
    buf_release(&channel->waiting);
}

static int check_proof(struct launch_channel *channel, const char *name, const unsigned char *tag,
                       struct err *err)
{
    unsigned char want[TAG_BYTES];

    bind_key(channel, name, want);
    if (CRYPTO_memcmp(want, tag, TAG_BYTES) != 0)
        return err_set(err, ERR_PEER, "the other end does not know this job's key");
    return 0;
}

static int take_hello(struct launch_channel *channel, struct err *err)
{
    const struct buf *in = &channel->in;
    const size_t have = in->bytes < MAGIC_BYTES ? in->bytes : MAGIC_BYTES;
    unsigned char tag[TAG_BYTES];

    /* Refused at the first wrong byte: a stray web client would wait for us otherwise. */
    if (have > 0 && memcmp(in->data, MAGIC, have) != 0)
        return err_set(err, ERR_PEER, "what came is not Convoy's greeting");
    if (in->bytes < MAGIC_BYTES + NONCE_BYTES)
        return 0;
    memcpy(channel->nonces, in->data + MAGIC_BYTES, NONCE_BYTES);
    drop_front(&channel->in, MAGIC_BYTES + NONCE_BYTES);
    put_nonce(channel, channel->nonces + NONCE_BYTES);
    bind_key(channel, "convoy called", tag);
    buf_append(&channel->out, tag, sizeof tag);
    channel->phase = PHASE_PROOF;
    return 0;
}

static int take_answer(struct launch_channel *channel, struct err *err)
{
    unsigned char tag[TAG_BYTES];

    if (channel->in.bytes < NONCE_BYTES + TAG_BYTES)
        return 0;
    memcpy(channel->nonces + NONCE_BYTES, channel->in.data, NONCE_BYTES);
    if (check_proof(channel, "convoy called", channel->in.data + NONCE_BYTES, err) < 0)
        return -1;
    drop_front(&channel->in, NONCE_BYTES + TAG_BYTES);
    bind_key(channel, "convoy caller", tag);
    buf_append(&channel->out, tag, sizeof tag);
    begin_frames(channel);
    return 0;
}

static int take_proof(struct launch_channel *channel, struct err *err)
{
    if (channel->in.bytes < TAG_BYTES)
        return 0;
    if (check_proof(channel, "convoy caller", channel->in.data, err) < 0)
        return -1;
    drop_front(&channel->in, TAG_BYTES);
    begin_frames(channel);
    return 0;
}

static int take_greetings(struct launch_channel *channel, struct err *err)
{
    if (channel->phase == PHASE_HELLO && take_hello(channel, err) < 0)
        return -1;
    if (channel->phase == PHASE_ANSWER && take_answer(channel, err) < 0)
        return -1;
    if (channel->phase == PHASE_PROOF && take_proof(channel, err) < 0)
        return -1;
    return 0;
}

static bool would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* Room for one whole frame at most: what is not taken yet stays in the kernel, which slows the
 * sender down. */
static int read_some(struct launch_channel *channel, struct err *err)
{
    const size_t bytes_max =
        channel->phase == PHASE_FRAMES ? HEAD_BYTES + LAUNCH_FRAME_BYTES_MAX + TAG_BYTES : 4096;
    unsigned char bytes[READ_BYTES];

    while (channel->in.bytes < bytes_max) {
        const size_t room = bytes_max - channel->in.bytes;
        const ssize_t got = recv(channel->fd, bytes, room < READ_BYTES ? room : READ_BYTES, 0);

        if (got == 0)
            return err_set(err, ERR_PEER, "the other end closed the connection");
        if (got < 0)
            return would_block() ? 0
                                 : err_set_errno(err, ERR_PEER, errno, "the connection is broken");
        buf_append(&channel->in, bytes, (size_t)got);
        if (channel->phase != PHASE_FRAMES)
            return take_greetings(channel, err);
    }
    return 0;
}

static int write_some(struct launch_channel *channel, struct err *err)
{
    while (channel->out.bytes > 0) {
        const ssize_t sent = send(channel->fd, channel->out.data, channel->out.bytes, MSG_NOSIGNAL);

        if (sent < 0 && would_block())
            break;
        if (sent < 0)
            return err_set_errno(err, ERR_PEER, errno, "the connection is broken");
        drop_front(&channel->out, (size_t)sent);
    }
    return channel->out.bytes <= LAUNCH_BACKLOG_BYTES_MAX
               ? 0
               : err_set(err, ERR_PEER, "the other end does not read what it is sent");
}

int launch_channel_pump(struct launch_channel *channel, struct err *err)
{
    /* Reading first: when both fail, the reason is what came. */
    const int rc = read_some(channel, err);

    return write_some(channel, rc < 0 ? NULL : err) < 0 || rc < 0 ? -1 : 0;
}

json_t *launch_channel_next(struct launch_channel *channel, struct err *err)
{
    struct buf *in = &channel->in;
    unsigned char tag[TAG_BYTES];
    json_t *message;
    size_t bytes;

    if (channel->phase != PHASE_FRAMES || in->bytes < HEAD_BYTES)
        return NULL;
    bytes = take_u32(in->data);
    if (bytes > LAUNCH_FRAME_BYTES_MAX) {
        err_set(err, ERR_PEER, "a frame of %zu bytes is larger than %d", bytes,
                LAUNCH_FRAME_BYTES_MAX);
        return NULL;
    }
    if (in->bytes < HEAD_BYTES + bytes + TAG_BYTES)
        return NULL;
    tag_frame(&channel->to_us, in->data, HEAD_BYTES + bytes, tag);
    if (CRYPTO_memcmp(tag, in->data + HEAD_BYTES + bytes, TAG_BYTES) != 0) {
        err_set(err, ERR_PEER, "a frame was changed on its way, or is not this connection's");
        return NULL;
    }
    channel->to_us.frames++;
    channel->heard_s = clock_now_s();
    message = json_read_text((const char *)in->data + HEAD_BYTES, bytes, "a message", err);
    drop_front(in, HEAD_BYTES + bytes + TAG_BYTES);
    if (message != NULL && !json_is_object(message)) {
        json_decref(message);
        message = NULL;
        err_set(err, ERR_PEER, "a message is not a JSON object");
    }
    return message;
}
