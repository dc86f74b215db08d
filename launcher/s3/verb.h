/*
 * launcher/s3/verb.h -- what the verbs of `convoy s3` share.
 */
#ifndef LAUNCH_S3_VERB_H
#define LAUNCH_S3_VERB_H

#include <signal.h>

#include "base/option.h"
#include "base/uri.h"
#include "launcher/s3/meter.h"
#include "launcher/words.h"

struct err;
struct s3_client;

#define LAUNCH_S3_OBJECTS_AT_ONCE 8

struct launch_s3 {
    struct s3_client *client;
    const struct option_set *options;
    const struct launch_words *words; /* behind the verb, without the options */
    struct launch_s3_meter *meter;
    volatile sig_atomic_t *cancel; /* the client's */
};

/** What each verb is: 0, or -1 with err. */
typedef int launch_s3_verb(const struct launch_s3 *s3, struct err *err);

/** Parse "s3://BUCKET/KEY"; anything else, and a bucket's name that S3 does not allow (3 to 63 of
 * a-z 0-9 . -, a letter or digit at both ends), is ERR_USAGE. */
int launch_s3_uri_parse(struct uri *uri, const char *text, struct err *err);
/** The second half of that, for a URI parsed already; text names it. */
int launch_s3_uri_check(const struct uri *uri, const char *text, struct err *err);

/** The prefix that a folder's keys have: the key with a '/' behind it, unless it is "". The
 * caller's. */
char *launch_s3_folder_prefix(const char *key);

/** Write to a file descriptor that is no file of ours. ERR_STOPPED when its reader is gone (a
 * closed pipe), ERR_IO; what names it in errors. */
int launch_s3_write(int fd, const void *data, size_t bytes, const char *what, struct err *err);

#endif
