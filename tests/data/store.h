/*
 * tests/data/store.h -- a bucket in memory behind tests/s3io/fake.h, that knows what was read of it
 * and can be away.
 *
 * It lists by pages of ten keys, reads ranges, and holds If-Match to be true; nothing is ever
 * written by a client. Signatures are not looked at.
 */
#ifndef TESTS_DATA_STORE_H
#define TESTS_DATA_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store;

/** Start it, and let this process's S3 client find it: once a process. Requests are tried once. */
struct store *store_open(void);
void store_close(struct store *store);

/** The client's name of what begins with a prefix: "s3://test/PREFIX"; good until the next call. */
const char *store_uri(const char *prefix);

/** Set an object; a second time it has another ETag. */
void store_put(struct store *store, const char *key, const void *data, size_t bytes);
/** Every file below a local folder, as PREFIX/PATH. */
void store_put_tree(struct store *store, const char *folder, const char *prefix);
void store_delete(struct store *store, const char *key);

/* What the server does with a request. */
enum store_mood {
    STORE_ANSWERS,
    STORE_AWAY,   /* closes the connection */
    STORE_SILENT, /* says nothing */
};
void store_set_mood(struct store *store, enum store_mood mood);

/** Flip a bit of the first byte of the next `count` bodies of keys that have `part` (the caller's)
 * in them. */
void store_damage(struct store *store, const char *part, int count);
/** The same after `later` that are sound. */
void store_damage_later(struct store *store, const char *part, int later, int count);

/** Say nothing to who reads keys that have `part` (the caller's) in them, after `later` answers;
 * NULL: answer again. */
void store_silence(struct store *store, const char *part, int later);
/** How many requests got none so far. */
int store_unanswered(struct store *store);

struct store_stats {
    uint64_t lists, gets; /* requests */
    uint64_t bytes;       /* that were read */
    unsigned most;        /* how often the byte that was read most often was read */
};
/** Since the last call. */
void store_take_stats(struct store *store, struct store_stats *stats);
int store_requests(struct store *store);

#endif
