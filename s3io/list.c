#include "s3io/list.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "base/uri.h"
#include "s3io/address.h"
#include "s3io/date.h"
#include "s3io/object.h"
#include "s3io/request.h"
#include "s3io/xml.h"

struct entry {
    struct s3_listed listed;
    char *key, *etag;
};

#define PAGE_READS_MAX 3

struct page {
    struct entry *entries; /* the last one (entries[count]) is being filled */
    size_t count, capacity;
    struct buf next; /* NextContinuationToken */
    bool truncated;
};

static void entry_clear(struct entry *entry)
{
    free(entry->key);
    free(entry->etag);
    *entry = (struct entry){0};
}

static void page_clear(struct page *page)
{
    for (size_t i = 0; i <= page->count && i < page->capacity; i++)
        entry_clear(&page->entries[i]);
    page->count = 0;
    page->truncated = false;
    page->next.bytes = 0;
}

static struct entry *page_last(struct page *page)
{
    if (page->count == page->capacity) {
        const size_t capacity = page->capacity == 0 ? 64 : page->capacity * 2;
        struct entry *entries = realloc(page->entries, capacity * sizeof *entries);

        if (entries == NULL)
            abort();
        memset(entries + page->capacity, 0, (capacity - page->capacity) * sizeof *entries);
        page->entries = entries;
        page->capacity = capacity;
    }
    return &page->entries[page->count];
}

/* encoding-type=url: as in a form, so that '+' may stand for a blank (AWS) beside %20 (others).
 * NULL: an escape that is none, or a NUL. */
static char *decode(const char *text)
{
    char *out = text_copy(text);

    for (char *at = strchr(out, '+'); at != NULL; at = strchr(at, '+'))
        *at = ' ';
    if (uri_decode(out))
        return out;
    free(out);
    return NULL;
}

static int take_key(struct page *page, const char *text, struct err *err)
{
    struct entry *entry = page_last(page);

    free(entry->key);
    entry->key = decode(text);
    if (entry->key == NULL)
        return err_set(err, ERR_NET, "a key in the listing is not encoded as it should be: '%s'",
                       text);
    return 0;
}

static int take_bytes(struct page *page, const char *text, struct err *err)
{
    if (!text_number(text, &page_last(page)->listed.bytes))
        return err_set(err, ERR_NET, "the listing has '%s' in a size's place", text);
    return 0;
}

static int take_entry(struct page *page, bool is_prefix, struct err *err)
{
    struct entry *entry = page_last(page);

    if (entry->key == NULL)
        return err_set(err, ERR_NET, "the listing has an entry without a key");
    if (entry->etag == NULL)
        entry->etag = text_copy("");
    entry->listed.key = entry->key;
    entry->listed.etag = entry->etag;
    entry->listed.is_prefix = is_prefix;
    page->count++;
    return 0;
}

static int take(void *context, const char *path, const char *text, struct err *err)
{
    struct page *page = context;
    const char *name = strchr(path, '/');

    name = name == NULL ? "" : name + 1;
    if (strcmp(name, "Contents/Key") == 0 || strcmp(name, "CommonPrefixes/Prefix") == 0)
        return take_key(page, text, err);
    if (strcmp(name, "Contents/Size") == 0)
        return take_bytes(page, text, err);
    if (strcmp(name, "Contents/ETag") == 0) {
        free(page_last(page)->etag);
        page->entries[page->count].etag = text_copy(text);
    } else if (strcmp(name, "Contents/LastModified") == 0) {
        page_last(page)->listed.modified_s = s3_date_iso(text);
    } else if (strcmp(name, "Contents") == 0 || strcmp(name, "CommonPrefixes") == 0) {
        return take_entry(page, name[2] == 'm', err);
    } else if (strcmp(name, "IsTruncated") == 0) {
        page->truncated = strcmp(text, "true") == 0;
        if (!page->truncated && strcmp(text, "false") != 0)
            return err_set(err, ERR_NET, "the listing has '%s' in IsTruncated's place", text);
    } else if (strcmp(name, "NextContinuationToken") == 0) {
        page->next.bytes = 0;
        buf_append(&page->next, text, strlen(text));
    }
    return 0;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->key, ((const struct entry *)b)->key);
}

/* Callers count on it when they take a key apart. */
static int page_check(const struct page *page, const char *prefix, struct err *err)
{
    const size_t bytes = strlen(prefix);

    for (size_t i = 0; i < page->count; i++)
        if (strncmp(page->entries[i].key, prefix, bytes) != 0)
            return err_set(err, ERR_INPUT,
                           "the listing has the key '%.200s', which does not begin so: is this an "
                           "S3 endpoint?",
                           page->entries[i].key);
    return 0;
}

/* What came is a listing; whether it makes sense. */
static int page_read(struct page *page, const struct buf *body, const char *prefix,
                     const char *token, struct err *err)
{
    if (s3_xml_read(body->data, body->bytes, take, page, err) < 0)
        return -1;
    if (page->truncated &&
        (page->next.bytes == 0 || (token != NULL && strcmp(token, buf_text(&page->next)) == 0)))
        return err_set(err, ERR_NET, "the listing goes on, but does not say from where");
    return page_check(page, prefix, err);
}

/* One page: asked for and read whole before anybody sees a key of it. A listing has no checksum:
 * one that makes no sense may have been changed on the way, and is asked for again. */
static int page_fetch(struct page *page, struct s3_client *client, const char *bucket,
                      const char *prefix, bool delimiter, const char *token, struct err *err)
{
    struct s3_pair query[6] = {
        {"list-type", "2"}, {"encoding-type", "url"}, {"max-keys", "1000"}, {"prefix", prefix}};
    struct s3_request request = {.method = "GET",
                                 .bucket = bucket,
                                 .query = query,
                                 .query_count = 4,
                                 .permission = "s3:ListBucket",
                                 .root = "ListBucketResult"};
    int status = 200, rc = -1;

    if (delimiter)
        query[request.query_count++] = (struct s3_pair){"delimiter", "/"};
    if (token != NULL)
        query[request.query_count++] = (struct s3_pair){"continuation-token", token};
    for (int reads = 0; reads < PAGE_READS_MAX && rc < 0 && status / 100 == 2; reads++) {
        struct s3_tries tries = {0};

        page_clear(page);
        status = s3_request_send(client, &request, &tries, err);
        if (status / 100 == 2)
            rc = page_read(page, &tries.answer.body, prefix, token, err);
        else if (status > 0)
            s3_request_fail(client, &request, &tries, err);
        s3_tries_release(&tries);
    }
    return rc;
}

int s3_list(struct s3_client *client, const char *bucket, const char *prefix, bool delimiter,
            s3_list_visit *visit, void *context, struct err *err)
{
    struct page page = {0};
    char *token = NULL;
    int rc = 0;

    do {
        if (page_fetch(&page, client, bucket, prefix, delimiter, token, err) < 0) {
            rc = err_wrap(err, "cannot list '%s'", s3_address_name(bucket, prefix).text);
            break;
        }
        /* A page has keys and prefixes apart, each in order. */
        if (page.count > 1)
            qsort(page.entries, page.count, sizeof *page.entries, by_key);
        for (size_t i = 0; i < page.count && rc == 0; i++)
            rc = visit(context, &page.entries[i].listed, err);
        free(token);
        token = page.truncated ? text_copy(buf_text(&page.next)) : NULL;
    } while (rc == 0 && token != NULL);
    page_clear(&page);
    free(page.entries);
    buf_release(&page.next);
    free(token);
    return rc;
}
