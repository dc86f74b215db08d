/*
 * launcher/key.h -- the secret by which the hosts of a job know each other.
 */
#ifndef LAUNCH_KEY_H
#define LAUNCH_KEY_H

#include "launcher/channel.h"

struct err;

/** Where each host starts by itself: from CONVOY_JOB_KEY, which leaves the environment so that no
 * rank sees it; else from the job's name, with a warning, for who knows that name knows the key.
 * job may be NULL. ERR_USAGE: CONVOY_JOB_KEY is shorter than 16 characters, or the
 * placeholder of our example. */
int launch_key_shared(const char *job, unsigned char key[LAUNCH_KEY_BYTES], struct err *err);

/** As 64 hex digits, and back: false if that is no key. */
void launch_key_text(const unsigned char key[LAUNCH_KEY_BYTES], char text[65]);
bool launch_key_read(const char *text, unsigned char key[LAUNCH_KEY_BYTES]);

#endif
