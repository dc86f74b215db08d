/*
 * s3io/keys.h -- keys as their sources write them. (The struct and its release are
 * credentials.h's.)
 */
#ifndef S3IO_KEYS_H
#define S3IO_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "s3io/credentials.h"

struct err;

/** Deep copies. `to` is all-zero or released before. */
void s3_keys_copy(struct s3_keys *to, const struct s3_keys *from);
bool s3_keys_equal(const struct s3_keys *a, const struct s3_keys *b);

/** Keys go into headers: true if the text is one or more visible ASCII characters. */
bool s3_keys_is_clean(const char *text);

/** Keys as texts; NULL: not there. */
struct s3_keys_text {
    const char *access_key, *secret_key, *token, *expires;
};

/** Copy and check them: token and expires may be missing. `what` names their source in the message,
 * which shows none of them. ERR_INPUT. */
int s3_keys_take(struct s3_keys *keys, const struct s3_keys_text *text, const char *what,
                 struct err *err);

/** Take the keys from the JSON object that the container endpoint and instance metadata answer:
 * AccessKeyId, SecretAccessKey, Token and Expiration (the last two may be missing), and Code, which
 * must be Success where it is there. Else as s3_keys_take. */
int s3_keys_parse(struct s3_keys *keys, const char *text, size_t bytes, const char *what,
                  struct err *err);

/** The same for what a credential_process writes: Version, which must be 1, AccessKeyId,
 * SecretAccessKey, SessionToken and Expiration (the last two may be missing). Source: AWS SDKs and
 * Tools Reference Guide, "Process credential provider". */
int s3_keys_parse_process(struct s3_keys *keys, const char *text, size_t bytes, const char *what,
                          struct err *err);

/** "2026-11-21T06:50:17Z", with a fraction or "+01:00" too, as seconds since 1970 (RFC 3339). 0, or
 * -1 for anything else; nothing is set then. */
int s3_keys_parse_time(const char *text, double *seconds);

#endif
