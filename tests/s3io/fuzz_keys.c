/* tests/s3io/fuzz_keys.c -- fuzz target: any bytes as the JSON of the container endpoint, instance
 * metadata and a credential_process, and as a time. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "mutate.h"
#include "s3io/keys.h"

/* What must hold, also where assert is off. */
static void must(bool holds)
{
    if (!holds)
        abort();
}

static void check(int rc, struct s3_keys *keys, const struct err *err)
{
    must((rc == 0) == (err->code == ERR_NONE) && (rc == 0) == (keys->access_key != NULL));
    if (rc == 0)
        must(s3_keys_is_clean(keys->access_key) && s3_keys_is_clean(keys->secret_key) &&
             (keys->token == NULL || s3_keys_is_clean(keys->token)) && keys->expires_s > -86400 &&
             keys->expires_s < 1e12);
    s3_keys_release(keys);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct buf text = {0};
    struct s3_keys keys = {0};
    struct err err = {0};
    double seconds;
    int rc;

    buf_append(&text, data, bytes);
    rc = s3_keys_parse(&keys, buf_text(&text), bytes, "it", &err);
    check(rc, &keys, &err);
    err = (struct err){0};
    rc = s3_keys_parse_process(&keys, buf_text(&text), bytes, "it", &err);
    check(rc, &keys, &err);
    s3_keys_parse_time(buf_text(&text), &seconds);
    buf_release(&text);
    return 0;
}
