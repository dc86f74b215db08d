/*
 * base/uri.h -- where things are: a path, file://PATH, or s3://BUCKET/KEY.
 */
#ifndef BASE_URI_H
#define BASE_URI_H

#include <stdbool.h>

struct err;

enum uri_scheme { URI_FILE, URI_S3 };

struct uri {
    enum uri_scheme scheme;
    char *bucket; /* S3 only, else NULL */
    char *path;   /* URI_FILE: the path as given (percent-escapes of a file:// URI decoded). URI_S3:
                     the key, without a   leading '/', byte for byte as given; may be "" */
};

/** Parse. Another scheme ("http://..."), an empty text, s3:// without a bucket, or file://HOST/ is
 * ERR_USAGE. */
int uri_parse(struct uri *uri, const char *text, struct err *err);
void uri_release(struct uri *uri);

/** Percent-escapes, in place. False on a broken one and on %00, which no text can hold; then it is
 * half decoded. */
bool uri_decode(char *text);

/** "BASE/NAME" with exactly one slash between; heap, the caller frees. Works for paths and s3://
 * texts alike. */
char *uri_join(const char *base, const char *name);

#endif
