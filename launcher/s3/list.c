#include "launcher/s3/list.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/err.h"
#include "launcher/s3/key.h"
#include "launcher/s3/parallel.h"
#include "s3io/list.h"
#include "s3io/object.h"

#define TIME_CHARS 32

/* --- ls --- */

struct shown {
    bool json, exact;
    uint64_t count;
};

static void time_text(double modified_s, char text[TIME_CHARS])
{
    const time_t seconds = (time_t)modified_s;
    struct tm tm;

    if (gmtime_r(&seconds, &tm) == NULL ||
        strftime(text, TIME_CHARS, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        snprintf(text, TIME_CHARS, "-");
}

static void print_text(const struct shown *shown, const struct s3_listed *listed)
{
    char when[TIME_CHARS] = "-", bytes[LAUNCH_S3_BYTES_CHARS + 8] = "-";
    struct buf key = {0};

    if (!listed->is_prefix) {
        time_text(listed->modified_s, when);
        if (shown->exact)
            snprintf(bytes, sizeof bytes, "%" PRIu64, listed->bytes);
        else
            launch_s3_meter_bytes(listed->bytes, bytes);
    }
    launch_s3_key_show(listed->key, &key);
    printf("%-20s %*s %s\n", when, shown->exact ? 14 : 9, bytes, buf_text(&key));
    buf_release(&key);
}

/* JSON is UTF-8, and so are S3's keys. A server that lets other bytes pass has them shown in hex.
 */
static json_t *key_json(const char *name, const char *key)
{
    struct buf hex = {0};
    json_t *object = json_object();

    if (launch_s3_key_is_utf8(key)) {
        json_object_set_new(object, name, json_string(key));
        return object;
    }
    for (const char *c = key; *c != '\0'; c++)
        buf_printf(&hex, "%02x", (unsigned char)*c);
    json_object_set_new(object, "key_hex", json_string(buf_text(&hex)));
    buf_release(&hex);
    return object;
}

static void print_json(const struct s3_listed *listed)
{
    json_t *object = key_json(listed->is_prefix ? "prefix" : "key", listed->key);
    char when[TIME_CHARS], etag[S3_ETAG_CHARS];
    const size_t quotes = listed->etag[0] == '"';

    if (!listed->is_prefix) {
        snprintf(etag, sizeof etag, "%s", listed->etag + quotes);
        etag[strcspn(etag, "\"")] = '\0';
        time_text(listed->modified_s, when);
        json_object_set_new(object, "bytes", json_integer((json_int_t)listed->bytes));
        json_object_set_new(object, "etag", json_string(etag));
        json_object_set_new(object, "modified", json_string(when));
    }
    json_dumpf(object, stdout, JSON_COMPACT | JSON_ENSURE_ASCII); /* one line, whatever reads it */
    putchar('\n');
    json_decref(object);
}

static int stdout_state(struct err *err)
{
    if (!ferror(stdout))
        return 0;
    if (errno == EPIPE)
        return err_set(err, ERR_STOPPED, "nobody reads stdout any more");
    return err_set_errno(err, ERR_IO, errno, "cannot write to stdout");
}

static int show(void *context, const struct s3_listed *listed, struct err *err)
{
    struct shown *const shown = context;

    shown->count++;
    if (shown->json)
        print_json(listed);
    else
        print_text(shown, listed);
    return stdout_state(err);
}

int launch_s3_ls(const struct launch_s3 *s3, struct err *err)
{
    struct shown shown = {.json = option_flag(s3->options, "json"),
                          .exact = option_flag(s3->options, "bytes")};
    struct uri uri = {0};
    int rc = -1;

    if (s3->words->count != 1)
        return err_set(err, ERR_USAGE, "ls needs one s3://BUCKET/PREFIX; it does not list buckets");
    if (launch_s3_uri_parse(&uri, s3->words->at[0], err) < 0)
        goto out;
    rc = s3_list(s3->client, uri.bucket, uri.path, !option_flag(s3->options, "recursive"), show,
                 &shown, err);
    if (rc == 0 && (fflush(stdout) != 0 || ferror(stdout)))
        rc = stdout_state(err);
    if (rc == 0 && shown.count == 0 && uri.path[0] != '\0')
        rc = err_set(err, ERR_INPUT, "'%s': no key begins so", s3->words->at[0]);
out:
    uri_release(&uri);
    return rc;
}

/* --- rm --- */

struct removal {
    const struct launch_s3 *s3;
    const char *bucket;
    struct launch_words keys;
};

static int collect(void *context, const struct s3_listed *listed, struct err *err)
{
    struct removal *const removal = context;

    (void)err;
    launch_words_push(&removal->keys, listed->key);
    return 0;
}

static int remove_one(void *context, size_t index, struct err *err)
{
    struct removal *const removal = context;

    if (s3_object_delete(removal->s3->client, removal->bucket, removal->keys.at[index], err) < 0)
        return -1;
    launch_s3_meter_object(removal->s3->meter);
    return 0;
}

static int remove_folder(struct removal *removal, const char *folder, const char *text,
                         struct err *err)
{
    char *const prefix = launch_s3_folder_prefix(folder);
    int rc = s3_list(removal->s3->client, removal->bucket, prefix, false, collect, removal, err);

    free(prefix);
    if (rc == 0 && removal->keys.count == 0)
        rc = err_set(err, ERR_INPUT, "'%s': there is nothing in this folder", text);
    if (rc < 0)
        return -1;
    launch_s3_meter_expect(removal->s3->meter, removal->keys.count, 0);
    return launch_s3_parallel_run(&(struct launch_parallel){.count = removal->keys.count,
                                                            .threads = LAUNCH_S3_OBJECTS_AT_ONCE,
                                                            .work = remove_one,
                                                            .context = removal,
                                                            .cancel = removal->s3->cancel},
                                  err);
}

/* S3 deletes what is not there without a word, so it is looked for first. Who may delete but not
 * read gets an error there; deleting then tells the truth. */
static int remove_key(struct removal *removal, const char *key, struct err *err)
{
    struct s3_object object;
    struct err ignored = {0};
    const int found = s3_object_head(removal->s3->client, removal->bucket, key, &object, &ignored);

    if (found == S3_NO)
        return s3_object_missing(removal->bucket, key, err);
    if (found < 0 && ignored.code != ERR_INPUT) {
        *err = ignored;
        return -1;
    }
    launch_words_push(&removal->keys, key);
    return remove_one(removal, 0, err);
}

int launch_s3_rm(const struct launch_s3 *s3, struct err *err)
{
    const bool recursive = option_flag(s3->options, "recursive");
    const char *const text = s3->words->count == 1 ? s3->words->at[0] : NULL;
    struct removal removal = {.s3 = s3};
    struct uri uri = {0};
    int rc = -1;

    if (text == NULL)
        return err_set(err, ERR_USAGE, "rm needs one s3://BUCKET/KEY");
    if (launch_s3_uri_parse(&uri, text, err) < 0)
        goto out;
    removal.bucket = uri.bucket;
    if (recursive)
        rc = remove_folder(&removal, uri.path, text, err);
    else if (uri.path[0] == '\0')
        rc = err_set(err, ERR_USAGE,
                     "'%s' has no key; --recursive would delete all that is in the bucket", text);
    else
        rc = remove_key(&removal, uri.path, err);
out:
    launch_words_release(&removal.keys);
    uri_release(&uri);
    return rc;
}
