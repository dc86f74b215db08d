#include "launcher/key.h"

#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/log.h"

#define KEY_CHARS_MIN 16
#define PLACEHOLDER   "replace-by-" /* container/examples/create-training-job.json */

/* What a text is used for goes into the key, so that no other use of it gives the same. */
static void derive(const char *use, const char *text, unsigned char key[LAUNCH_KEY_BYTES])
{
    digest_hmac_sha256(use, strlen(use), text, strlen(text), key);
}

int launch_key_shared(const char *job, unsigned char key[LAUNCH_KEY_BYTES], struct err *err)
{
    const char *secret = getenv("CONVOY_JOB_KEY");

    if (secret != NULL && strlen(secret) < KEY_CHARS_MIN)
        return err_set(err, ERR_USAGE,
                       "CONVOY_JOB_KEY has fewer than %d characters: take for instance the output "
                       "of `openssl rand -hex 32`, the same on every host",
                       KEY_CHARS_MIN);
    if (secret != NULL && strncmp(secret, PLACEHOLDER, strlen(PLACEHOLDER)) == 0)
        return err_set(err, ERR_USAGE,
                       "CONVOY_JOB_KEY is still the example's '" PLACEHOLDER
                       "...', which everybody knows: put the output of `openssl rand -hex 32` in "
                       "its place, or leave it out");
    if (secret != NULL) {
        derive("convoy job key", secret, key);
        unsetenv("CONVOY_JOB_KEY");
        return 0;
    }
    log_warn("CONVOY_JOB_KEY is not set, so the key between the hosts is made from %s: it keeps "
             "stray clients out, but nobody who can reach this network and %s",
             job == NULL ? "nothing" : "the job's name (its ARN)",
             job == NULL ? "has Convoy" : "knows the name");
    derive("convoy job name", job == NULL ? "" : job, key);
    return 0;
}

void launch_key_text(const unsigned char key[LAUNCH_KEY_BYTES], char text[65])
{
    digest_hex(key, text);
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool launch_key_read(const char *text, unsigned char key[LAUNCH_KEY_BYTES])
{
    if (strlen(text) != 2 * (size_t)LAUNCH_KEY_BYTES)
        return false;
    for (size_t i = 0; i < LAUNCH_KEY_BYTES; i++) {
        const int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        key[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}
