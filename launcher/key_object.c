#include "launcher/key_object.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/entropy.h"
#include "base/err.h"
#include "base/log.h"
#include "base/uri.h"
#include "launcher/key.h"
#include "s3io/client.h"
#include "s3io/object.h"

#define KEY_CHARS (2 * LAUNCH_KEY_BYTES)
#define ID_CHARS  16
#define TURNS_MAX 3 /* somebody may delete it between our write and our read */

static int locate(struct uri *uri, const char *place, const char *job, struct err *err)
{
    unsigned char digest[DIGEST_SHA256_BYTES];
    char id[DIGEST_HEX_CHARS];
    struct buf name = {0};
    char *text;
    int rc;

    digest_sha256(job == NULL ? "" : job, job == NULL ? 0 : strlen(job), digest);
    digest_hex(digest, id);
    buf_printf(&name, "convoy-job-key-%.*s", ID_CHARS, id);
    text = uri_join(place, buf_text(&name));
    rc = uri_parse(uri, text, err);
    free(text);
    buf_release(&name);
    return rc;
}

/* S3_YES, S3_NO: nobody has written it yet, or -1. */
static int read_key(struct s3_client *client, const struct uri *uri,
                    unsigned char key[LAUNCH_KEY_BYTES], struct err *err)
{
    struct buf text = {0};
    int rc = s3_object_load(client, uri->bucket, uri->path, KEY_CHARS, &text, NULL, err);

    if (rc == S3_YES && !launch_key_read(buf_text(&text), key))
        rc = err_set(err, ERR_INPUT,
                     "'s3://%s/%s' is not the key of a job: remove it, and start the job again",
                     uri->bucket, uri->path);
    buf_release(&text);
    return rc;
}

static int write_key(struct s3_client *client, const struct uri *uri,
                     unsigned char key[LAUNCH_KEY_BYTES], struct err *err)
{
    char text[KEY_CHARS + 1];
    const struct s3_put put = {.bucket = uri->bucket,
                               .key = uri->path,
                               .data = text,
                               .bytes = KEY_CHARS,
                               .content_type = "text/plain",
                               .if_none = true};
    int rc;

    entropy_fill(key, LAUNCH_KEY_BYTES);
    launch_key_text(key, text);
    rc = s3_object_put(client, &put, NULL, err);
    explicit_bzero(text, sizeof text);
    return rc;
}

int launch_key_object_agree(const char *place, const char *job, unsigned char key[LAUNCH_KEY_BYTES],
                            struct err *err)
{
    struct uri uri = {0};
    struct s3_client *client;
    int rc = -1;

    if (locate(&uri, place, job, err) < 0)
        goto out;
    client = s3_client_shared(err);
    if (client == NULL)
        goto out;
    rc = S3_NO;
    for (int turn = 0; turn < TURNS_MAX && rc == S3_NO; turn++) {
        rc = read_key(client, &uri, key, err);
        if (rc == S3_NO)
            rc = write_key(client, &uri, key, err);
    }
    if (rc == S3_NO)
        rc =
            err_set(err, ERR_INPUT, "'s3://%s/%s' comes and goes: does another job use the prefix?",
                    uri.bucket, uri.path);
out:
    uri_release(&uri);
    return rc < 0
               ? err_wrap(err, "the hosts' key below --checkpoint '%s' (CONVOY_JOB_KEY spares it)",
                          place)
               : 0;
}

void launch_key_object_forget(const char *place, const char *job)
{
    struct uri uri = {0};
    struct err err = {0};
    struct s3_client *client = s3_client_shared(&err);

    if (client == NULL || locate(&uri, place, job, &err) < 0 ||
        s3_object_delete(client, uri.bucket, uri.path, &err) < 0)
        log_warn("the key of the job that has ended stays in S3: %s", err.msg);
    uri_release(&uri);
}
