#include "s3io/credentials.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

struct s3_credentials {
    const struct s3_config *config;
};

static char *copy(const char *text)
{
    char *out = strdup(text);

    if (out == NULL)
        abort();
    return out;
}

/* An empty variable is as good as none. */
static const char *variable(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}

struct s3_credentials *s3_credentials_new(const struct s3_config *config)
{
    struct s3_credentials *credentials = calloc(1, sizeof *credentials);

    if (credentials == NULL)
        abort();
    credentials->config = config;
    return credentials;
}

void s3_credentials_free(struct s3_credentials *credentials)
{
    free(credentials);
}

int s3_credentials_get(struct s3_credentials *credentials, struct s3_keys *keys, struct err *err)
{
    const char *access_key = variable("AWS_ACCESS_KEY_ID"), *token = variable("AWS_SESSION_TOKEN");
    const char *secret_key = variable("AWS_SECRET_ACCESS_KEY");

    (void)credentials;
    if (access_key == NULL || secret_key == NULL)
        return err_set(err, ERR_INPUT,
                       "no credentials: AWS_ACCESS_KEY_ID or "
                       "AWS_SECRET_ACCESS_KEY is not set");
    *keys = (struct s3_keys){.access_key = copy(access_key), .secret_key = copy(secret_key)};
    if (token != NULL)
        keys->token = copy(token);
    return 0;
}

void s3_credentials_refused(struct s3_credentials *credentials, const struct s3_keys *keys)
{
    (void)credentials;
    (void)keys;
}

const char *s3_credentials_source(struct s3_credentials *credentials)
{
    (void)credentials;
    return "the environment";
}
