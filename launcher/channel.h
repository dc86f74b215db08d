/*
 * launcher/channel.h -- an authenticated connection between two hosts of a job.
 *
 * Both ends know the job's key and prove it to each other before a message is looked at:
 *
 *     caller -> called   "CONVOY1\n", nonce A (32 bytes)
 *     called -> caller   nonce B (32), HMAC(key, "convoy called" A B)
 *     caller -> called   HMAC(key, "convoy caller" A B)
 *     then frames both ways: u32 length (big-endian), payload, HMAC(direction's key, counter length
 * payload)
 *
 * HMAC is HMAC-SHA256 (RFC 2104). Each direction's key is HMAC(job's key, its name A B), and its
 * counter (u64) counts frames, so that bytes recorded on one connection are worth nothing on
 * another or a second time on their own. A payload is one JSON object. Nothing is hidden: messages
 * are in clear text and hold no secrets.
 *
 * Nothing here blocks. One thread uses a channel.
 */
#ifndef LAUNCH_CHANNEL_H
#define LAUNCH_CHANNEL_H

#include <jansson.h>
#include <stdbool.h>

struct err;
struct launch_channel;

#define LAUNCH_KEY_BYTES       32
#define LAUNCH_FRAME_BYTES_MAX 65536 /* of a payload */
#define LAUNCH_BACKLOG_BYTES_MAX                                                                   \
    (1 << 22) /* a peer that lets more pile up does not read: it is gone */

enum launch_channel_end { LAUNCH_CALLED, LAUNCH_CALLER };

/** Take over fd, a stream socket that is connected or, for the caller, connecting; it becomes
 * non-blocking and is closed by free. The key is copied. */
struct launch_channel *launch_channel_new(int fd, enum launch_channel_end end,
                                          const unsigned char key[LAUNCH_KEY_BYTES]);
/** Accepts NULL. */
void launch_channel_free(struct launch_channel *channel);

/** What to poll(2) for. */
int launch_channel_fd(const struct launch_channel *channel);
short launch_channel_events(const struct launch_channel *channel);

/** Read and write as much as goes at once. ERR_PEER: refused or closed, and why; then it can only
 * be freed, messages that came before may still be taken. */
int launch_channel_pump(struct launch_channel *channel, struct err *err);

/** Whether the other end has proved that it knows the key. */
bool launch_channel_authentic(const struct launch_channel *channel);

/** When the last whole frame came, or the channel was made (clock_now_s). */
double launch_channel_heard_s(const struct launch_channel *channel);

/** The next message, the caller's to json_decref; NULL: none is whole yet, or with err set
 * (ERR_PEER): what came is no message. Call until NULL after each pump. */
json_t *launch_channel_next(struct launch_channel *channel, struct err *err);

/** Send an object, which is taken over. Before authentication it waits. ERR_INPUT: NULL (what
 * jansson makes of text that is no UTF-8), or larger than a frame; then nothing is sent. */
int launch_channel_send(struct launch_channel *channel, json_t *message, struct err *err);

/** Whether everything sent has left for the network. */
bool launch_channel_flushed(const struct launch_channel *channel);

#endif
