/*
 * tests/s3io/who.h -- settings and credentials together, as a client has them, and what a test asks
 * of them.
 */
#ifndef TESTS_S3IO_WHO_H
#define TESTS_S3IO_WHO_H

#include "base/err.h"
#include "s3io/config.h"
#include "s3io/credentials.h"

struct who {
    struct s3_config config;
    struct s3_credentials *credentials;
};

/** profile: as if given by option; NULL: none. Fails the test where the settings are wrong. */
struct who who_open(const char *profile);
void who_close(struct who *who);

/** The access key id of the keys that are to be used now; valid until the next call. */
const char *who_access_key(struct who *who);

/** Open, fetch and close: the keys and the name of their source must be these. */
void who_has_keys(const char *profile, const char *access_key, const char *secret_key,
                  const char *token, const char *source);

/** Open, fetch and close: no keys; the line, which is one line and has no "TOPSECRET" in it. */
const char *who_refusal(const char *profile, enum err_code code);

/** Fail unless `part` is in the line. */
void expect_in(const char *line, const char *part);

#endif
