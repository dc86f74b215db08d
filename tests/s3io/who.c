#include "who.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "s3io/client.h"

struct who who_open(const char *profile)
{
    const struct s3_client_options options = {.profile = profile};
    struct who who = {0};
    struct err err = {0};

    if (s3_config_read(&who.config, &options, &err) < 0)
        fail_msg("%s", err.msg);
    return who;
}

void who_close(struct who *who)
{
    s3_credentials_free(who->credentials);
    s3_config_release(&who->config);
}

const char *who_access_key(struct who *who)
{
    static char text[64];
    struct s3_keys keys = {0};
    struct err err = {0};

    if (s3_credentials_get(who->credentials, NULL, &keys, &err) < 0)
        fail_msg("%s", err.msg);
    snprintf(text, sizeof text, "%s", keys.access_key);
    s3_keys_release(&keys);
    return text;
}

void who_has_keys(const char *profile, const char *access_key, const char *secret_key,
                  const char *token, const char *source)
{
    struct who who = who_open(profile);
    struct s3_keys keys = {0};
    struct err err = {0};

    who.credentials = s3_credentials_new(&who.config);
    assert_string_equal(s3_credentials_source(who.credentials), "nowhere");
    if (s3_credentials_get(who.credentials, NULL, &keys, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(keys.access_key, access_key);
    assert_string_equal(keys.secret_key, secret_key);
    assert_string_equal(keys.token != NULL ? keys.token : "none", token != NULL ? token : "none");
    assert_string_equal(s3_credentials_source(who.credentials), source);
    s3_keys_release(&keys);
    who_close(&who);
}

const char *who_refusal(const char *profile, enum err_code code)
{
    static struct err err;
    struct who who = who_open(profile);
    struct s3_keys keys = {0};

    err = (struct err){0};
    who.credentials = s3_credentials_new(&who.config);
    assert_int_equal(s3_credentials_get(who.credentials, NULL, &keys, &err), -1);
    if (err.code != code)
        fail_msg("code %d: %s", err.code, err.msg);
    assert_null(strstr(err.msg, "TOPSECRET"));
    assert_null(strchr(err.msg, '\n'));
    assert_null(keys.access_key);
    who_close(&who);
    return err.msg;
}

void expect_in(const char *line, const char *part)
{
    assert_non_null(line);
    if (strstr(line, part) == NULL)
        fail_msg("no \"%s\" in: %s", part, line != NULL ? line : "nothing");
}
