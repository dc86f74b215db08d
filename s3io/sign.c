#include "s3io/sign.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/text.h"
#include "s3io/credentials.h"

#define DAY_CHARS 8 /* "20260101", the date at the head of a time */

void s3_sign_encode(struct buf *out, const char *text, bool keep_slash)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

    for (; *text != '\0'; text++) {
        if (strchr(plain, *text) != NULL || (keep_slash && *text == '/'))
            buf_append(out, text, 1);
        else
            buf_printf(out, "%%%02X", (unsigned char)*text);
    }
}

void s3_sign_time(time_t when, char out[S3_SIGN_TIME_CHARS])
{
    struct tm utc;

    memset(out, 0,
           S3_SIGN_TIME_CHARS); /* stays so for a year of five digits, which no server takes */
    gmtime_r(&when, &utc);
    strftime(out, S3_SIGN_TIME_CHARS, "%Y%m%dT%H%M%SZ", &utc);
}

/* A name and a value as they are sorted and signed: encoded in a query, lower case and trimmed in a
 * header. `order` is its place in what the caller gave: repeated headers keep it. */
struct item {
    struct buf name, value;
    size_t order;
};

static void items_free(struct item *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        buf_release(&items[i].name);
        buf_release(&items[i].value);
    }
    free(items);
}

static struct item *items_new(size_t count)
{
    struct item *items = calloc(count > 0 ? count : 1, sizeof *items);

    if (items == NULL)
        abort();
    return items;
}

static int by_name_and_value(const void *left, const void *right)
{
    struct item *a = (struct item *)left, *b = (struct item *)right;
    const int names = strcmp(buf_text(&a->name), buf_text(&b->name));

    return names != 0 ? names : strcmp(buf_text(&a->value), buf_text(&b->value));
}

static int by_name_and_order(const void *left, const void *right)
{
    struct item *a = (struct item *)left, *b = (struct item *)right;
    const int names = strcmp(buf_text(&a->name), buf_text(&b->name));

    return names != 0 ? names : (a->order > b->order) - (a->order < b->order);
}

void s3_sign_query(struct buf *out, const struct s3_pair *query, size_t count)
{
    struct item *items = items_new(count);

    for (size_t i = 0; i < count; i++) {
        s3_sign_encode(&items[i].name, query[i].name, false);
        s3_sign_encode(&items[i].value, query[i].value, false);
    }
    /* By what is sent, not by what was meant: '%' sorts before letters. */
    qsort(items, count, sizeof *items, by_name_and_value);
    for (size_t i = 0; i < count; i++)
        buf_printf(out, "%s%s=%s", i > 0 ? "&" : "", buf_text(&items[i].name),
                   buf_text(&items[i].value));
    items_free(items, count);
}

static void append_lower(struct buf *out, const char *name)
{
    for (; *name != '\0'; name++) {
        const char c = (char)tolower((unsigned char)*name);

        buf_append(out, &c, 1);
    }
}

/* Without white space at both ends, and each run of it inside as one space. */
static void append_trimmed(struct buf *out, const char *value)
{
    bool gap = false, begun = false;

    for (; *value != '\0'; value++) {
        if (isspace((unsigned char)*value)) {
            gap = begun;
            continue;
        }
        if (gap)
            buf_append(out, " ", 1);
        buf_append(out, value, 1);
        gap = false;
        begun = true;
    }
}

/* "name:value\n" of each header, repeated ones as "name:first,second\n"; the names, "a;b". */
static void append_headers(const struct s3_sign *sign, struct buf *lines, struct buf *names)
{
    struct item *items = items_new(sign->header_count);

    for (size_t i = 0; i < sign->header_count; i++) {
        items[i].order = i;
        append_lower(&items[i].name, sign->headers[i].name);
        append_trimmed(&items[i].value, sign->headers[i].value);
    }
    qsort(items, sign->header_count, sizeof *items, by_name_and_order);
    for (size_t i = 0; i < sign->header_count; i++) {
        const char *name = buf_text(&items[i].name);
        const bool repeated = i > 0 && strcmp(name, buf_text(&items[i - 1].name)) == 0;

        if (repeated) {
            buf_printf(lines, ",%s", buf_text(&items[i].value));
        } else {
            buf_printf(lines, "%s%s:%s", i > 0 ? "\n" : "", name, buf_text(&items[i].value));
            buf_printf(names, "%s%s", i > 0 ? ";" : "", name);
        }
    }
    buf_append(lines, "\n", 1);
    items_free(items, sign->header_count);
}

static void make_canonical(const struct s3_sign *sign, struct buf *out, struct buf *names)
{
    struct buf lines = {0}, query = {0};

    append_headers(sign, &lines, names);
    s3_sign_query(&query, sign->query, sign->query_count);
    buf_printf(out, "%s\n%s\n%s\n%s\n%s\n%s", sign->method, sign->path, buf_text(&query),
               buf_text(&lines), buf_text(names), sign->payload_sha256);
    buf_release(&lines);
    buf_release(&query);
}

static void make_string_to_sign(const char *when, const char *scope, const struct buf *canonical,
                                struct buf *out)
{
    unsigned char sha[DIGEST_SHA256_BYTES];
    char hex[DIGEST_HEX_CHARS];

    digest_sha256(canonical->data, canonical->bytes, sha);
    digest_hex(sha, hex);
    buf_printf(out, "AWS4-HMAC-SHA256\n%s\n%s\n%s", when, scope, hex);
}

/* kDate, kRegion, kService, kSigning: each step's HMAC is the next one's key. */
static void derive(const struct s3_sign *sign, const char *secret, const char *when,
                   unsigned char key[DIGEST_SHA256_BYTES])
{
    unsigned char step[DIGEST_SHA256_BYTES];
    struct buf seed = {0};

    buf_printf(&seed, "AWS4%s", secret);
    digest_hmac_sha256(seed.data, seed.bytes, when, DAY_CHARS, step);
    digest_hmac_sha256(step, sizeof step, sign->region, strlen(sign->region), key);
    digest_hmac_sha256(key, DIGEST_SHA256_BYTES, sign->service, strlen(sign->service), step);
    digest_hmac_sha256(step, sizeof step, "aws4_request", strlen("aws4_request"), key);
    explicit_bzero(seed.data, seed.bytes);
    explicit_bzero(step, sizeof step);
    buf_release(&seed);
}

static void forget(struct s3_sign_cache *cache)
{
    if (cache->secret != NULL)
        explicit_bzero(cache->secret, strlen(cache->secret));
    explicit_bzero(cache->key, sizeof cache->key);
    free(cache->secret);
    free(cache->scope);
    cache->secret = cache->scope = NULL;
}

void s3_sign_cache_init(struct s3_sign_cache *cache)
{
    *cache = (struct s3_sign_cache){0};
    pthread_mutex_init(&cache->mutex, NULL);
}

void s3_sign_cache_release(struct s3_sign_cache *cache)
{
    forget(cache);
    pthread_mutex_destroy(&cache->mutex);
}

static void signing_key(const struct s3_sign *sign, const char *secret, const char *when,
                        const char *scope, unsigned char key[DIGEST_SHA256_BYTES])
{
    struct s3_sign_cache *const cache = sign->cache;

    if (cache == NULL) {
        derive(sign, secret, when, key);
        return;
    }
    pthread_mutex_lock(&cache->mutex);
    if (cache->scope == NULL || strcmp(cache->scope, scope) != 0 ||
        strcmp(cache->secret, secret) != 0) {
        forget(cache);
        derive(sign, secret, when, cache->key);
        cache->scope = text_copy(scope);
        cache->secret = text_copy(secret);
    }
    memcpy(key, cache->key, DIGEST_SHA256_BYTES);
    pthread_mutex_unlock(&cache->mutex);
}

static void make_signature(const struct s3_sign *sign, const struct s3_keys *keys, const char *when,
                           const char *scope, const struct buf *string_to_sign,
                           char hex[DIGEST_HEX_CHARS])
{
    unsigned char key[DIGEST_SHA256_BYTES], signature[DIGEST_SHA256_BYTES];

    signing_key(sign, keys->secret_key, when, scope, key);
    digest_hmac_sha256(key, sizeof key, string_to_sign->data, string_to_sign->bytes, signature);
    digest_hex(signature, hex);
    explicit_bzero(key, sizeof key);
}

void s3_sign_request(const struct s3_sign *sign, const struct s3_keys *keys, struct buf *canonical,
                     struct buf *string_to_sign, struct buf *authorization)
{
    struct buf request = {0}, names = {0}, scope = {0}, text = {0};
    char when[S3_SIGN_TIME_CHARS], signature[DIGEST_HEX_CHARS];

    assert(sign->path[0] == '/' && keys->access_key != NULL && keys->secret_key != NULL);

    s3_sign_time(sign->time, when);
    buf_printf(&scope, "%.*s/%s/%s/aws4_request", DAY_CHARS, when, sign->region, sign->service);
    make_canonical(sign, &request, &names);
    make_string_to_sign(when, buf_text(&scope), &request, &text);
    make_signature(sign, keys, when, buf_text(&scope), &text, signature);
    if (canonical != NULL)
        buf_append(canonical, request.data, request.bytes);
    if (string_to_sign != NULL)
        buf_append(string_to_sign, text.data, text.bytes);
    if (authorization != NULL)
        buf_printf(authorization,
                   "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s",
                   keys->access_key, buf_text(&scope), buf_text(&names), signature);
    buf_release(&request);
    buf_release(&names);
    buf_release(&scope);
    buf_release(&text);
}
