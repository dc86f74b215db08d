/*
 * launcher/s3/key.h -- keys as people see them, and as files.
 *
 * A key is any text in UTF-8 of 1 to 1024 bytes: "a//b", "..", "a\nb" and "/" are keys.
 */
#ifndef LAUNCH_S3_KEY_H
#define LAUNCH_S3_KEY_H

#include <stdbool.h>

struct buf;
struct err;

/** Append the key on one line, so that it can be read back: a backslash is "\\", newline, return
 * and tab are "\n", "\r", "\t", and other control characters, and bytes that are no UTF-8, are
 * "\xHH" each. All else stays. */
void launch_s3_key_show(const char *key, struct buf *out);

bool launch_s3_key_is_utf8(const char *key);

/** 0 if a file below a folder can have this name: no part of it between slashes is empty, "." or
 * "..", so that no two keys share a file and none is outside of the folder. A last part may be
 * empty
 * ("a/"): that is a folder. Else ERR_INPUT, naming the key in full. name is the end of key. */
int launch_s3_key_check_path(const char *key, const char *name, struct err *err);

#endif
