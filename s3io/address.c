#include "s3io/address.h"

#include <string.h>

#include "s3io/config.h"
#include "s3io/sign.h"

#define BUCKET_CHARS_MIN 3
#define BUCKET_CHARS_MAX 63

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool s3_address_fits_host(const char *bucket, bool https)
{
    const size_t chars = strlen(bucket);
    bool letter = false; /* all digits and dots would look like an IP address */

    if (chars < BUCKET_CHARS_MIN || chars > BUCKET_CHARS_MAX || !is_alnum(bucket[0]) ||
        !is_alnum(bucket[chars - 1]))
        return false;
    for (size_t i = 0; i < chars; i++) {
        const char c = bucket[i];

        letter |= c != '.' && (c < '0' || c > '9');
        if (!is_alnum(c) && c != '-' && (c != '.' || https || !is_alnum(bucket[i + 1])))
            return false;
    }
    return letter;
}

static void aws_origin(struct buf *out, const struct s3_config *config, const char *region)
{
    buf_printf(out, "https://s3%s%s.%s.amazonaws.com%s", config->fips ? "-fips" : "",
               config->dualstack ? ".dualstack" : "", region,
               strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
}

/* Take "http[s]://HOST[:PORT][/PATH]" apart: the host with the bucket before it if `virtual`, and
 * the path without a '/' at its end. */
static void split(struct s3_address *address, const char *origin, const char *virtual)
{
    const char *host = strstr(origin, "://"), *path;
    size_t path_chars;

    host = host == NULL ? origin : host + 3;
    path = host + strcspn(host, "/");
    if (virtual != NULL)
        buf_printf(&address->host, "%s.", virtual);
    buf_append(&address->host, host, (size_t)(path - host));
    buf_append(&address->origin, origin, (size_t)(host - origin));
    buf_append(&address->origin, address->host.data, address->host.bytes);
    path_chars = strlen(path);
    while (path_chars > 0 && path[path_chars - 1] == '/')
        path_chars--;
    buf_append(&address->path, path, path_chars);
}

static bool starts_with_bucket(const char *origin, const char *bucket)
{
    const char *host = strstr(origin, "://");
    const size_t chars = strlen(bucket);

    return host != NULL && strncmp(host + 3, bucket, chars) == 0 && host[3 + chars] == '.';
}

void s3_address_make(struct s3_address *address, const struct s3_config *config, const char *region,
                     const char *bucket, const char *key, const char *origin)
{
    struct buf aws = {0};
    bool in_host;

    address->origin.bytes = address->host.bytes = address->path.bytes = 0;
    if (origin != NULL) {
        in_host = starts_with_bucket(origin, bucket);
        split(address, origin, NULL);
    } else {
        const char *endpoint = config->endpoint;
        const bool https = endpoint == NULL || strncmp(endpoint, "https:", 6) == 0;
        const bool wanted = config->addressing == S3_ADDRESS_VIRTUAL ||
                            (config->addressing == S3_ADDRESS_AUTO && endpoint == NULL);

        if (endpoint == NULL) {
            aws_origin(&aws, config, region);
            endpoint = buf_text(&aws);
        }
        in_host = wanted && s3_address_fits_host(bucket, https);
        split(address, endpoint, in_host ? bucket : NULL);
    }
    buf_append(&address->path, "/", 1);
    if (!in_host) {
        s3_sign_encode(&address->path, bucket, false);
        if (key != NULL)
            buf_append(&address->path, "/", 1);
    }
    if (key != NULL)
        s3_sign_encode(&address->path, key, true);
    buf_release(&aws);
}

void s3_address_release(struct s3_address *address)
{
    buf_release(&address->origin);
    buf_release(&address->host);
    buf_release(&address->path);
}
