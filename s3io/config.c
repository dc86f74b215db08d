#include "s3io/config.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "s3io/client.h"

static char *copy(const char *text)
{
    char *out = text != NULL ? strdup(text) : NULL;

    if (text != NULL && out == NULL)
        abort();
    return out;
}

/* An empty variable is as good as none. */
static const char *variable(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}

static const char *first(const char *option, const char *name, const char *other)
{
    if (option != NULL)
        return option;
    return variable(name) != NULL ? variable(name) : variable(other);
}

int s3_config_read(struct s3_config *config, const struct s3_client_options *options,
                   struct err *err)
{
    static const struct s3_client_options none;
    const struct s3_client_options *o = options != NULL ? options : &none;
    const char *endpoint = first(o->endpoint, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL");

    (void)err;
    *config = (struct s3_config){.attempts = S3_ATTEMPTS};
    config->profile_explicit = o->profile != NULL;
    config->profile = copy(first(o->profile, "AWS_PROFILE", "AWS_DEFAULT_PROFILE"));
    if (config->profile == NULL)
        config->profile = copy("default");
    config->region = copy(first(o->region, "AWS_REGION", "AWS_DEFAULT_REGION"));
    config->endpoint = copy(endpoint != NULL ? endpoint : variable("S3_ENDPOINT_URL"));
    config->ca_bundle = copy(variable("AWS_CA_BUNDLE"));
    config->sse = copy(first(o->sse, "CONVOY_SSE", "CONVOY_SSE"));
    config->sse_key_id =
        copy(first(o->sse_key_id, "CONVOY_SSE_KMS_KEY_ID", "CONVOY_SSE_KMS_KEY_ID"));
    if (config->sse_key_id != NULL && config->sse == NULL)
        config->sse = copy("aws:kms");
    return 0;
}

void s3_config_release(struct s3_config *config)
{
    free(config->profile);
    free(config->region);
    free(config->endpoint);
    free(config->ca_bundle);
    free(config->sse);
    free(config->sse_key_id);
    *config = (struct s3_config){0};
}

const char *s3_config_profile_value(const struct s3_config *config, const char *key)
{
    (void)config;
    (void)key;
    return NULL;
}
