#include "tests/data/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ftw.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "tests/s3io/fake.h"

#define PAGE 10

struct object {
    char *key;
    unsigned char *data;
    unsigned *reads; /* (bytes) how often each was read */
    size_t bytes;
    unsigned version;
};

struct store {
    struct fake *fake;      /* its lock guards all below */
    struct object *objects; /* sorted by key */
    size_t count;
    enum store_mood mood;
    struct store_stats stats;
    const char *damaged;  /* a part of the keys whose next answers are damaged */
    int damages;          /* how many of them are left */
    int sound;            /* answers before these */
    const char *silenced; /* a part of the keys that get no answer, NULL: none */
    int audible;          /* answers to them before that */
    int unanswered;
};

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct object *)a)->key, ((const struct object *)b)->key);
}

static struct object *find(const struct store *store, const char *key)
{
    const struct object wanted = {.key = (char *)(uintptr_t)key};

    return store->count == 0
               ? NULL
               : bsearch(&wanted, store->objects, store->count, sizeof wanted, by_key);
}

/* A value of the query, its %XX decoded; "" where it is not there. */
static void take_query(const char *request, const char *name, char *value, size_t size)
{
    char pattern[64];
    const char *at;
    size_t n = 0;

    snprintf(pattern, sizeof pattern, "%s=", name);
    at = strstr(request, pattern);
    for (at = at != NULL ? at + strlen(pattern) : ""; *at != '\0' && strchr("& ", *at) == NULL;
         at++) {
        unsigned byte = (unsigned char)*at;

        if (*at == '%' && sscanf(at + 1, "%2x", &byte) == 1)
            at += 2;
        assert_true(n + 1 < size);
        value[n++] = (char)byte;
    }
    value[n] = '\0';
}

static void add_item(struct buf *body, const struct store *store, size_t i, const char *prefix,
                     bool grouped)
{
    const struct object *object = &store->objects[i];
    const char *slash = strchr(object->key + strlen(prefix), '/');

    if (grouped && slash != NULL)
        buf_printf(body, "<CommonPrefixes><Prefix>%.*s</Prefix></CommonPrefixes>",
                   (int)(slash + 1 - object->key), object->key);
    else
        buf_printf(body,
                   "<Contents><Key>%s</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                   "<ETag>\"v%u\"</ETag><Size>%zu</Size></Contents>",
                   object->key, object->version, object->bytes);
}

/* The first object behind what one item of a listing stands for. */
static size_t behind(const struct store *store, size_t i, const char *prefix, bool grouped)
{
    const char *key = store->objects[i].key, *slash = strchr(key + strlen(prefix), '/');

    if (!grouped || slash == NULL)
        return i + 1;
    while (i < store->count && strncmp(store->objects[i].key, key, (size_t)(slash + 1 - key)) == 0)
        i++;
    return i;
}

static void list(struct store *store, const char *request, struct buf *out)
{
    char prefix[256], delimiter[8], token[32];
    struct buf body = {0};
    size_t i, items = 0;

    take_query(request, "&prefix", prefix, sizeof prefix);
    take_query(request, "delimiter", delimiter, sizeof delimiter);
    take_query(request, "continuation-token", token, sizeof token);
    store->stats.lists++;
    buf_printf(&body, "<ListBucketResult><EncodingType>url</EncodingType>");
    for (i = strtoul(token, NULL, 10); i < store->count && items < PAGE;) {
        if (strncmp(store->objects[i].key, prefix, strlen(prefix)) != 0) {
            i++;
            continue;
        }
        add_item(&body, store, i, prefix, delimiter[0] != '\0');
        i = behind(store, i, prefix, delimiter[0] != '\0');
        items++;
    }
    if (i < store->count)
        buf_printf(&body,
                   "<IsTruncated>true</IsTruncated>"
                   "<NextContinuationToken>%zu</NextContinuationToken>",
                   i);
    else
        buf_printf(&body, "<IsTruncated>false</IsTruncated>");
    buf_printf(&body, "</ListBucketResult>");
    fake_reply(out, 200, "", buf_text(&body));
    buf_release(&body);
}

static void get(struct store *store, const char *request, const char *key, struct buf *out)
{
    struct object *object = find(store, key);
    const char *range = strcasestr(request, "\nrange: bytes="),
               *match = strcasestr(request, "\nif-match: ");
    size_t first = 0, last;
    char etag[32];

    store->stats.gets++;
    if (object == NULL) {
        fake_reply(out, 404, "", "<Error><Code>NoSuchKey</Code></Error>");
        return;
    }
    snprintf(etag, sizeof etag, "\"v%u\"", object->version);
    if (object->bytes == 0) {
        char header[64];

        snprintf(header, sizeof header, "ETag: %s\r\n", etag);
        fake_reply(out, 200, header, "");
        return;
    }
    last = object->bytes - 1;
    if (match != NULL && strncmp(match + 11, etag, strlen(etag)) != 0) {
        fake_reply(out, 412, "", "<Error><Code>PreconditionFailed</Code></Error>");
        return;
    }
    if (range != NULL)
        assert_int_equal(sscanf(range + 14, "%zu-%zu", &first, &last), 2);
    last = last < object->bytes ? last : object->bytes - 1;
    if (first > last) {
        fake_reply(out, 416, "", "<Error><Code>InvalidRange</Code></Error>");
        return;
    }
    buf_printf(out,
               "HTTP/1.1 %d x\r\nContent-Length: %zu\r\nConnection: close\r\nETag: %s\r\n"
               "Content-Range: bytes %zu-%zu/%zu\r\n\r\n",
               range != NULL ? 206 : 200, last + 1 - first, etag, first, last, object->bytes);
    buf_append(out, object->data + first, last + 1 - first);
    if (store->damages > 0 && strstr(key, store->damaged) != NULL && store->sound-- <= 0) {
        out->data[out->bytes - (last + 1 - first)] ^= 1;
        store->damages--;
    }
    store->stats.bytes += last + 1 - first;
    for (size_t i = first; i <= last; i++)
        if (++object->reads[i] > store->stats.most)
            store->stats.most = object->reads[i];
}

static void head(struct store *store, const char *key, struct buf *out)
{
    const struct object *const object = find(store, key);

    if (object == NULL)
        buf_printf(out, "HTTP/1.1 404 x\r\nConnection: close\r\n\r\n");
    else
        buf_printf(out,
                   "HTTP/1.1 200 x\r\nContent-Length: %zu\r\nConnection: close\r\n"
                   "ETag: \"v%u\"\r\n\r\n",
                   object->bytes, object->version);
}

/* A key in the request's path, or as a prefix of its query. */
static bool is_silenced(struct store *store, const char *request)
{
    char line[512];

    if (store->silenced == NULL || sscanf(request, "%511[^\r\n]", line) != 1 ||
        strstr(line, store->silenced) == NULL || store->audible-- > 0)
        return false;
    store->unanswered++;
    return true;
}

static void answer(void *context, const char *request, struct buf *out, bool *silent)
{
    struct store *store = context;
    char key[512];

    *silent = store->mood == STORE_SILENT ||
              (store->mood == STORE_ANSWERS && is_silenced(store, request));
    if (store->mood != STORE_ANSWERS || *silent)
        return;
    if (strstr(request, "list-type=2") != NULL)
        list(store, request, out);
    else if (sscanf(request, "HEAD /test/%511[^ ?]", key) == 1)
        head(store, key, out);
    else if (sscanf(request, "GET /test/%511[^ ?]", key) == 1)
        get(store, request, key, out);
    else
        fake_reply(out, 400, "", "<Error><Code>What</Code></Error>");
}

struct store *store_open(void)
{
    struct store *store = calloc(1, sizeof *store);
    char url[64];

    assert_non_null(store);
    store->fake = fake_start("127.0.0.1", 0, answer, store);
    snprintf(url, sizeof url, "http://127.0.0.1:%d", fake_port(store->fake));
    setenv("AWS_ENDPOINT_URL_S3", url, 1);
    setenv("AWS_ACCESS_KEY_ID", "id", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
    setenv("AWS_CONFIG_FILE", "/nonexistent", 1);
    setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent", 1);
    setenv("AWS_MAX_ATTEMPTS", "1", 1);
    setenv("no_proxy", "*", 1);
    return store;
}

void store_close(struct store *store)
{
    fake_stop(store->fake);
    for (size_t i = 0; i < store->count; i++) {
        free(store->objects[i].key);
        free(store->objects[i].data);
        free(store->objects[i].reads);
    }
    free(store->objects);
    free(store);
}

const char *store_uri(const char *prefix)
{
    static char uri[300];

    snprintf(uri, sizeof uri, "s3://test/%s", prefix);
    return uri;
}

void store_put(struct store *store, const char *key, const void *data, size_t bytes)
{
    struct object *object;

    fake_lock(store->fake);
    object = find(store, key);
    if (object == NULL) {
        store->objects = reallocarray(store->objects, store->count + 1, sizeof *store->objects);
        assert_non_null(store->objects);
        store->objects[store->count++] = (struct object){.key = strdup(key)};
        qsort(store->objects, store->count, sizeof *store->objects, by_key);
        object = find(store, key);
    }
    free(object->data);
    free(object->reads);
    object->data = malloc(bytes + 1);
    object->reads = calloc(bytes + 1, sizeof *object->reads);
    assert_true(object->data != NULL && object->reads != NULL);
    memcpy(object->data, data, bytes);
    object->bytes = bytes;
    object->version++;
    fake_unlock(store->fake);
}

/* nftw has no argument for its visitor. */
static struct {
    struct store *store;
    const char *folder, *prefix;
} walk;

static int put_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    struct buf content = {0};
    char key[512];

    (void)stat, (void)ftw;
    if (type != FTW_F)
        return 0;
    snprintf(key, sizeof key, "%s%s", walk.prefix, path + strlen(walk.folder));
    assert_int_equal(file_read(path, 1 << 24, &content, NULL), 0);
    store_put(walk.store, key, content.data, content.bytes);
    buf_release(&content);
    return 0;
}

void store_put_tree(struct store *store, const char *folder, const char *prefix)
{
    walk.store = store;
    walk.folder = folder;
    walk.prefix = prefix;
    assert_int_equal(nftw(folder, put_one, 16, FTW_PHYS), 0);
}

void store_delete(struct store *store, const char *key)
{
    struct object *object;

    fake_lock(store->fake);
    object = find(store, key);
    assert_non_null(object);
    free(object->key);
    free(object->data);
    free(object->reads);
    store->count--;
    memmove(object, object + 1, (size_t)(store->objects + store->count - object) * sizeof *object);
    fake_unlock(store->fake);
}

void store_set_mood(struct store *store, enum store_mood mood)
{
    fake_lock(store->fake);
    store->mood = mood;
    fake_unlock(store->fake);
}

void store_damage(struct store *store, const char *part, int count)
{
    store_damage_later(store, part, 0, count);
}

void store_damage_later(struct store *store, const char *part, int later, int count)
{
    fake_lock(store->fake);
    store->damaged = part;
    store->damages = count;
    store->sound = later;
    fake_unlock(store->fake);
}

void store_silence(struct store *store, const char *part, int later)
{
    fake_lock(store->fake);
    store->silenced = part;
    store->audible = later;
    store->unanswered = 0;
    fake_unlock(store->fake);
}

int store_unanswered(struct store *store)
{
    int count;

    fake_lock(store->fake);
    count = store->unanswered;
    fake_unlock(store->fake);
    return count;
}

void store_take_stats(struct store *store, struct store_stats *stats)
{
    fake_lock(store->fake);
    *stats = store->stats;
    store->stats = (struct store_stats){0};
    for (size_t i = 0; i < store->count; i++)
        memset(store->objects[i].reads, 0, store->objects[i].bytes * sizeof(unsigned));
    fake_unlock(store->fake);
}

int store_requests(struct store *store)
{
    return fake_requests(store->fake);
}
