#include "s3io/address.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "s3io/config.h"
#include "s3io/sign.h"

#define BUCKET_CHARS_MIN 3
#define BUCKET_CHARS_MAX 63

/* Of a long key in a message. */
#define HEAD_CHARS 160
#define TAIL_CHARS 120

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

/* The host of an origin: where it begins, and its length. "[2001:db8::5]" is one, with its
 * brackets. */
static const char *host_of(const char *origin, size_t *chars)
{
    const char *host = strstr(origin, "://");

    host = host == NULL ? origin : host + 3;
    *chars = host[0] == '[' ? strcspn(host, "]/") + 1 : strcspn(host, ":/");
    if (*chars > strlen(host))
        *chars = strlen(host);
    return host;
}

static bool ends_with(const char *host, size_t chars, const char *end, size_t end_chars)
{
    return chars >= end_chars && strncasecmp(host + chars - end_chars, end, end_chars) == 0 &&
           (chars == end_chars || end[0] == '.' || host[chars - end_chars - 1] == '.');
}

static bool is_aws(const char *host, size_t chars)
{
    static const char *const domains[] = {".amazonaws.com", ".amazonaws.com.cn"};

    for (size_t i = 0; i < sizeof domains / sizeof *domains; i++)
        if (ends_with(host, chars, domains[i], strlen(domains[i])))
            return true;
    return false;
}

bool s3_address_related(const char *origin, const char *home)
{
    size_t chars, home_chars;
    const char *const host = host_of(origin, &chars);
    const char *const home_host = host_of(home != NULL ? home : "s3.amazonaws.com", &home_chars);
    const char *const dot = memchr(home_host, '.', home_chars);
    bool letters = false;

    if (ends_with(host, chars, home_host, home_chars))
        return true;
    if (is_aws(home_host, home_chars))
        return is_aws(host, chars);
    for (size_t i = 0; i < home_chars && home_host[0] != '['; i++)
        letters |= home_host[i] != '.' && (home_host[i] < '0' || home_host[i] > '9');
    /* Siblings, of a name only: "b.s3.example.org" of "s3.example.org"'s; below "org" alone all the
     * world is. */
    if (dot == NULL || !letters ||
        memchr(dot + 1, '.', home_chars - (size_t)(dot + 1 - home_host)) == NULL)
        return false;
    return ends_with(host, chars, dot, home_chars - (size_t)(dot - home_host));
}

/* Whether a character of UTF-8 goes on at this byte. */
static bool goes_on(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

struct s3_address_name s3_address_name(const char *bucket, const char *key)
{
    struct s3_address_name name;
    const size_t chars = strlen(key);
    size_t head = HEAD_CHARS, tail = chars > TAIL_CHARS ? chars - TAIL_CHARS : 0;

    if (chars <= HEAD_CHARS + TAIL_CHARS) {
        snprintf(name.text, sizeof name.text, "s3://%.100s/%s", bucket, key);
        return name;
    }
    while (head > 0 && goes_on(key[head]))
        head--;
    while (goes_on(key[tail]))
        tail++;
    snprintf(name.text, sizeof name.text, "s3://%.100s/%.*s...%s", bucket, (int)head, key,
             key + tail);
    return name;
}
