/*
 * launcher/key_object.h -- the job's key where hosts start by themselves and have a prefix in S3 in
 * common: an object below it. Who may write checkpoints there may read it; nobody else of the
 * network can.
 *
 * The object is PREFIX/convoy-job-key-ID, ID the first 16 hex digits of the SHA-256 of the job's
 * name, so that one prefix serves one job after the other. Its content is the key as 64 hex digits.
 * Whoever comes first writes it with If-None-Match: *, all others read what is there; an attempt
 * that was cut off leaves it to the next attempt of the same job.
 */
#ifndef LAUNCH_KEY_OBJECT_H
#define LAUNCH_KEY_OBJECT_H

#include "launcher/channel.h"

struct err;

/** Agree on the key of the job (its name; may be NULL) below the s3:// prefix `place`. Blocks on
 * S3. ERR_USAGE: no s3:// prefix; ERR_INPUT: not permitted, no such bucket, or what lies there is
 * no key; ERR_NET. */
int launch_key_object_agree(const char *place, const char *job, unsigned char key[LAUNCH_KEY_BYTES],
                            struct err *err);

/** Delete the object when the job has ended; a failure is a warning. */
void launch_key_object_forget(const char *place, const char *job);

#endif
